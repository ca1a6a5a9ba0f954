"""How far ahead is drafted, on machines whose every step takes a known time: no model, no clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest

from inference.engine.speculator import Speculator
from inference.protocol import EngineConfig, Scheduled, Speculation, Verified
from inference.scheduling.request import Request
from inference.speculation.drafter import Drafter

PROMPT = 50


@dataclass
class Machine:
    """Requests that are decoded for ever, with drafts where the speculator wants them."""

    seconds: Callable[[int], float]
    """Of a step, by its decoded tokens."""
    right: float = 0.95
    """The share of drafts that are."""
    draft_seconds: float = 0.0005
    prefill: Callable[[int], int] = lambda step: 0
    """Tokens of prompts beside, by the step's number."""
    method: str = "draft"
    repeating: int = 0
    """So many of the requests repeat four tokens for ever; no run of tokens comes twice in the others."""

    def __post_init__(self) -> None:
        never_behind = SimpleNamespace(behind=lambda *_: 0, forget=lambda _: None, reset=lambda: None)
        self.speculator = Speculator(cast(Drafter, never_behind))
        self.config = EngineConfig(speculation=self.method, num_speculative_tokens=4)  # type: ignore[arg-type]
        self.rng = random.Random(1)
        self.steps = 0
        self.requests: list[Request] = []

    def run(self, requests: int, steps: int) -> list[Speculation]:
        """What was decided in each of so many steps with so many requests."""
        del self.requests[requests:]
        for i in range(len(self.requests), requests):
            self.requests.append(Request(f"{i}", f"{i}", [self._token(i, place) for place in range(PROMPT)], 10**9))
        return [self._step() for _ in range(steps)]

    def _token(self, request: int, place: int) -> int:
        return place % 4 if request < self.repeating else place

    def _step(self) -> Speculation:
        self.steps += 1
        wanted = self.speculator.offer(self.requests, self.config)
        told = self.speculator.report()
        assert told is not None
        scheduled, verified = [], []
        for i, request in enumerate(self.requests):
            drafts = wanted.get(request.request_id, 0)
            right = next((i for i in range(drafts) if self.rng.random() > self.right), drafts)
            scheduled.append(Scheduled(request.request_id, "", 1 + drafts, request.num_tokens - 1, False, True, drafts))
            if drafts:
                judged = min(right + 1, drafts)
                verified.append(Verified(request.request_id, "", drafts, right, judged, right + 1))
            for _ in range(right + 1):
                request.output_ids.append(self._token(i, request.num_tokens))
        prompts = self.prefill(self.steps)
        decoded = sum(s.num_tokens for s in scheduled)
        drafting = self.draft_seconds * max(wanted.values(), default=0)
        if prompts:
            scheduled.append(Scheduled("prompt", "", prompts, 0, True, False, 0))
        took = self.seconds(decoded) + 0.0015 * prompts
        record = SimpleNamespace(
            finished=(),
            config=self.config,
            verified=tuple(verified),
            scheduled=tuple(scheduled),
            phases=SimpleNamespace(total=took + drafting, draft=drafting),
        )
        self.speculator.observe(cast(Any, record))
        return told


def usual(told: list[Speculation]) -> list[int]:
    """The depths but for the steps that are made the other way to learn from them."""
    return [each.depth for each in told if "looks whether" not in each.reason and "first steps" not in each.reason]


def memory_bound(tokens: int) -> float:
    """Of weights that take 10 ms to read; from some 20 tokens on the products take longer."""
    return max(0.010, 0.0005 * tokens)


def test_drafts_become_fewer_as_the_batch_grows_and_come_back_as_it_shrinks() -> None:
    machine = Machine(memory_bound, right=0.7)
    assert set(usual(machine.run(1, 200)[50:])) == {4}
    assert max(usual(machine.run(40, 200)[100:])) == 0
    assert set(usual(machine.run(1, 200)[100:])) == {4}


def test_what_never_pays_is_tried_ever_again_and_hardly_costs_anything() -> None:
    machine = Machine(lambda tokens: 0.002 * tokens, right=0.1)
    told = machine.run(4, 1000)
    assert max(usual(told)) == 0
    tried = [each for each in told[100:] if each.depth]
    assert 0 < len(tried) < 0.05 * len(told)


def test_one_learns_though_prompts_come_in_every_step() -> None:
    """A busy engine may never have a step that only decodes."""
    sizes = random.Random(2)
    machine = Machine(memory_bound, prefill=lambda step: sizes.choice([8, 16, 24, 40]))
    told = machine.run(3, 200)
    assert set(usual(told[100:])) == {4}
    assert all(each.break_even == 4 for each in told[100:])


def test_steps_without_prompts_say_more_than_those_with() -> None:
    """A prompt's time that is not proportional to its tokens must not be taken for that of drafts."""
    machine = Machine(lambda tokens: 0.004 * tokens, right=0.6, prefill=lambda step: 200 if step % 3 == 0 else 0)
    assert max(usual(machine.run(4, 300)[100:])) == 0


def test_one_text_that_repeats_itself_is_drafted_beside_fifteen_that_do_not() -> None:
    machine = Machine(memory_bound, right=0.9, method="ngram", repeating=1)
    told = machine.run(16, 200)[100:]
    assert set(usual(told)) == {4}
    assert all(each.reason.endswith("drafting for 1 of 16") for each in told if "looks whether" not in each.reason)


@pytest.mark.parametrize("adaptive", [True, False])
def test_break_even_is_unknown_as_long_as_nothing_was_measured(adaptive: bool) -> None:
    machine = Machine(memory_bound)
    machine.config = EngineConfig(speculation="draft", num_speculative_tokens=4, adaptive_speculation=adaptive)
    told = machine.run(1, 50)
    assert told[0].break_even is None
    # Where drafts are always made no step shows what one takes without them.
    assert (told[-1].break_even is None) != adaptive
