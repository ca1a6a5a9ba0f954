"""Whatever a user does to a running engine, in any order, greedy answers stay the reference's, token for token.

And what was recorded of it meanwhile is repeated, decision by decision.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from inference.bench.recordings import replayed
from inference.engine.control import Control
from inference.protocol import Condition, EngineConfig, Resume, Until
from tests.inference.engine.harness import Run, engine
from tests.inference.engine.test_lossless import CHANGES, MOST_TOKENS, assert_lossless, greedy

LONGEST = 64
"""Tokens of a prompt; a fork of a fork of a fork is cut there."""
SWITCHES: tuple[dict[str, Any], ...] = (*CHANGES, {"decode_slowdown": 0}, {"decode_slowdown": 2})
CONDITIONS = (
    Until(Condition.PREEMPTION),
    Until(Condition.FINISHED),
    Until(Condition.REFUSED),
    Until(Condition.KV_ABOVE, percent=50),
    Until(Condition.SCHEDULED, session="session of 0"),
)


class Steering(RuleBasedStateMachine):
    """An engine as its process drives it: steps are made only where the control lets them."""

    folder: Path
    draft: Path
    recordings: Path

    @initialize(
        block_size=st.sampled_from([2, 4, 16]),
        spare=st.integers(0, 60),
        budget=st.integers(1, 48),
        seqs=st.integers(1, 6),
        drafts=st.booleans(),
    )
    def start(self, block_size: int, spare: int, budget: int, seqs: int, drafts: bool) -> None:
        blocks = -(-(LONGEST + MOST_TOKENS) // block_size) + spare
        options = {"block_size": block_size, "num_kv_blocks": blocks, "adaptive_speculation": not drafts}
        draft = self.draft if drafts else None
        self.run = Run(engine(self.folder, draft, **options, max_num_batched_tokens=budget, max_num_seqs=seqs))
        self.control = Control()
        self.recorded: list[Path] = []
        self.recording = False
        self.asked: dict[str, tuple[tuple[int, ...], int]] = {}

    def _submit(self, prompt: tuple[int, ...], max_tokens: int) -> None:
        name = str(len(self.asked))
        self.asked[name] = (prompt, max_tokens)
        self.run.submit(name, prompt, greedy(max_tokens), priority=len(prompt) % 3)

    @rule(seed=st.integers(0, 5), length=st.sampled_from([1, 4, 9, 17, 33, 48]), max_tokens=st.integers(1, MOST_TOKENS))
    def submit(self, seed: int, length: int, max_tokens: int) -> None:
        self._submit(tuple(np.random.default_rng(seed).integers(0, 331, length).tolist()), max_tokens)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), new=st.integers(1, 6))
    def fork(self, data: Any, new: int) -> None:
        """Ask something else after a part of a conversation, whose answer may still be being written."""
        name = data.draw(st.sampled_from(sorted(self.asked)))
        told = (*self.asked[name][0], *self.run.outcomes[name].token_ids)
        until = data.draw(st.integers(1, len(told)))
        prompt = (*told[:until], *range(new))[-LONGEST:]
        self._submit(prompt, MOST_TOKENS)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def abort(self, data: Any) -> None:
        self.run.abort(data.draw(st.sampled_from(sorted(self.asked))))

    @rule(changes=st.sampled_from(SWITCHES))
    def switch(self, changes: dict[str, Any]) -> None:
        assert not self.run.configure(**changes).error

    @rule()
    def record(self) -> None:
        """Begin a recording, or end the one that runs."""
        if self.recording:
            assert not self.run.engine.record("")[0].message
        else:
            self.recorded.append(self.recordings / f"{len(list(self.recordings.iterdir()))}.jsonl")
            assert self.run.engine.record(str(self.recorded[-1]))[0].active
        self.recording = not self.recording

    @rule(points=st.lists(st.sampled_from(CONDITIONS), max_size=2).map(tuple))
    def set_breakpoints(self, points: tuple[Until, ...]) -> None:
        assert self.control.set_breakpoints(points).breakpoints == points

    @rule()
    def pause(self) -> None:
        self.control.pause(self.run.engine.steps)

    @rule(
        command=st.builds(Resume, steps=st.none() | st.integers(1, 5))
        | st.builds(Resume, until=st.sampled_from(CONDITIONS))
    )
    def go_on(self, command: Resume) -> None:
        self.control.resume(command, self.run.engine.steps)

    @rule(count=st.integers(1, 12))
    def let_time_pass(self, count: int) -> None:
        before = self.run.engine.steps
        for _ in range(count):
            if self.control.may_step and self.run.engine.has_work:
                self.control.after(self.run.step())
        if not self.control.may_step and before == self.run.engine.steps:
            assert all(o.finished or o.started for o in self.run.outcomes.values()), (
                "a pause takes requests all the same"
            )

    def teardown(self) -> None:
        if not hasattr(self, "run"):
            return
        self.run.finish()
        assert_lossless(self.run, self.folder, self.asked)
        self.run.engine.record("")
        for path in self.recorded:
            assert replayed(path).difference == ""


def test_every_lossless_live_option_is_among_the_changes() -> None:
    """So that none that is added later is forgotten. What rounds is left out: it changes greedy answers."""
    live = {option.name for option in fields(EngineConfig) if option.metadata["live"]}
    assert {name for change in SWITCHES for name in change} == live
    lossy = [change for change in SWITCHES if set(change.values()) & {"int8", "int4", "bfloat16", "float16"}]
    assert lossy == []
    for option in fields(EngineConfig):
        if option.metadata["live"] and option.name not in ("kv_cache_dtype", "activations"):
            chosen = {change[option.name] for change in SWITCHES if option.name in change}
            assert set(option.metadata["choices"]) <= chosen | {"auto"}, option.name


@pytest.mark.parametrize("rounds", [40])
def test_greedy_answers_are_the_references_whatever_is_done(
    folder: Path, draft: Path, tmp_path: Path, rounds: int
) -> None:
    machine = type("SteeringHere", (Steering,), {"folder": folder, "draft": draft, "recordings": tmp_path})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=rounds,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
