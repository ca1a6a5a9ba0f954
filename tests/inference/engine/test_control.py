"""Pause, step and run until: on records alone, and with the engine in its own process."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.control import Control
from inference.errors import ConfigError
from inference.protocol import (
    BlockCounts,
    Condition,
    EngineConfig,
    FinishReason,
    PhaseTimes,
    RequestRow,
    RequestState,
    Resume,
    Scheduled,
    StepRecord,
    Unscheduled,
    Until,
    WaitReason,
)


def record(step: int = 1, used: int = 0, **parts: Any) -> StepRecord:
    everything = {"scheduled": (), "unscheduled": (), "preempted": (), "finished": (), "requests": ()} | parts
    blocks = BlockCounts(total=100, used=used, free=100 - used)
    return StepRecord(step, 0.0, blocks=blocks, phases=PhaseTimes(), config=EngineConfig(), **everything)


def row(name: str, state: RequestState) -> RequestRow:
    return RequestRow(name, f"session {name}", state, 5, 0, 0, 0, 0)


QUIET = record(used=80)
EVENTS = {
    Until(Condition.PREEMPTION): (
        record(preempted=("a",), requests=(row("a", RequestState.PREEMPTED),)),
        "session a was preempted",
    ),
    Until(Condition.KV_ABOVE, percent=80): (record(used=81), "81 % of the KV blocks are in use"),
    Until(Condition.SCHEDULED, session="s"): (
        record(scheduled=(Scheduled("a", "t", 1, 0, False, True), Scheduled("b", "s", 3, 0, True, True))),
        "s got 3 tokens",
    ),
    Until(Condition.FINISHED): (record(finished=(("a", FinishReason.STOP),)), "a request ended"),
    Until(Condition.REFUSED): (
        record(
            unscheduled=(Unscheduled("b", "t", WaitReason.BUDGET, 1), Unscheduled("a", "s", WaitReason.BATCH_FULL, 1)),
            requests=(row("b", RequestState.RUNNING), row("a", RequestState.WAITING)),
        ),
        "s was not admitted: batch full",
    ),
}


@pytest.mark.parametrize("until", EVENTS, ids=str)
def test_it_runs_until_exactly_its_condition(until: Until) -> None:
    control = Control()
    going = control.resume(Resume(until=until), 0)
    assert (going.paused, going.reason) == (False, f"until {until}")
    others = [happened for other, (happened, _) in EVENTS.items() if other != until]
    for each in (QUIET, *others):
        assert control.after(each) is None
        assert control.may_step
    happened, words = EVENTS[until]
    stopped = control.after(happened)
    assert stopped is not None
    assert stopped.paused
    assert stopped.reason == words
    assert not control.may_step


@given(st.integers(1, 20))
def test_n_steps_are_n_steps(count: int) -> None:
    control = Control()
    control.pause(0)
    assert not control.may_step
    control.resume(Resume(steps=count), 0)
    done = 0
    while control.may_step:
        done += 1
        stopped = control.after(record(done))
    assert done == count
    assert stopped is not None
    assert stopped.step == count


def test_a_pause_forgets_what_was_asked_before_and_going_on_is_for_good() -> None:
    control = Control()
    control.resume(Resume(steps=1), 0)
    control.pause(0)
    control.resume(Resume(), 0)
    for happened, _ in EVENTS.values():
        assert control.after(happened) is None
    with pytest.raises(ConfigError, match="at least one"):
        Resume(steps=0)
