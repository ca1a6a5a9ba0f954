"""The clock, the engine's state, and the documentation."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.protocol import (
    BlockCounts,
    EngineConfig,
    PhaseTimes,
    RequestRow,
    RequestState,
    Scheduled,
    StepRecord,
    Unscheduled,
    WaitReason,
)
from inference.tools.builtin.clock import clock
from inference.tools.builtin.documents import search_docs
from inference.tools.builtin.engine_state import describe_step, engine_state
from inference.tools.context import Context
from inference.tools.definition import ToolError

MOMENT = datetime(2026, 3, 1, 22, 5, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("what", "zone", "said"),
    [
        ("time", "", "22:05"),
        ("date", "", "Sunday 2026-03-01"),
        ("both", "", "Sunday 2026-03-01 22:05"),
        ("time", "Asia/Kolkata", "03:35 UTC+05:30"),
        ("date", "asia/kolkata", "Monday 2026-03-02"),
        ("both", "America/New York", "Sunday 2026-03-01 17:05 UTC-05:00"),
    ],
)
def test_the_clock(what: str, zone: str, said: str) -> None:
    assert clock(Context(now=lambda: MOMENT), what, zone) == said


@given(st.datetimes(timezones=st.timezones()), st.sampled_from(["Europe/Paris", "Asia/Tokyo", "UTC"]))
def test_the_clock_in_a_zone_is_the_same_moment(moment: datetime, zone: str) -> None:
    if not 1900 < moment.year < 2100:
        return
    wanted = moment.astimezone(ZoneInfo(zone))
    said = clock(Context(now=lambda: moment), "both", zone)
    assert said.startswith(f"{wanted:%A} {wanted:%Y-%m-%d} {wanted:%H:%M}")


def test_zones_that_are_none_bring_similar_ones() -> None:
    with pytest.raises(ToolError, match="Europe/Paris"):
        clock(Context(), "time", "Paris")
    with pytest.raises(ToolError, match="no time zone"):
        clock(Context(), "time", "../../../etc/passwd")


def test_the_engine_s_state_in_words() -> None:
    record = StepRecord(
        step=7,
        time=1.0,
        scheduled=(Scheduled("1", "work", 1, 40, False, True), Scheduled("2", "play", 30, 16, True, False)),
        unscheduled=(Unscheduled("3", "third", WaitReason.BLOCKS, 4),),
        preempted=(),
        finished=(),
        requests=(RequestRow("1", "work", RequestState.RUNNING, 33, 8, 41, 3, 0, 16),),
        blocks=BlockCounts(64, 5, 59, 12),
        phases=PhaseTimes(compute=0.0105),
        config=EngineConfig(),
    )
    said = describe_step(record)
    assert said.splitlines() == [
        "step 7: 2 requests in the batch, 30 prefill tokens and 1 decode token, 10.5 ms",
        "in the batch: session work, 1 token (decode)",
        "in the batch: session play, 30 tokens (prefill, after 16 computed)",
        "not in the batch: session third, too few free blocks, short of 4",
        "KV blocks: 5 used, 59 free, 64 in all, 12 cached",
        "session work (running): 33 prompt tokens, 16 of them from the prefix cache, 8 output tokens, 3 blocks",
    ]
    assert engine_state(Context(engine_state=lambda: said)) == said
    assert "not computed a step" in describe_step(None)
    with pytest.raises(ToolError):
        engine_state(Context())


def test_the_documentation() -> None:
    asked: list[str] = []

    def search(query: str) -> str:
        asked.append(query)
        return ""

    assert search_docs("kv cache", Context(search_documents=search)) == "no results"
    assert asked == ["kv cache"]
