"""Before and after: what changing an option does, by windows of the same work under either value in turn.

Machines drift: they warm up, and others work on them. So windows of both kinds stand side by side in pairs, and which
comes first changes from pair to pair (ABBA BAAB …), so that what rises or falls steadily falls out. Only differences
within a pair count, and whether they could have come out so without any effect is asked of them alone (the exact
randomization test of paired differences: Fisher 1935, "The design of experiments", section 21). A step that something
else interrupted counts as its like.
"""

from __future__ import annotations

import math
import random
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from inference.protocol import ChatPrompt, Message, SamplingParams, StepRecord, Submit, TokenPrompt

PAIRS = 10
"""As many windows of either kind are measured."""
CHANCE = 0.02
"""Differences that would come out so by chance more often than this say nothing."""
SESSION = "measure"
"""The name of the sessions whose work is measured."""
INTERRUPTED = 2.0
"""A step that takes so many times as long as most of its kind in its window has been waiting for something else."""
WARM_UP = 2
"""Windows before the first that counts: what was cached for another value is computed again in them."""


@dataclass(frozen=True, slots=True)
class Load:
    """The work of one window: requests that arrive together, and begin alike as chats with one system prompt do."""

    sessions: int = 3
    shared_tokens: int = 48
    own_tokens: int = 32
    gen_tokens: int = 16

    def requests(self, window: int, vocab_size: int) -> list[Submit]:
        """Prompts of random tokens: alike from window to window at the beginning, new at the end."""
        shared = _tokens("shared", self.shared_tokens, vocab_size)
        params = SamplingParams(temperature=0, max_tokens=self.gen_tokens, ignore_eos=True)
        return [
            Submit(
                f"{SESSION}-{window}-{i}",
                f"{SESSION} {i + 1}",
                TokenPrompt((*shared, *_tokens(f"{window}/{i}", self.own_tokens, vocab_size))),
                params,
            )
            for i in range(self.sessions)
        ]

    @property
    def about(self) -> str:
        """What a window is, as a clause."""
        return (
            f"{self.sessions} sessions at once with prompts of {self.shared_tokens + self.own_tokens} tokens, "
            f"{self.shared_tokens} of them alike, and answers of {self.gen_tokens}: the time of their steps"
        )


QUESTIONS = (
    "What is the KV cache, and why does it grow with the text?",
    "Why does batching several requests make decode faster?",
    "Explain in a few sentences how paged attention keeps blocks.",
)


@dataclass(frozen=True, slots=True)
class Talk:
    """Work for options of which text decides what they do: the same questions in every window, answered greedily."""

    gen_tokens: int = 64

    def requests(self, window: int, vocab_size: int) -> list[Submit]:
        """The answers end where they end: what comes after that would be like no text."""
        params = SamplingParams(temperature=0, max_tokens=self.gen_tokens)
        return [
            Submit(f"{SESSION}-{window}-{i}", f"{SESSION} {i + 1}", ChatPrompt((Message("user", question),)), params)
            for i, question in enumerate(QUESTIONS)
        ]

    @property
    def about(self) -> str:
        return (
            f"{len(QUESTIONS)} sessions at once with the same questions each time, and answers of at most "
            f"{self.gen_tokens} tokens: the time of their steps"
        )


NEED_TEXT = ("speculation", "num_speculative_tokens", "adaptive_speculation")
"""Options that depend on what is written: nobody can guess how random tokens go on."""


def work_for(option: str) -> Load | Talk:
    """What shows the effect of an option."""
    return Talk() if option in NEED_TEXT else Load()


def _tokens(seed: str, count: int, vocab_size: int) -> list[int]:
    # Ordinary tokens stand in the middle: bytes come first in a vocabulary, and special tokens last.
    return random.Random(seed).choices(range(vocab_size // 8, vocab_size // 2), k=count)


@dataclass(frozen=True, slots=True)
class Window:
    """One piece of work, under the value before (A) or after (B) the change."""

    number: int
    after: bool
    counted: bool


def order(pairs: int) -> list[Window]:
    """All windows: some to warm up, then pairs, turned around as the Thue-Morse sequence says (ABBA BAAB …)."""
    sides = [bool(i % 2) for i in range(WARM_UP)]
    for i in range(pairs):
        turned = bool(i.bit_count() % 2)
        sides += [turned, not turned]
    return [Window(number, side, number >= WARM_UP) for number, side in enumerate(sides)]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the pairs say. Seconds of a window."""

    before: float
    """Median."""
    after: float
    ratio: float
    """After by before: the geometric mean over the pairs."""
    low: float
    """Of the pairs' ratios, the lowest but an eighth of them, and the highest."""
    high: float
    chance: float
    """How often pairs without any effect would differ as much on average."""

    @property
    def significant(self) -> bool:
        return self.chance < CHANCE

    def sentence(self) -> str:
        if not self.significant:
            return "no significant change"
        change = abs(self.ratio - 1)
        return f"{change:.0%} {'slower' if self.ratio > 1 else 'faster'}"


def judge(pairs: Sequence[tuple[float, float]]) -> Verdict:
    """What windows of (before, after) seconds, measured side by side, say. Raises ValueError for none."""
    if not pairs:
        raise ValueError("there is nothing to judge without a pair of windows")
    differences = sorted(math.log(after / before) for before, after in pairs)
    mean = statistics.fmean(differences)
    eighth = len(differences) // 8
    return Verdict(
        statistics.median(before for before, _ in pairs),
        statistics.median(after for _, after in pairs),
        math.exp(mean),
        math.exp(differences[eighth]),
        math.exp(differences[-1 - eighth]),
        _chance(differences),
    )


def _chance(differences: Sequence[float]) -> float:
    """How often the sum would be as far from 0 if each could as well have had the other sign: all cases are counted."""
    observed = abs(sum(differences)) * (1 - 1e-12)
    half = len(differences) // 2
    left, right = _sums(differences[:half]), sorted(_sums(differences[half:]))
    as_far = sum(
        len(right)
        if not observed
        else len(right) - bisect_left(right, observed - s) + bisect_right(right, -observed - s)
        for s in left
    )
    return float(as_far / 2 ** len(differences))


def _sums(values: Sequence[float]) -> list[float]:
    """With every choice of signs."""
    return [
        sum(sign * v for sign, v in zip(signs, values, strict=True)) for signs in product((1, -1), repeat=len(values))
    ]


def _uninterrupted(steps: Sequence[float]) -> float:
    """Seconds of steps that are alike, without what held some of them up."""
    usual = statistics.median(steps)
    return sum(seconds if seconds <= INTERRUPTED * usual else usual for seconds in steps)


@dataclass
class Experiment:
    """One comparison under way. Tells what to do next, and reads what became of it from the engine's records."""

    before: Mapping[str, Any]
    """Values of the options that are changed, as they are."""
    after: Mapping[str, Any]
    vocab_size: int
    load: Load | Talk = field(default_factory=Load)
    pairs: int = PAIRS
    seconds: dict[int, float] = field(default_factory=dict)
    """Of the windows that are done, by number."""
    tokens: dict[int, int] = field(default_factory=dict)
    """That each of these put out."""
    _place: int = -1
    _open: set[str] = field(default_factory=set)
    _steps: dict[tuple[bool, int, int], list[float]] = field(default_factory=dict)
    """Seconds of the window's steps, by whether they read prompts, how many requests they served and the most drafts
    of one."""
    _put_out: int = 0
    """Tokens of the window so far."""

    def __post_init__(self) -> None:
        self.windows = order(self.pairs)

    @property
    def done(self) -> bool:
        return len(self.seconds) == len(self.windows)

    @property
    def windows_done(self) -> int:
        return len(self.seconds)

    @property
    def about(self) -> str:
        """What a window is, as a clause."""
        return self.load.about

    def begin_next(self) -> tuple[Mapping[str, Any], list[Submit]]:
        """Options and requests of the next window."""
        self._place += 1
        window = self.windows[self._place]
        requests = self.load.requests(window.number, self.vocab_size)
        self._open, self._steps, self._put_out = {r.request_id for r in requests}, {}, 0
        return (self.after if window.after else self.before), requests

    def on_record(self, record: StepRecord) -> bool:
        """A step was taken; whether it was the window's last. Only steps that worked for it count."""
        if not self._open:
            return False
        if any(row.request_id in self._open for row in record.requests) or self._ended(record):
            deepest = max((s.drafts for s in record.scheduled), default=0)
            kind = (record.prefill_tokens > 0, len(record.scheduled), deepest)
            self._steps.setdefault(kind, []).append(record.phases.total)
        self._put_out += sum(s.samples and not s.drafts for s in record.scheduled if s.request_id in self._open)
        self._put_out += sum(v.tokens for v in record.verified if v.request_id in self._open)
        self._open -= self._ended(record)
        if self._open:
            return False
        number = self.windows[self._place].number
        self.seconds[number] = sum(map(_uninterrupted, self._steps.values()))
        self.tokens[number] = self._put_out
        return True

    def _ended(self, record: StepRecord) -> set[str]:
        return self._open & {request_id for request_id, _ in record.finished}

    def open_requests(self) -> list[str]:
        """What is to be aborted if the experiment is left."""
        return sorted(self._open)

    def measured(self) -> list[tuple[float, float]]:
        """Seconds before and after of each pair that is complete."""
        counted = [window for window in self.windows if window.counted]
        found = []
        for first, second in zip(counted[::2], counted[1::2], strict=True):
            if first.number in self.seconds and second.number in self.seconds:
                values = {window.after: self.seconds[window.number] for window in (first, second)}
                found.append((values[False], values[True]))
        return found

    def side(self, *, after: bool) -> str:
        """What was measured under a value so far, in words; empty for nothing."""
        windows = [w for w in self.windows if w.after is after and w.counted and w.number in self.seconds]
        if not windows:
            return ""
        times = sorted(1e3 * self.seconds[w.number] for w in windows)
        spread = f"{times[0]:.0f} to {times[-1]:.0f}"
        return f"{times[len(times) // 2]:.0f} ms a window ({spread})   {self.speed(windows):.0f} tok/s"

    def speed(self, windows: Sequence[Window]) -> float:
        """Tokens per second: the median of these windows, all of which are done."""
        return statistics.median(self.tokens[w.number] / self.seconds[w.number] for w in windows)
