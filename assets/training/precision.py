"""The type in which matrices are multiplied: bfloat16 where the processor has instructions for it."""

import time
from functools import cache

import torch

SIZE = 512
TRIES = 5


@cache
def product_type() -> torch.dtype:
    """The faster of bfloat16 and float32 here. Where it is only emulated, bfloat16 takes over 20 times as long."""
    if torch.cuda.is_available():
        return torch.bfloat16
    return min((torch.bfloat16, torch.float32), key=_seconds)


def rounds_products() -> bool:
    """Whether what is multiplied is rounded to bfloat16."""
    return product_type() is torch.bfloat16


def _seconds(dtype: torch.dtype) -> float:
    """The shortest of some multiplications."""
    left, right = torch.ones(SIZE, SIZE, dtype=dtype), torch.ones(SIZE, SIZE, dtype=dtype)
    times = []
    for _ in range(TRIES):
        start = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - start)
    return min(times)
