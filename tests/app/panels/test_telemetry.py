"""From step records to what the panels show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.panels.telemetry import RequestView, Reuse, Snapshot, Telemetry, held_by_session
from inference.protocol import (
    BlockCounts,
    EngineConfig,
    Finished,
    FinishReason,
    PhaseTimes,
    PrefixLookup,
    RequestRow,
    RequestState,
    Scheduled,
    Speculation,
    StepRecord,
    Timings,
    Unscheduled,
    Verified,
    WaitReason,
)


def row(
    id: str, state: RequestState, computed: int = 0, output: int = 0, prompt: int = 10, blocks: int = 1
) -> RequestRow:
    return RequestRow(id, f"session {id}", state, prompt, output, computed, blocks, 0)


def record(
    step: int,
    rows: tuple[RequestRow, ...] = (),
    scheduled: tuple[Scheduled, ...] = (),
    unscheduled: tuple[Unscheduled, ...] = (),
    finished: tuple[tuple[str, FinishReason], ...] = (),
    used: int = 0,
) -> StepRecord:
    phases = PhaseTimes(compute=0.02)
    return StepRecord(
        step,
        0.0,
        scheduled,
        unscheduled,
        (),
        finished,
        rows,
        BlockCounts(100, used, 100 - used),
        phases,
        EngineConfig(),
    )


def decode(id: str) -> Scheduled:
    return Scheduled(id, f"session {id}", 1, 10, False, True)


def prefill(id: str, tokens: int) -> Scheduled:
    return Scheduled(id, f"session {id}", tokens, 0, True, False)


def test_states_follow_a_request_from_waiting_to_its_end() -> None:
    telemetry = Telemetry()
    waiting = Unscheduled("a", "session a", WaitReason.BUDGET, 10)
    telemetry.add(record(1, (row("a", RequestState.WAITING),), unscheduled=(waiting,)), 0.0)
    (view,) = telemetry.snapshot(0.0).requests
    assert (view.state, view.why) == ("WAIT", "token budget spent (short of 10)")
    telemetry.add(record(2, (row("a", RequestState.RUNNING, 6),), (prefill("a", 6),)), 0.1)
    assert telemetry.snapshot(0.1).requests[0].state == "PREFILL"
    telemetry.add(record(3, (row("a", RequestState.RUNNING, 11, 1),), (decode("a"),)), 0.2)
    assert telemetry.snapshot(0.2).requests[0].state == "DECODE"
    telemetry.add(record(4, (row("a", RequestState.PREEMPTED, 0, 1),)), 0.3)
    assert telemetry.snapshot(0.3).requests[0].state == "PREEMPTED"
    telemetry.add(record(5, (), (decode("a"),), finished=(("a", FinishReason.LENGTH),)), 0.4)
    (view,) = telemetry.snapshot(0.4).requests
    assert (view.state, view.live) == ("length", False)


def test_speeds_count_the_last_two_seconds() -> None:
    telemetry = Telemetry()
    for step in range(100):
        telemetry.add(record(step, (row("a", RequestState.RUNNING, 10 + step, step),), (decode("a"),)), step * 0.1)
    snapshot = telemetry.snapshot(9.9)
    assert snapshot.decode.now == pytest.approx(10, rel=0.1)
    assert snapshot.requests[0].speed == pytest.approx(10, rel=0.1)
    assert snapshot.step_ms.now == pytest.approx(20)
    assert telemetry.snapshot(20.0).decode.now == 0, "an idle engine decodes nothing"


def test_graphs_have_a_point_per_second_and_zero_where_nothing_ran() -> None:
    telemetry = Telemetry()
    telemetry.add(record(1, (), (prefill("a", 40),)), 10.2)
    telemetry.add(record(2, (), (prefill("a", 20),)), 12.2)
    points = telemetry.snapshot(13.0).prefill.points
    assert len(points) == 60
    assert points[-3:] == (40, 0, 20)


def test_ttft_and_final_numbers_come_from_the_finished_event() -> None:
    telemetry = Telemetry()
    telemetry.add(record(1, (row("a", RequestState.RUNNING, 10, 1),), (decode("a"),)), 0.0)
    telemetry.finish(Finished("a", FinishReason.ABORTED, Timings(0.0, 0.4, 1.4, 10, 21)))
    snapshot = telemetry.snapshot(0.1)
    assert snapshot.ttft == (0.4,)
    assert (snapshot.requests[0].state, snapshot.requests[0].speed) == ("aborted", pytest.approx(20))
    assert snapshot.idle


def test_blocks_are_counted_per_session() -> None:
    telemetry = Telemetry()
    rows = (row("a", RequestState.RUNNING, blocks=3), row("b", RequestState.RUNNING, blocks=5))
    telemetry.add(record(1, rows, used=8), 0.0)
    snapshot = telemetry.snapshot(0.0)
    assert snapshot.kv_percent == 8
    assert held_by_session(snapshot.requests) == [("session b", 5), ("session a", 3)]


def test_what_the_prefix_cache_had_is_added_up_until_the_engine_starts_again() -> None:
    telemetry = Telemetry()
    for step, cached in ((1, 0), (2, 48)):
        lookups = (PrefixLookup(str(step), "chat", 64, cached),)
        telemetry.add(replace(record(step), lookups=lookups), float(step))
    assert telemetry.snapshot(3.0).reuse == Reuse(tokens=128, cached=48)
    assert telemetry.snapshot(3.0).reuse.percent == 37.5
    telemetry.engine_ready(100)
    assert telemetry.snapshot(3.0).reuse.percent == 0


def test_phases_are_those_of_the_latest_step_where_none_is_recent() -> None:
    telemetry = Telemetry()
    telemetry.add(record(1), 0.0)
    assert telemetry.snapshot(60.0).phases.compute == pytest.approx(0.02)


def test_requests_that_no_step_has_told_of_wait_behind_the_live_ones() -> None:
    telemetry = Telemetry()
    telemetry.add(record(1, (row("a", RequestState.RUNNING),)), 0.0)
    sent = [RequestView(id, f"session {id}", "WAIT", 10, 0, 0, 0, why="paused") for id in "ab"]
    joined = telemetry.snapshot(0.0).joined_by(sent)
    assert [(view.id, view.why) for view in joined.requests] == [("a", ""), ("b", "paused")]
    assert (joined.running, joined.waiting) == (1, 1)


def test_a_dead_engine_has_no_live_requests() -> None:
    telemetry = Telemetry()
    telemetry.add(record(1, (row("a", RequestState.RUNNING, 10, 1),), (decode("a"),), used=1), 0.0)
    telemetry.engine_lost()
    telemetry.engine_ready(64)
    snapshot = telemetry.snapshot(0.1)
    assert (snapshot.requests[0].state, snapshot.idle, snapshot.blocks) == ("lost", True, BlockCounts(64, 0, 64))


def test_the_history_is_bounded() -> None:
    telemetry = Telemetry()
    for step in range(5000):
        live = (row(str(step), RequestState.RUNNING, 10, 1),)
        telemetry.add(record(step, live, (decode(str(step)),)), step * 0.01)
    snapshot = telemetry.snapshot(50.0)
    assert len(snapshot.bars) < 200
    assert len(snapshot.requests) < 20
    assert len(telemetry._marks) == 1


def test_the_effect_of_a_change_compares_before_and_after() -> None:
    telemetry = Telemetry()
    for step in range(100):
        tokens = (decode("a"),) if step < 50 else (decode("a"), decode("b"))
        telemetry.add(record(step, (), tokens), step * 0.1)
    assert "decode 10.0 → 20.0 tok/s" in telemetry.effect("x = 1", 5.0, 10.0)
    assert "appears here when answers run" in telemetry.effect("x = 1", 9.9, 10.0)


def test_a_snapshot_does_not_change_afterwards() -> None:
    telemetry = Telemetry()
    telemetry.add(record(1, (), (decode("a"),)), 0.0)
    snapshot = telemetry.snapshot(0.0)
    telemetry.add(record(2, (), (decode("a"),)), 0.1)
    assert (len(snapshot.bars), Snapshot().idle) == (1, True)


def verified(step: int, drafted: int, accepted: int, speculation: Speculation | None = None) -> StepRecord:
    """A step in which one request had drafts."""
    chunk = Scheduled("a", "session a", 1 + drafted, 10, False, True, drafted)
    verdict = Verified("a", "session a", drafted, accepted, min(accepted + 1, drafted), accepted + 1)
    return replace(
        record(step, (), (chunk,)),
        verified=(verdict,),
        speculation=speculation,
        phases=PhaseTimes(compute=0.015, draft=0.005),
    )


def test_what_comes_out_is_counted_not_what_is_verified() -> None:
    telemetry = Telemetry()
    for step in range(10):
        telemetry.add(verified(step, 4, 2), step * 0.1)
    snapshot = telemetry.snapshot(1.0)
    assert snapshot.decode.now == pytest.approx(30 / 2)
    assert snapshot.decode.points[-1] == 30
    assert (snapshot.bars[-1].decode, snapshot.bars[-1].drafts) == (1, 4)
    assert (snapshot.shares[0].decode, snapshot.shares[0].drafts, snapshot.shares[0].total) == (1, 4, 5)


def test_drafts_are_followed_over_time() -> None:
    telemetry = Telemetry()
    telemetry.add(verified(1, 4, 4), 10.2)
    telemetry.add(verified(2, 4, 1), 11.2)
    telemetry.add(verified(3, 2, 1), 11.4)
    drafting = telemetry.snapshot(12.0).drafting
    assert drafting.accepted.points[-2:] == (100, pytest.approx(100 / 3))
    assert (drafting.drafts, drafting.verifications, drafting.tokens) == (10, 3, 9)
    assert drafting.accepted.now == pytest.approx(60)
    assert telemetry.snapshot(30.0).drafting.verifications == 0


def test_the_latest_decision_stands_until_nobody_drafts() -> None:
    telemetry = Telemetry()
    decided = Speculation("draft", 4, "it pays", (0.8, 0.7), 2.4, 5)
    telemetry.add(verified(1, 2, 1, decided), 0.0)
    telemetry.add(record(2, (), (prefill("b", 4),)), 0.1)
    assert telemetry.snapshot(0.1).drafting.decided == decided
    telemetry.add(replace(record(3, (), (decode("a"),)), config=EngineConfig(speculation="off")), 0.2)
    assert telemetry.snapshot(0.2).drafting.decided is None
