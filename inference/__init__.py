"""An LLM engine that can be seen through: Qwen2 on MLX arrays, for many requests in one batch.

The three names that most users need are here, and are imported when first used: the app imports this package too, and
must start without MLX.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.llm import LLM
    from inference.protocol import EngineConfig, SamplingParams

__all__ = ["LLM", "EngineConfig", "SamplingParams"]


def __getattr__(name: str) -> Any:
    if name == "LLM":
        from inference.llm import LLM

        return LLM
    if name in __all__:
        from inference import protocol

        return getattr(protocol, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
