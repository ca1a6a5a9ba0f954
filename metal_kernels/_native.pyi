"""The compiled module: bindings.cpp."""

from collections.abc import Sequence

import mlx.core as mx

built_for: str
"""The version of MLX whose headers it was compiled with."""
runs_on: str
"""The version of MLX's library in this process."""

def smoke(x: mx.array) -> mx.array:
    """`x + 1`: proves that arrays can be passed in both directions."""

def level() -> str:
    """The instruction set in force. $GLASSCHAT_CPU names a lower one than the processor's best."""

def supported_levels() -> list[str]:
    """Instruction sets of this processor, the plainest first; each includes those before it."""

def set_level(name: str) -> None:
    """Raises ValueError where `name` is none of `supported_levels()`."""

def threads() -> int:
    """Threads that kernels run on, the calling one included; $GLASSCHAT_THREADS sets them."""

def set_threads(count: int) -> None:
    """Waits for a kernel that runs now. Raises ValueError outside of 1 to 1024."""
