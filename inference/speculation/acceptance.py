"""How often drafts were right, by their place in the draft."""

from __future__ import annotations

from collections.abc import Sequence

MEMORY = 200
"""Verifications after which what was seen counts about a third."""
PRIOR, WEIGHT = 0.6, 4.0
"""Where little was seen yet: a rate as seen elsewhere, worth so many tokens."""


class Acceptance:
    """The rate at each place: of the drafts that reached it, how many were accepted there. Old ones fade."""

    def __init__(self) -> None:
        self._reached: list[float] = []
        self._accepted: list[float] = []

    def observe(self, judged: int, accepted: int) -> None:
        """Of one request's draft the first `judged` tokens were compared; the first `accepted` of them were right."""
        places = max(len(self._reached), judged)
        self._reached += [0.0] * (places - len(self._reached))
        self._accepted += [0.0] * (places - len(self._accepted))
        for place in range(judged):
            fade = 1 - 1 / MEMORY
            self._reached[place] = self._reached[place] * fade + 1
            self._accepted[place] = self._accepted[place] * fade + (place < accepted)

    def rates(self, depth: int) -> tuple[float, ...]:
        """Of the first `depth` places. One that was hardly ever reached is taken to be like the one before it."""
        found: list[float] = []
        expected = PRIOR
        for place in range(depth):
            reached = self._reached[place] if place < len(self._reached) else 0.0
            accepted = self._accepted[place] if reached else 0.0
            expected = (accepted + WEIGHT * expected) / (reached + WEIGHT)
            found.append(expected)
        return tuple(found)


def tokens_expected(rates: Sequence[float]) -> float:
    """That a verification of so many drafts gives: one, and those before the first rejection."""
    expected = reached = 1.0
    for rate in rates:
        reached *= rate
        expected += reached
    return expected
