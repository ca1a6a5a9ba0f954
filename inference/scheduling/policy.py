"""Who goes first where not all can: the order in which requests are admitted and given tokens.

A policy never decides who is preempted: that is always the latest arrival. So whatever the order, the earliest running
request makes progress, and two requests can't take each other's blocks in turns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from inference.scheduling.request import Request

Key = Callable[[Request], tuple[int, ...]]
"""Requests with smaller keys go first. Arrival is always the last part, so that no two are equal."""


class Shares:
    """Tokens that each session has been given, as counters that forget who was away.

    A session that comes back, or is new, starts at the least of those that are there: it has saved up nothing (the
    virtual token counter of Sheng et al. 2024, "Fairness in serving large language models").
    """

    def __init__(self) -> None:
        self._given: Counter[str] = Counter()
        self._live: Counter[str] = Counter()

    def arrive(self, session: str) -> None:
        if not self._live[session]:
            others = [self._given[name] for name, count in self._live.items() if count]
            self._given[session] = max(self._given[session], min(others, default=0))
        self._live[session] += 1

    def leave(self, session: str) -> None:
        self._live[session] -= 1
        if not any(self._live.values()):
            self._given.clear()
            self._live.clear()

    def give(self, session: str, tokens: int) -> None:
        self._given[session] += tokens

    def given(self, session: str) -> int:
        return self._given[session]


def _first_come(shares: Shares) -> Key:
    return lambda request: (request.arrival,)


def _shortest(shares: Shares) -> Key:
    return lambda request: (request.num_uncomputed_tokens, request.arrival)


def _priority(shares: Shares) -> Key:
    return lambda request: (request.priority, request.arrival)


def _fair(shares: Shares) -> Key:
    return lambda request: (shares.given(request.session), request.arrival)


POLICIES: Mapping[str, Callable[[Shares], Key]] = {
    "fcfs": _first_come,
    "shortest": _shortest,
    "priority": _priority,
    "fair": _fair,
}


def ordered(requests: Iterable[Request], policy: str, shares: Shares) -> list[Request]:
    """Requests, given in the order in which they arrived, in that of a policy."""
    return list(requests) if policy == "fcfs" else sorted(requests, key=POLICIES[policy](shares))
