"""Where the time of a step goes."""

from __future__ import annotations

import time


class Clock:
    """Cuts a step's time into phases."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.laps[phase] = now - self._last
        self._last = now
