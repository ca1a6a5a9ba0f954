"""What an engine did, recorded: replaying it gives the same decisions and tokens, or says where it does not."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.bench.recompute import recompute
from inference.bench.recordings import CHANGED, PREDICTED, RECORDED, MadeUp, replayed, under, write_trace
from inference.engine.batch import Batch
from inference.errors import ConfigError
from inference.protocol import Recorded, SamplingParams
from inference.scheduling.recording import Arrival, RecordedStep, read
from tests.inference.engine.harness import GREEDY, Run, engine, reference_tokens
from tests.inference.engine.test_lossless import PROMPTS, histories


def begin(run: Run, path: Path) -> None:
    (event,) = run.engine.record(str(path))
    assert event == Recorded(str(path), True)


def end(run: Run, path: Path) -> None:
    (event,) = run.engine.record("")
    assert event == Recorded(str(path), False)


def record(folder: Path, path: Path, history: dict[str, Any], draft: Path | None = None, start: int = 0) -> Run:
    """Run a history of arrivals, aborts and changes, and record it from before step `start` on."""
    run = Run(engine(folder, draft, **history["options"]))
    at: dict[int, list[Any]] = {start: [lambda: run.take(run.engine.record(str(path)))]}
    for i, (prompt, max_tokens, step) in enumerate(history["requests"]):
        # Every third draws its own seed, and is sampled.
        params = SamplingParams(temperature=0.9 if i % 3 == 0 else 0, ignore_eos=True, max_tokens=max_tokens)
        at.setdefault(step, []).append(lambda i=i, p=prompt, s=params: run.submit(str(i), p, s))
    for request, step in history["aborts"]:
        at.setdefault(step, []).append(lambda r=str(request): run.abort(r))
    for changes, step in history["changes"]:
        at.setdefault(step, []).append(lambda c=changes: run.configure(**c))
    run.finish(at)
    end(run, path)
    return run


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories(), start=st.just(0) | st.integers(1, 40))
def test_any_history_is_repeated_decision_by_decision_and_token_by_token(
    folder: Path, draft: Path, tmp_path: Path, history: dict[str, Any], start: int
) -> None:
    """From the first step on or from a later one, with answers under way."""
    path = tmp_path / "recording.jsonl"
    run = record(folder, path, history, draft, start)
    outcome = replayed(path)
    assert outcome.difference == ""
    entries = read(path).entries
    assert outcome.steps == sum(isinstance(entry, RecordedStep) for entry in entries)
    again = recompute(str(folder), path)
    assert again.difference == ""
    before = sum(len(entry.output_ids) for entry in entries if isinstance(entry, Arrival))
    ended = {r for record in run.records for r, _ in record.finished} - {
        entry.request_id for entry in entries if isinstance(entry, Arrival)
    }
    told = {name: len(outcome.token_ids) for name, outcome in run.outcomes.items() if name not in ended}
    assert again.tokens == sum(told.values()) - before


@pytest.fixture
def recording(folder: Path, tmp_path: Path) -> Path:
    """Preemptions, shared prefixes and an abort."""
    path = tmp_path / "recording.jsonl"
    options = {"block_size": 4, "num_kv_blocks": 20, "max_num_batched_tokens": 24, "decode_slowdown": 0}
    requests = [(prompt, 9, i // 2) for i, prompt in enumerate(PROMPTS[4:14])]
    record(folder, path, {"options": options, "requests": requests, "aborts": [(3, 9)], "changes": []})
    return path


def rewritten(path: Path, change: Any) -> Path:
    """The recording with `change` applied to each of its lines as a value."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("\n".join(json.dumps(each) for each in map(change, lines)) + "\n")
    return path


def test_another_configuration_is_another_sequence_of_decisions(recording: Path) -> None:
    def smaller(line: Any) -> Any:
        if "config" in line:
            line["config"]["max_num_batched_tokens"] = 8
        return line

    outcome = replayed(rewritten(recording, smaller))
    assert "step 1 gave" in outcome.difference
    assert outcome.steps == 0


def test_a_token_that_differs_is_named(folder: Path, recording: Path) -> None:
    def other(line: Any) -> Any:
        if line.get("step", {}).get("step") == 5:
            line["step"]["outputs"][0]["token_id"] = 1
        return line

    found = recompute(str(folder), rewritten(recording, other))
    assert "step 5 gave" in found.difference
    assert "token 1, and now token" in found.difference


def test_a_recording_may_begin_in_the_middle_of_answers_and_these_stay_as_they_were(
    folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.jsonl"
    run = Run(engine(folder))
    prompts = {"a": tuple(range(9)), "b": tuple(range(30, 51))}
    for name, prompt in prompts.items():
        run.submit(name, prompt, SamplingParams(temperature=0, ignore_eos=True, max_tokens=12))
    for _ in range(4):
        run.step()
    had = {name: len(outcome.token_ids) for name, outcome in run.outcomes.items()}
    assert all(had.values())
    (begun,) = run.engine.record(str(path))
    assert begun == Recorded(str(path), True, "2 answers under way: computed again from the start")
    assert run.step().prefill_tokens == sum(len(prompts[name]) + had[name] for name in prompts)
    run.finish()
    end(run, path)
    for name, prompt in prompts.items():
        assert tuple(run.outcomes[name].token_ids) == reference_tokens(folder, prompt, 12)
    arrivals = [entry for entry in read(path).entries if isinstance(entry, Arrival)]
    assert {a.request_id: len(a.output_ids) for a in arrivals} == had
    found = dict(under(path, {}, None).outcomes)
    assert found[PREDICTED].output_tokens == found[RECORDED].output_tokens == 24 - sum(had.values())


def test_no_recording_begins_while_a_failed_step_is_being_looked_into(folder: Path, tmp_path: Path) -> None:
    run = Run(engine(folder))
    for name in "ab":
        run.submit(name, (1, 2, 3), GREEDY)
    whole, run.engine._runner.compute = run.engine._runner.compute, failing  # type: ignore[method-assign]
    run.step()
    run.engine._runner.compute = whole  # type: ignore[method-assign]
    (refused,) = run.engine.record(str(tmp_path / "x.jsonl"))
    assert not refused.active
    assert "a step has failed" in refused.message
    assert not (tmp_path / "x.jsonl").exists()
    assert run.engine.record("") == []


def failing(batch: Batch) -> None:
    raise RuntimeError("the device is lost")


def test_a_file_that_can_not_be_written_is_said(folder: Path, tmp_path: Path) -> None:
    (refused,) = Run(engine(folder)).engine.record(str(tmp_path / "nowhere" / "x.jsonl"))
    assert "can't be written" in refused.message
    assert not refused.active


def test_a_full_disk_ends_the_recording_and_not_the_answers(folder: Path, tmp_path: Path) -> None:
    run = Run(engine(folder))
    begin(run, tmp_path / "x.jsonl")

    class Full:
        def write(self, text: str) -> None:
            raise OSError("no space left on device")

        def flush(self) -> None: ...
        def close(self) -> None: ...

    run.engine._recorder._file = Full()  # type: ignore[union-attr, assignment]
    run.submit("a", (1, 2, 3), SamplingParams(temperature=0, ignore_eos=True, max_tokens=3))
    events = run.engine.step()
    (ended,) = [event for event in events if isinstance(event, Recorded)]
    assert "no space left" in ended.message
    run.take(events)
    run.finish()
    assert len(run.outcomes["a"].token_ids) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("hello\n", "is no recording"),
        ('{"glasschat": 99}\n', "only format 1"),
        ("{}\n", "is no recording"),
    ],
)
def test_what_is_no_recording_is_refused_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        replayed(path)
    with pytest.raises(ConfigError, match="can't be read"):
        replayed(tmp_path / "missing.jsonl")


def test_a_broken_line_is_named_and_a_cut_last_line_is_forgiven(recording: Path) -> None:
    whole = replayed(recording)
    text = recording.read_text()
    recording.write_text(text[:-20])
    assert replayed(recording).steps in (whole.steps, whole.steps - 1)
    lines = text.splitlines()
    recording.write_text("\n".join([*lines[:3], "{}", *lines[3:]]))
    with pytest.raises(ConfigError, match="line 4"):
        replayed(recording)


# --- what if ---


def test_a_prediction_for_what_was_recorded_takes_the_same_decisions(recording: Path) -> None:
    """All arrivals put at the start, so that no error in the times moves one to another step."""

    def at_once(line: Any) -> Any:
        if "arrival" in line:
            line["arrival"]["time"] = 0.0
        return line

    found = under(rewritten(recording, at_once), {}, None)
    outcomes = dict(found.outcomes)
    assert list(outcomes) == [RECORDED, PREDICTED]
    assert outcomes[PREDICTED].requests == outcomes[RECORDED].requests
    assert outcomes[PREDICTED].output_tokens == outcomes[RECORDED].output_tokens
    assert found.error is not None
    assert found.error < 1


def test_more_budget_means_fewer_steps(recording: Path) -> None:
    found = under(recording, {"max_num_batched_tokens": 200, "num_kv_blocks": 200}, None)
    outcomes = dict(found.outcomes)
    assert outcomes[CHANGED].steps < outcomes[PREDICTED].steps
    assert outcomes[CHANGED].preemptions == 0


@pytest.mark.slow
def test_ten_thousand_requests_a_thousand_at_once(recording: Path) -> None:
    changes = {"num_kv_blocks": 60_000, "max_num_batched_tokens": 8192, "decode_slowdown": 0}
    found = under(recording, changes, MadeUp(10_000, 1000, 256, 64))
    ((_, outcome),) = found.outcomes
    assert outcome.requests == 10_000
    assert outcome.refused == 0
    assert outcome.output_tokens > 10_000 * 32


# --- traces ---


def test_a_trace_holds_steps_requests_counters_and_arrows(recording: Path, tmp_path: Path) -> None:
    output = tmp_path / "trace.json"
    count = write_trace(recording, output)
    events = json.loads(output.read_text())["traceEvents"]
    assert len(events) == count
    steps = [entry for entry in read(recording).entries if isinstance(entry, RecordedStep)]
    arrivals = [entry for entry in read(recording).entries if isinstance(entry, Arrival)]
    kinds = Counter(event["ph"] for event in events)
    assert kinds["b"] == kinds["e"] == len(arrivals)
    assert sum(event["name"].startswith("step ") for event in events) == len(steps)
    assert kinds["C"] == 2 * len(steps)
    preempted = sum(len(step.preempted) for step in steps)
    assert preempted > 0
    begun = {event["id"] for event in events if event["ph"] == "s"}
    ended = {event["id"] for event in events if event["ph"] == "f"}
    assert sum(event["name"] == "preempted" for event in events if event["ph"] == "X") == preempted
    assert begun == ended
    assert len(ended) >= preempted - 1, "all but the one that was aborted came back"
    assert all(event["dur"] >= 0 for event in events if event["ph"] == "X")
    tracks = {(event["pid"], event["tid"]) for event in events if event["ph"] == "M"}
    assert {(event["pid"], event["tid"]) for event in events if event["ph"] in "Xbe"} <= tracks
