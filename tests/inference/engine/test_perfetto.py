"""Perfetto's own trace processor reads what a real engine was recorded doing, without a complaint."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.bench.recordings import write_trace
from inference.protocol import SamplingParams
from inference.scheduling.recording import Arrival, RecordedStep, Recording, read
from tests.inference.engine.harness import Run, engine
from tests.inference.engine.test_lossless import PROMPTS
from tests.inference.scheduling.perfetto import Perfetto, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

COMPLAINTS = "select name, value from stats where value != 0 and severity != 'info'"
NS = 1e9


@pytest.fixture(scope="module")
def recorded(folder: Path, draft: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chunks, drafts, preemptions, an abort and a change of options."""
    path = tmp_path_factory.mktemp("perfetto") / "recording.jsonl"
    options = {"num_kv_blocks": 24, "max_num_batched_tokens": 24, "adaptive_speculation": False, "decode_slowdown": 0}
    run = Run(engine(folder, draft, **options))
    run.engine.record(str(path))
    at: dict[int, list[Any]] = {9: [lambda: run.abort("3")], 14: [lambda: run.configure(max_num_seqs=4)]}
    for i, prompt in enumerate(PROMPTS[4:16]):
        params = SamplingParams(temperature=0, ignore_eos=True, max_tokens=14)
        at.setdefault(i, []).append(lambda i=i, p=prompt, s=params: run.submit(str(i), p, s))
    run.finish(at)
    run.engine.record("")
    return path


@pytest.fixture(scope="module")
def recording(recorded: Path) -> Recording:
    return read(recorded)


@pytest.fixture(scope="module")
def opened(recorded: Path) -> Iterator[Perfetto]:
    output = recorded.with_suffix(".json")
    write_trace(recorded, output)
    with Perfetto(output.read_bytes()) as perfetto:
        yield perfetto


def test_it_has_no_complaint(opened: Perfetto) -> None:
    assert opened.query(COMPLAINTS) == []


def test_its_complaints_would_be_heard() -> None:
    overlapping = [{"name": "x", "ph": "X", "ts": at, "dur": 5, "pid": 1, "tid": 1} for at in (0, 3)]
    with Perfetto(json.dumps({"traceEvents": overlapping}).encode()) as perfetto:
        (complaint,) = perfetto.query(COMPLAINTS)
    assert complaint["value"] == 1
    with pytest.raises(ValueError, match=r"."), Perfetto(b"no trace") as perfetto:
        perfetto.query(COMPLAINTS)


def test_steps_and_their_phases_take_the_time_that_was_measured(opened: Perfetto, recording: Recording) -> None:
    steps = list(recording.steps)
    rows = opened.query(
        "select s.name, s.ts, s.dur from slice s join thread_track k on s.track_id = k.id join thread t using (utid) "
        "where t.name = 'steps' and s.dur > 0 order by s.ts"
    )
    assert [row["name"] for row in rows] == [f"step {step.step}" for step in steps]
    for row, step in zip(rows, steps, strict=True):
        assert row["dur"] == pytest.approx(step.phases.total * NS, abs=2)
        assert row["ts"] + row["dur"] == pytest.approx(step.time * NS, abs=2)
    ((computed),) = opened.query(
        "select sum(s.dur) as ns from slice s join thread_track k on s.track_id = k.id join thread t using (utid) "
        "where t.name = 'phases' and s.name = 'compute'"
    )
    assert computed["ns"] == pytest.approx(sum(step.phases.compute for step in steps) * NS, abs=2 * len(steps))


def test_each_request_has_a_track_whose_chunks_are_its_own(opened: Perfetto, recording: Recording) -> None:
    rows = opened.query(
        "select t.name as session, extract_arg(s.arg_set_id, 'args.request') as request, count(*) as chunks "
        "from slice s join thread_track k on s.track_id = k.id join thread t using (utid) join process p using (upid) "
        "where p.name = 'requests' and s.name glob '* [0-9]*' group by 1, 2"
    )
    given = Counter(d.request_id for step in recording.steps for d in step.decisions)
    assert {row["request"]: row["chunks"] for row in rows} == given
    assert all(row["session"] == f"session of {row['request']}" for row in rows)


def test_a_requests_life_lasts_from_its_arrival_to_its_end(opened: Perfetto, recording: Recording) -> None:
    rows = opened.query(
        "select s.name, s.ts, s.dur, extract_arg(s.arg_set_id, 'args.reason') as reason "
        "from slice s join process_track k on s.track_id = k.id join process p using (upid) where p.name = 'requests'"
    )
    lives = {row["name"]: row for row in rows}
    arrivals = [entry for entry in recording.entries if isinstance(entry, Arrival)]
    assert len(rows) == len(lives) == len(arrivals)
    ends = {output.request_id: step.time for step in recording.steps for output in step.outputs if output.reason}
    for arrival in arrivals:
        life = lives[arrival.request_id]
        assert life["ts"] == pytest.approx(arrival.time * NS, abs=2)
        if arrival.request_id in ends:
            assert life["ts"] + life["dur"] == pytest.approx(ends[arrival.request_id] * NS, abs=2)
    assert lives["3"]["reason"] == "aborted"


def test_counters_follow_batch_and_pool(opened: Perfetto, recording: Recording) -> None:
    rows = opened.query("select k.name, c.value from counter c join track k on k.id = c.track_id order by c.ts")
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["name"], []).append(row["value"])
    steps = list(recording.steps)
    assert found["KV blocks used"] == [step.used_blocks for step in steps]
    assert found["KV blocks cached"] == [step.cached_blocks for step in steps]
    assert found["batch draft"] == [sum(d.drafts for d in step.decisions) for step in steps]
    assert max(found["batch draft"]) > 0
    total = [sum(values) for values in zip(*(found[f"batch {k}"] for k in ("prefill", "decode", "draft")), strict=True)]
    assert total == [sum(d.num_tokens for d in step.decisions) for step in steps]


def test_an_arrow_leads_from_each_preemption_to_the_resumption(opened: Perfetto, recording: Recording) -> None:
    arrows = opened.query(
        "select a.name as start, a.ts + a.dur as until, b.ts as resumed, b.name as chunk, "
        "extract_arg(a.arg_set_id, 'args.request') as out, extract_arg(b.arg_set_id, 'args.request') as back "
        "from flow join slice a on a.id = slice_out join slice b on b.id = slice_in"
    )
    steps = list(recording.steps)
    resumed = [name for i, s in enumerate(steps) for name in s.preempted if _served(name, steps[i:])]
    assert Counter(arrow["out"] for arrow in arrows) == Counter(resumed)
    assert resumed, "nobody was preempted and came back"
    for arrow in arrows:
        assert (arrow["start"], arrow["back"]) == ("preempted", arrow["out"])
        assert arrow["until"] == arrow["resumed"]


def _served(request: str, steps: list[RecordedStep]) -> bool:
    return any(decision.request_id == request for step in steps for decision in step.decisions)
