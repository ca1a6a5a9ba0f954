"""Before and after on the live load: the steps just before options changed beside those just after it.

Only steps of like batches are compared: as many decodes, and prefill and context of the same size to a factor of two.
The ratio is the median of all ratios of a step after to a like one before, and its interval is what the rank sum test
leaves possible (Hodges and Lehmann 1963, "Estimates of location based on rank tests"; kinds of batches are its strata).
It can't tell the options from whatever else changed at that moment, nor from texts that grew: `inference.experiment`
measures in turns, but needs a load of its own.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from inference.protocol import EngineConfig, StepRecord, in_words

KEPT = 64
"""Steps on either side, the nearest ones."""
SETTLE = 2
"""Steps after a change that do not count: things are computed anew or compiled in them."""
ENOUGH = 8
"""Steps of a kind on either side, or it is not compared."""
Z = 2.58
"""Standard deviations of the rank sum: one in a hundred, were steps independent."""

Kind = tuple[int, int, int]
"""Decodes, and as powers of two prefill tokens and tokens in the cache."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of steps of like batches."""

    before: int
    """So many steps."""
    after: int
    ratio: float
    """Time of a step after by that of one before, where they decode for each token that they give."""
    low: float
    high: float

    @property
    def clear(self) -> bool:
        return not self.low <= 1 <= self.high

    def sentence(self) -> str:
        change = f"{abs(self.ratio - 1):.0%} {'slower' if self.ratio > 1 else 'faster'}" if self.clear else ""
        return (
            f"{change or 'no clear change'} in steps of like batches, {self.before} before and {self.after} after "
            f"({self.low:.2f} to {self.high:.2f} times as long)"
        )


def compare(before: Iterable[tuple[Kind, float]], after: Iterable[tuple[Kind, float]]) -> Comparison | None:
    """Seconds of steps with their kinds; None if too few are alike."""
    old, new = _by_kind(before), _by_kind(after)
    alike = [(old[kind], new[kind]) for kind in old if min(len(old[kind]), len(new.get(kind, ()))) >= ENOUGH]
    if not alike:
        return None
    ratios = sorted(b / a for olds, news in alike for a in olds for b in news)
    deviation = math.sqrt(sum(len(a) * len(b) * (len(a) + len(b) + 1) / 12 for a, b in alike))
    place = max(0, math.floor(len(ratios) / 2 - Z * deviation))
    return Comparison(
        sum(len(a) for a, _ in alike),
        sum(len(b) for _, b in alike),
        ratios[len(ratios) // 2],
        ratios[place],
        ratios[-1 - place],
    )


def _by_kind(steps: Iterable[tuple[Kind, float]]) -> dict[Kind, list[float]]:
    found: dict[Kind, list[float]] = defaultdict(list)
    for kind, seconds in steps:
        found[kind].append(seconds)
    return found


@dataclass(slots=True)
class LiveLoad:
    """The steps around the latest change of options, from the engine's records."""

    _config: EngineConfig | None = None
    _last: int = 0
    _count: int = 0
    """Steps since the change."""
    _changed: dict[str, str] = field(default_factory=dict)
    """Options that differ from before, as "old → new"."""
    _before: list[tuple[Kind, float]] = field(default_factory=list)
    _after: list[tuple[Kind, float]] = field(default_factory=list)
    _latest: deque[tuple[Kind, float]] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, record: StepRecord) -> None:
        if record.step <= self._last:  # another engine
            self._config = None
        if record.config != self._config:
            self._begin(record.config)
        self._last = record.step
        self._count += 1
        if self._count <= SETTLE or not record.scheduled:
            return
        step = (_kind(record), _seconds(record))
        self._latest.append(step)
        if len(self._after) < KEPT:
            self._after.append(step)

    def _begin(self, config: EngineConfig) -> None:
        old, self._config = self._config, config
        self._before = [] if old is None else list(self._latest)
        self._changed = {}
        if old is not None:
            values = ((f.name, getattr(old, f.name), getattr(config, f.name)) for f in fields(config))
            self._changed = {name: f"{in_words(a)} → {in_words(b)}" for name, a, b in values if a != b}
        self._after.clear()
        self._latest.clear()
        self._count = 0

    def sentence(self, option: str) -> str:
        """What the latest change did, if it was one of this option; else empty."""
        if option not in self._changed:
            return ""
        what = ", ".join(f"{name} {values}" for name, values in self._changed.items())
        found = compare(self._before, self._after)
        if found is None:
            counts = f"{len(self._before)} steps before, {len(self._after)} after"
            return f"{what}: too little like load to compare ({counts}; it takes {ENOUGH} of like batches on each side)"
        return f"{what}: {found.sentence()}"


def _kind(record: StepRecord) -> Kind:
    decodes = sum(not chunk.is_prefill for chunk in record.scheduled)
    context = sum(chunk.num_computed for chunk in record.scheduled)
    return decodes, record.prefill_tokens.bit_length(), context.bit_length()


def _seconds(record: StepRecord) -> float:
    """Of the step; of each token that it gave if it only decoded, for drafts make both longer."""
    return record.phases.total / (1 if record.prefill_tokens else max(1, record.sampled_tokens))
