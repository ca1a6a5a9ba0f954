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


ALPHA = {
    Condition.PREEMPTION: ({"preempted": ("a",)}, "session a was preempted"),
    Condition.SCHEDULED: ({"scheduled": (Scheduled("a", "session a", 1, 0, False, True),)}, "session a got 1 token"),
    Condition.FINISHED: ({"finished": (("a", FinishReason.ABORTED),)}, "session a ended"),
    Condition.REFUSED: (
        {"unscheduled": (Unscheduled("a", "session a", WaitReason.BATCH_FULL, 1),)},
        "session a was not admitted: batch full",
    ),
}
"""What happens to a request of `session a`, by condition."""


@pytest.mark.parametrize("condition", ALPHA)
def test_a_condition_may_be_of_one_session_alone(condition: Condition) -> None:
    parts, words = ALPHA[condition]
    here = (row("a", RequestState.WAITING), row("b", RequestState.RUNNING))
    rows = tuple(r for r in here if condition is not Condition.FINISHED or r.request_id != "a")
    for session, expected in (("session a", words), ("session b", None)):
        control = Control()
        control.after(record(1, requests=here))  # an end is told only by the request's id
        control.resume(Resume(until=Until(condition, session=session)), 1)
        stopped = control.after(record(2, requests=rows, **parts))
        assert (stopped.reason if stopped else None) == expected


def test_a_breakpoint_holds_until_it_is_taken_back() -> None:
    control = Control()
    point = Until(Condition.SCHEDULED, session="s")
    happened, words = EVENTS[point]
    assert control.set_breakpoints((point,)).breakpoints == (point,)
    assert control.may_step
    for command in (Resume(), Resume(steps=5), Resume(until=Until(Condition.FINISHED))):
        going = control.resume(command, 0)
        assert (going.paused, going.breakpoints) == (False, (point,))
        assert control.after(QUIET) is None
        stopped = control.after(happened)
        assert stopped is not None
        assert (stopped.paused, stopped.reason, stopped.breakpoints) == (True, words, (point,))
        assert not control.may_step
    taken = control.set_breakpoints(())
    assert (taken.paused, taken.reason, taken.breakpoints) == (True, words, ()), "still paused"
    control.resume(Resume(), 0)
    assert control.after(happened) is None


@given(st.lists(st.sampled_from(list(EVENTS)), unique=True), st.lists(st.sampled_from(list(EVENTS.values()))))
def test_it_stops_at_the_first_event_that_has_a_breakpoint(points: list[Until], story: list[tuple[Any, str]]) -> None:
    control = Control()
    control.set_breakpoints(tuple(points))
    wanted = [EVENTS[point] for point in points]
    for happened, words in story:
        stopped = control.after(happened)
        assert (stopped.reason if stopped else "") == (words if (happened, words) in wanted else "")
        if stopped:
            assert not control.may_step
            control.resume(Resume(), 0)
        assert control.may_step
