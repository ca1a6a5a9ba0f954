"""Flash or plain attention: which of the table's implementations each word means, and which of both is in force.

Flash (Dao et al. 2022, "FlashAttention") goes through the keys in pieces and keeps no matrix of scores; plain computes
all scores, then their softmax, then the sum of values, as textbooks do.
"""

from __future__ import annotations

import mlx.core as mx

from inference.ops.table import OPERATIONS, OpChoice, OpTable

ATTENTION = "paged_attention"


def spelled(kernels: str, attention: str) -> str:
    """A `kernels` value that has the attention that is asked for; auto leaves it to `kernels`."""
    if attention == "auto":
        return kernels
    ours = "native" in OPERATIONS[ATTENTION].implementations
    implementation = "reference" if attention == "plain" else "native" if ours else "mlx"
    return f"{kernels},{ATTENTION}={implementation}"  # the last word on an operation counts


def in_force(ops: OpTable, attention: str) -> tuple[str, str]:
    """Flash or plain, and why, if that is not what was asked for."""
    choice = next(choice for choice in ops.choices() if choice.operation == ATTENTION)
    found = "flash" if _is_flash(choice) else "plain"
    if attention == found:
        return found, ""
    return found, _who(choice) if attention == "auto" else f"{_who(choice)}; {choice.reason}"


def _is_flash(choice: OpChoice) -> bool:
    return choice.implementation == "native" or (choice.implementation == "mlx" and _mlx_is_fused())


def _mlx_is_fused() -> bool:
    """MLX's own attention keeps no scores on a GPU; on a CPU it is made of its ordinary operations."""
    return mx.default_device() == mx.gpu


def _who(choice: OpChoice) -> str:
    match choice.implementation:
        case "native":
            return "our own kernel, by what kernels says"
        case "mlx" if _mlx_is_fused():
            return "MLX's kernel, by what kernels says"
        case "mlx":
            return "MLX's, which computes all scores at once on a CPU"
        case _:
            return "the reference, by what kernels says"
