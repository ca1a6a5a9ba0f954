"""Before and after on the live load: what changing an option does to the time of the steps that chats bring about.

Live steps are not alike: each holds other rows, prompts and contexts, and no window of them is like the next. So a
step is compared with what a step of its composition takes, learned from all steps of the experiment together without
regard to which value was in force; and which value a pair of windows begins with is drawn by a fair coin. The coins
are what makes the verdict honest: if the option has no effect, every step would have taken the same time had they
fallen otherwise, so that pairs of windows could as well have differed with the other sign, however much the load
changed between them (the randomization test for a randomized experiment: Fisher 1935, "The design of experiments",
section 21). How well composition explains a step's time only decides how small an effect is found.

What can be compared so is what a step costs. An option that changes what steps are made of changes its own yardstick,
and needs work that is the same under either value.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inference.experiment import Window
from inference.protocol import StepRecord, Submit
from inference.scheduling.step_time import Features, StepTime, features

PAIRS = 20
STEPS = 12
"""That a window counts."""
SETTLING = 2
"""Steps after a change that do not count: weights are put in order, and what is gone from the cache comes back."""
OUTLIER = 4.0
"""A step that is off by more than so many times the usual error has been waiting for something else."""
COMPARABLE = ("kernels", "attention", "activations", "kv_cache_dtype")
"""Options that change what a step costs and not what is in it."""


def refusal(option: str) -> str:
    """Why an option can't be measured on the live load, as a sentence; empty if it can."""
    if option in COMPARABLE:
        return ""
    return (
        f"{option} changes what steps are made of, and live steps are compared by that: M measures it on work that is "
        "the same under either value"
    )


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that counted: what was in it, and its seconds."""

    features: Features
    seconds: float


def coins(pairs: int, rng: random.Random) -> list[Window]:
    """Windows in pairs, each of which begins with either side by chance. `number` is the place; all count."""
    sides = [side for _ in range(pairs) for side in rng.choice(((False, True), (True, False)))]
    return [Window(number, side, True) for number, side in enumerate(sides)]


@dataclass
class LiveExperiment:
    """One comparison under way. Tells what to do next, and reads what became of it from the engine's records."""

    before: Mapping[str, Any]
    """Values of the option that is changed, as they are."""
    after: Mapping[str, Any]
    pairs: int = PAIRS
    rng: random.Random = field(default_factory=random.SystemRandom)
    steps: dict[int, list[Taken]] = field(default_factory=dict)
    """That counted, by window."""
    _place: int = -1
    _from: int | None = None
    """The first step that counts in this window; None until the engine has said when its value is in force."""

    def __post_init__(self) -> None:
        self.windows = coins(self.pairs, self.rng)

    @property
    def about(self) -> str:
        """What a window is, as a clause."""
        return f"{STEPS} steps of what your chats ask for, each beside what a step with the same in it takes"

    @property
    def windows_done(self) -> int:
        return sum(len(steps) == STEPS for steps in self.steps.values())

    @property
    def done(self) -> bool:
        return self.windows_done == len(self.windows)

    def begin_next(self) -> tuple[Mapping[str, Any], list[Submit]]:
        """The options of the next window; it brings no requests of its own."""
        self._place += 1
        self._from = None
        return (self.after if self.windows[self._place].after else self.before), []

    def in_force(self, step: int) -> None:
        """The engine has taken over the window's options, from this step on."""
        if self._from is None:
            self._from = step + SETTLING

    def on_record(self, record: StepRecord) -> bool:
        """A step was taken; whether it was the window's last."""
        if self._from is None or record.step < self._from or not record.scheduled:
            return False
        parts = features((s.num_tokens, s.num_computed, s.is_prefill) for s in record.scheduled)
        # Drafting has a time of its own, for which the step's composition says nothing.
        seconds = record.phases.total - record.phases.draft
        found = self.steps.setdefault(self._place, [])
        if len(found) == STEPS:
            return False
        found.append(Taken(parts, seconds))
        return len(found) == STEPS

    def open_requests(self) -> list[str]:
        """None is its own."""
        return []

    def measured(self) -> list[tuple[float, float]]:
        """Of each complete pair, how many times as long as composition lets expect its steps took, before and after."""
        whole = [i for i in range(self.pairs) if all(len(self.steps.get(2 * i + j, ())) == STEPS for j in (0, 1))]
        if not whole:
            return []
        numbers = [2 * i + j for i in whole for j in (0, 1)]
        levels = dict(zip(numbers, window_levels([self.steps[n] for n in numbers]), strict=True))
        pairs = []
        for i in whole:
            values = {self.windows[n].after: math.exp(levels[n]) for n in (2 * i, 2 * i + 1)}
            pairs.append((values[False], values[True]))
        return pairs

    def side(self, *, after: bool) -> str:
        """What was measured under a value so far, in words; empty for nothing."""
        values = sorted(pair[after] for pair in self.measured())
        if not values:
            return ""
        usual = 1e3 * statistics.median(step.seconds for steps in self.steps.values() for step in steps)
        spread = f"{usual * values[0]:.1f} to {usual * values[-1]:.1f}"
        return f"{usual * statistics.median(values):.1f} ms for a step of the usual kind ({spread})"


def window_levels(windows: Sequence[Sequence[Taken]]) -> list[float]:
    """Of each window, the mean logarithm of its steps' times by what their composition lets expect; 0 on average.

    What that is, is learned from all windows together; nothing here knows under which value they were taken.
    """
    steps = [step for window in windows for step in window]
    learned = StepTime.fit([(step.features, step.seconds) for step in steps])
    errors = [[_error(learned, step) for step in window] for window in windows]
    flat = [error for window in errors for error in window]
    middle = statistics.median(flat)
    reach = OUTLIER * 1.4826 * statistics.median(abs(error - middle) for error in flat)
    levels = [statistics.fmean(min(max(e, middle - reach), middle + reach) for e in window) for window in errors]
    mean = statistics.fmean(levels)
    return [level - mean for level in levels]


def _error(learned: StepTime, step: Taken) -> float:
    expected = learned.of(step.features)
    return math.log(step.seconds / expected) if expected > 0 else 0.0
