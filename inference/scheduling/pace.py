"""How much prefill goes beside decodes, so that nobody who is being answered waits too long for the next token.

A step takes as long as all that is in it, and so whoever decodes waits for others' prompts. Chunks bound that wait by
the token budget (Agrawal et al. 2024, "Sarathi-Serve"), but how long a token takes depends on model and machine. So the
engine learns it from its own steps, and gives prefill the time that is left instead of a number of tokens.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from inference.protocol import Scheduled
from inference.scheduling.request import Request
from inference.scheduling.step_time import Features, StepTime, features

REMEMBERED = 96
"""Steps of either kind, with prefill and without, that are learned from."""
ANEW = 8
"""Steps after which what was learned is looked over; sooner while little is known."""
MARGIN = 0.9
"""Of the time that prefill may take, what is given to it: estimates err on both sides."""


def prefill_within(
    step_time: StepTime, slowdown: int, decoding: Sequence[Request], prefilling: Sequence[Request]
) -> int | None:
    """Most prefill tokens in a step that shall take at most `slowdown` times as long as `decoding` alone.

    At least one, so that every prompt is read in the end. None for any number: nobody decodes, or `slowdown` is 0.
    """
    if not slowdown or not decoding:
        return None
    alone = step_time.of(features((1, r.num_computed_tokens, False) for r in decoding))
    behind = max((r.num_computed_tokens for r in prefilling), default=0)
    first, more = step_time.of((0.0, 1.0, 0.0, behind / 1000)), step_time.of((0.0, 0.0, 0.0, 1 / 1000))
    if first <= 0:
        return None
    # n tokens look at the keys before them and at each other: first * n + more * n^2 / 2 is the time that there is.
    room = MARGIN * (slowdown - 1) * alone
    return max(1, int(2 * room / (first + math.sqrt(first * first + 2 * more * room))))


class Pacing(Protocol):
    """Says how much prefill the next step may have."""

    def observe(self, scheduled: Sequence[Scheduled], seconds: float) -> None:
        """A step was taken."""

    def forget(self) -> None:
        """Steps will take another time from now on."""

    def prefill(self, slowdown: int, decoding: Sequence[Request], prefilling: Sequence[Request]) -> int | None:
        """Most prefill tokens of a step with `decoding` in it; None for any number."""


@dataclass
class Dictated:
    """Says what a recording says, whatever time steps take now."""

    pace: int | None = None

    def observe(self, scheduled: Sequence[Scheduled], seconds: float) -> None:
        pass

    def forget(self) -> None:
        pass

    def prefill(self, slowdown: int, decoding: Sequence[Request], prefilling: Sequence[Request]) -> int | None:
        return self.pace


class Pace:
    """What an engine's latest steps say of the next one's time."""

    def __init__(self) -> None:
        self._decodes: deque[tuple[Features, float]] = deque(maxlen=REMEMBERED)
        self._prefills: deque[tuple[Features, float]] = deque(maxlen=REMEMBERED)
        self._learned: StepTime | None = None
        self._since = 0

    def observe(self, scheduled: Sequence[Scheduled], seconds: float) -> None:
        if scheduled:
            with_prefill = any(s.is_prefill for s in scheduled)
            step = features((s.num_tokens, s.num_computed, s.is_prefill) for s in scheduled)
            (self._prefills if with_prefill else self._decodes).append((step, seconds))
            self._since += 1

    def forget(self) -> None:
        self._decodes.clear()
        self._prefills.clear()
        self._learned = None

    def prefill(self, slowdown: int, decoding: Sequence[Request], prefilling: Sequence[Request]) -> int | None:
        """None, too, as long as too little is known."""
        if not slowdown or not decoding or not self._decodes or not self._prefills:
            return None
        if self._learned is None or self._since >= min(ANEW, len(self._prefills)):
            self._learned, self._since = StepTime.fit([*self._decodes, *self._prefills]), 0
        return prefill_within(self._learned, slowdown, decoding, prefilling)
