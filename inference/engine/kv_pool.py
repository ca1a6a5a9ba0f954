"""How many blocks the KV pool gets.

The pool is allocated once, at its full size: a cache that can't grow can't take the machine down with it. A block holds
K and V of `block_size` tokens for every layer: 2 * layers * P * H * D * itemsize bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx

from inference.errors import ConfigError
from inference.machine import available_memory
from inference.protocol import EngineConfig

SHARE = 0.25
"""Of the memory that is free once the weights are loaded, the pool takes no more than this by itself."""
COMFORT = 4096
"""Tokens per request that are thought enough when the pool sizes itself: more room is rarely used and costs memory."""


@dataclass(frozen=True, slots=True)
class PoolSize:
    num_blocks: int
    reason: str
    """Why this many, as a phrase for the user; empty if that many were asked for."""


def choose_size(
    config: EngineConfig, bytes_per_token: int, max_model_len: int, free: Callable[[], int] | None = None
) -> PoolSize:
    """The number of blocks for this configuration. `free` tells the free memory in bytes (for tests).

    Raises ConfigError if what was asked for, or the least that makes sense, does not fit in memory.
    """
    available = (free or free_memory)()
    block_bytes = bytes_per_token * config.block_size
    if config.num_kv_blocks:
        wanted = config.num_kv_blocks * block_bytes
        if wanted > available:
            raise ConfigError(
                f"num_kv_blocks is {config.num_kv_blocks}, which takes {gibibytes(wanted)}, but only "
                f"{gibibytes(available)} of memory are free: {available // block_bytes} blocks would fit"
            )
        return PoolSize(config.num_kv_blocks, "")
    length = min(max_model_len, max(COMFORT, max_model_len // config.max_num_seqs))
    comfortable = config.max_num_seqs * -(-length // config.block_size)
    affordable = int(available * SHARE) // block_bytes
    if affordable < 1:
        raise ConfigError(
            f"one block of KV cache takes {gibibytes(block_bytes)}, but only {gibibytes(available)} of memory are "
            "free: lower block_size, choose a smaller model or close other programs"
        )
    if comfortable <= affordable:
        return PoolSize(comfortable, f"room for {config.max_num_seqs} requests of {length} tokens")
    return PoolSize(affordable, f"{SHARE:.0%} of the {gibibytes(available)} of memory that are free")


def check_change(tokens: int, before: int, after: int, free: Callable[[], int] | None = None) -> None:
    """Raise ConfigError if a pool of so many tokens has no room to go from `before` bytes a token to `after`."""
    more, available = tokens * (after - before), (free or free_memory)()
    if more > available:
        raise ConfigError(
            f"the KV pool would take {gibibytes(more)} more, but only {gibibytes(available)} of memory are free: keep "
            "a smaller kv_cache_dtype, or restart with a lower num_kv_blocks"
        )


def free_memory() -> int:
    """Bytes that may still be allocated: on a GPU what Metal recommends, else what the system can give."""
    if mx.metal.is_available():
        limit = mx.device_info()["max_recommended_working_set_size"]
        return max(0, int(limit) - mx.get_active_memory())
    return available_memory()


def gibibytes(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
