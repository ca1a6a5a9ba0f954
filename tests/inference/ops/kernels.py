"""Kernels made wrong or slow on purpose, on a machine where nothing was found out yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference.ops import stopwatch, variants
from inference.ops.cases import STEPS
from inference.ops.table import OPERATIONS


class Machine:
    """One with a clock of its own, on which each computation takes a moment, and an empty cache."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        self._monkeypatch = monkeypatch
        self.cache = cache
        self.now = 0.0
        monkeypatch.setenv("GLASSCHAT_CACHE", str(cache))
        monkeypatch.setattr(stopwatch, "clock", self._clock)
        monkeypatch.setattr(variants, "RACED", STEPS)  # the least work: what it takes is made up

    def _clock(self) -> float:
        self.now += 0.01
        return self.now

    def replace(self, operation: str, kernel: Callable[..., Any], implementation: str = "native") -> None:
        """Put a kernel in the place of another; `kernel` is given that first, then the arguments."""
        honest = OPERATIONS[operation].implementations[implementation]

        def replaced(*arguments: Any, **options: Any) -> Any:
            return kernel(honest, *arguments, **options)

        implementations = {**OPERATIONS[operation].implementations, implementation: replaced}
        self._monkeypatch.setitem(
            OPERATIONS, operation, replace(OPERATIONS[operation], implementations=implementations)
        )  # type: ignore[arg-type]

    def slow_down(self, operation: str, seconds: float, implementation: str = "native") -> None:
        """Make each call of a kernel take longer."""

        def slow(honest: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            self.now += seconds
            return honest(*arguments, **options)

        self.replace(operation, slow, implementation)

    def break_kernel(self, operation: str) -> None:
        """Make a kernel's results wrong, by so little that a chat would go on and talk nonsense."""

        def wrong(honest: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            if operation == "write_kv":
                kv, layer, keys, values, layout = arguments
                return honest(kv, layer, keys * 1.2, values, layout)
            right = honest(*arguments, **options)
            if operation == "add_rms_norm":
                normed, total = right
                return normed, total * 1.2
            return right // 2 if operation in ("largest", "greedy", "draw") else right * 1.2

        self.replace(operation, wrong)
