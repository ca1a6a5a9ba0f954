"""Which of two computations is faster, on a machine that may be busy with others."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

_FEWEST, _ENOUGH, _MOST = 3, 12, 200
_PATIENCE, _LIMIT = 0.06, 0.3
"""Seconds after which the best of enough runs has to do, and of however many there were."""
_LONG, _MOST_REPEATS = 0.01, 100
"""Seconds that a run should take so that what starts and ends it does not count, and how often it is repeated at most.
"""
_AHEAD = 1.5
"""How many times as fast as its rival ours is where no more runs are needed."""


def clock() -> float:
    """Seconds; tests put another in its place."""
    return time.perf_counter()


def repeats(run: Callable[[], object]) -> int:
    """How often something has to be computed to make a run that is worth timing. Runs it twice."""
    run()
    start = clock()
    run()
    return max(1, min(_MOST_REPEATS, int(_LONG / max(clock() - start, 1e-9))))


def race(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """Seconds of each, the least of several runs in turn: what is in the way of a run only ever makes it longer.

    Runs each once before that. Ours is not said to be behind until patience is at an end: a machine that is busy now
    should not decide what is used from now on.
    """
    runs = (ours, theirs)
    for run in runs:
        run()
    best, spent = [math.inf, math.inf], 0.0
    for finished in range(1, _MOST + 1):
        # Neither always finds the memory as the other left it.
        for which in (0, 1) if finished % 2 else (1, 0):
            start = clock()
            runs[which]()
            elapsed = clock() - start
            best[which] = min(best[which], elapsed)
            spent += elapsed
        if finished >= _FEWEST and best[1] > _AHEAD * best[0]:
            break
        if spent > (_PATIENCE if finished >= _ENOUGH else _LIMIT):
            break
    return best[0], best[1]
