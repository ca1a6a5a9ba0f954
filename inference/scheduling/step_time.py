"""How long a step takes, learned from steps that were taken."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inference.errors import ConfigError

Features = tuple[float, float, float, float]
"""Of a step: 1, prefill tokens, decode tokens, and keys that are looked at (in thousands)."""


def features(parts: Iterable[tuple[int, int, bool]]) -> Features:
    """What a step's time depends on; each part is tokens, tokens before them, and whether it is prefill."""
    prefill = decode = keys = 0.0
    for tokens, before, is_prefill in parts:
        if is_prefill:
            prefill += tokens
        else:
            decode += tokens
        keys += tokens * (before + (tokens + 1) / 2)
    return 1.0, prefill, decode, keys / 1000


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of a step: a part for every step, for each prefill and decode token, and for the keys looked at."""

    parts: Features

    def of(self, step: Features) -> float:
        return sum(part * amount for part, amount in zip(self.parts, step, strict=True))

    @classmethod
    def fit(cls, steps: Sequence[tuple[Features, float]]) -> StepTime:
        """Least squares of the relative error, with no negative part.

        Relative, so that the many short steps count as much as the few long ones. Raises ConfigError without steps.
        """
        if not steps:
            raise ConfigError("the recording has no steps to learn a step's time from: record an answer first")
        rows = [(tuple(x / seconds for x in step), 1.0) for step, seconds in steps if seconds > 0]
        # Each part by its own size, or one that is thousands of tokens would drown another that is a few.
        sizes = [math.sqrt(sum(row[i] * row[i] for row, _ in rows)) for i in range(4)]
        used = [i for i in range(4) if sizes[i]]
        while True:
            scaled = _solve([([row[i] / sizes[i] for i in used], target) for row, target in rows])
            found = [part / sizes[i] for i, part in zip(used, scaled, strict=True)]
            negative = [i for i, part in zip(used, found, strict=True) if part < 0]
            if not negative:
                by_place = dict(zip(used, found, strict=True))
                a, b, c, d = (by_place.get(i, 0.0) for i in range(4))
                return cls((a, b, c, d))
            # The worst is left out and the others fitted again, as in active-set methods.
            used.remove(min(zip(scaled, used, strict=True))[1])


def _solve(rows: Sequence[tuple[Sequence[float], float]]) -> list[float]:
    """The normal equations, by elimination with pivots. Where parts can't be told apart, each gets some."""
    size = len(rows[0][0])
    matrix = [[sum(r[i] * r[j] for r, _ in rows) for j in range(size)] for i in range(size)]
    right = [sum(r[i] * target for r, target in rows) for i in range(size)]
    scale = max(matrix[i][i] for i in range(size))
    for i in range(size):
        matrix[i][i] += 1e-9 * scale
    for i in range(size):
        pivot = max(range(i, size), key=lambda k: abs(matrix[k][i]))
        matrix[i], matrix[pivot], right[i], right[pivot] = matrix[pivot], matrix[i], right[pivot], right[i]
        for k in range(i + 1, size):
            factor = matrix[k][i] / matrix[i][i]
            right[k] -= factor * right[i]
            for j in range(i, size):
                matrix[k][j] -= factor * matrix[i][j]
    found = [0.0] * size
    for i in reversed(range(size)):
        found[i] = (right[i] - sum(matrix[i][j] * found[j] for j in range(i + 1, size))) / matrix[i][i]
    return found
