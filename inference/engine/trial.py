"""After a step has failed: finding out whose fault it was, so that nobody else pays for it.

A failed forward pass says nothing about which request of the batch broke it, and leaves the KV pool in doubt. So all
requests leave the scheduler, keeping their output. Those of the failed batch are computed again one at a time: the one
that fails alone is the culprit, the others are cleared by their next token. Then all that are left go back in their
order of arrival.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from inference.engine.generation import Generation


class Trial:
    """The requests outside the scheduler while a trial goes on. None does in normal life."""

    def __init__(self) -> None:
        self._suspects: deque[Generation] = deque()
        self._parked: list[Generation] = []

    @property
    def active(self) -> bool:
        return bool(self._suspects or self._parked)

    def __iter__(self) -> Iterator[Generation]:
        """All that wait here."""
        yield from self._suspects
        yield from self._parked

    def suspect(self, generations: Iterable[Generation]) -> None:
        self._suspects += generations

    def park(self, generation: Generation) -> None:
        """It waits for the end of the trial: cleared, never suspected, or just arrived."""
        self._parked.append(generation)

    def remove(self, generation: Generation) -> None:
        if generation in self._suspects:
            self._suspects.remove(generation)
        elif generation in self._parked:
            self._parked.remove(generation)

    def next(self) -> list[Generation]:
        """Who goes into the empty scheduler now: the next suspect, or at the end everyone."""
        if self._suspects:
            return [self._suspects.popleft()]
        everyone = sorted(self._parked, key=lambda generation: generation.arrived)
        self._parked.clear()
        return everyone
