"""A long prompt beside three sessions: what is measured, on a known clock, and how the engine is left behind."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from inference.bench import intrusion as module
from inference.bench.intrusion import LONG, SESSIONS, Intrusion, intrude
from inference.bench.measure import Spread
from inference.bench.run import Report, bench
from inference.engine.engine import Engine
from inference.errors import RequestError
from inference.model.loader import load
from inference.protocol import EngineConfig, Event, Finished, Started, StepRecord
from tests.inference import tiny

Make = Callable[..., Engine]


class Watched(Engine):
    """An engine that keeps what it said, and whose steps take a second and another for every ten prompt tokens."""

    now = 0.0
    growth = 0.0
    """What each step takes longer than the one before."""

    def submit(self, command: Any) -> list[Event]:
        return self._kept(super().submit(command))

    def abort(self, request_id: str) -> list[Event]:
        return self._kept(super().abort(request_id))

    def step(self) -> list[Event]:
        events = self._kept(super().step())
        record = events[-1]
        assert isinstance(record, StepRecord)
        self.steps_made = getattr(self, "steps_made", 0) + 1
        self.now += 1 + record.prefill_tokens / 10 + self.growth * self.steps_made
        return events

    def perf_counter(self) -> float:
        return self.now

    def _kept(self, events: list[Event]) -> list[Event]:
        self.said = [*getattr(self, "said", []), *events]
        return events


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    def engine(**options: Any) -> Watched:
        given = {"num_kv_blocks": 64, "decode_slowdown": 3, "max_num_batched_tokens": 32} | options
        made = Watched(load(str(tiny.checkpoint(tmp_path))), EngineConfig(**given))
        monkeypatch.setattr(module, "time", made)
        return made

    return engine


def run(engine: Engine, prompt_tokens: int, runs: int = 1) -> Intrusion:
    return intrude(engine, prompt_tokens, 0, runs=runs, avoid=(), progress=lambda what: None)


def check_left_as_it_was(engine: Any) -> None:
    assert {option.name: option.requested for option in engine.options}["decode_slowdown"] == "3"
    assert not engine.has_work
    started = [event.request_id for event in engine.said if isinstance(event, Started)]
    ended = [event.request_id for event in engine.said if isinstance(event, Finished)]
    assert sorted(ended) == sorted(started + [LONG] * (len(ended) - len(started)))
    last = next(event for event in reversed(engine.said) if isinstance(event, StepRecord))
    assert (last.requests, last.blocks.used) == ((), 0)


def test_gaps_and_the_first_token_are_what_the_clock_says(make: Make) -> None:
    engine = make()
    found = run(engine, 100, runs=2)
    # Beside three decodes a step of 32 tokens has 29 of the prompt: 29, 29, 29 and 13.
    assert (found.slowdown, found.prompt_tokens) == (0, 100)
    for spread, value in (
        (found.alone, 1.0),
        (found.beside, 3.9),
        (found.longest, 3.9),
        (found.ratio, 3.9),
        (found.ttft, 3 * 3.9 + 2.3),
    ):
        assert asdict(spread) == pytest.approx({"median": value, "low": value, "high": value})


def test_what_is_compared_with_has_contexts_as_long(make: Make) -> None:
    """Decodes take longer while the prompt is read, for they are longer themselves: that is not the prompt's doing."""
    engine: Any = make()
    engine.growth = 0.05
    found = run(engine, 100)
    records = [event for event in engine.said if isinstance(event, StepRecord)]
    first, *_, last = [i for i, r in enumerate(records, 1) if any(s.session == LONG for s in r.scheduled)]
    before = statistics.median(1 + 0.05 * step for step in range(first - 16, first))
    after = statistics.median(1 + 0.05 * step for step in range(last + 1, last + 17))
    assert found.alone.median == pytest.approx((before + after) / 2)


def test_the_engine_is_left_as_it_was(make: Make) -> None:
    engine: Any = make()
    run(engine, 60, runs=2)
    check_left_as_it_was(engine)
    assert sum(isinstance(event, Started) for event in engine.said) == 2 * (SESSIONS + 1)
    records = [event for event in engine.said if isinstance(event, StepRecord)]
    beside = [r for r in records if any(s.session == LONG for s in r.scheduled)]
    assert beside
    assert all(record.config.decode_slowdown == 0 for record in beside)


def test_a_prompt_that_does_not_fit_is_refused_in_a_sentence(make: Make) -> None:
    engine = make(max_model_len=200)
    with pytest.raises(RequestError, match=r"^[^\n]*500 tokens[^\n]*$"):
        run(engine, 500)
    check_left_as_it_was(engine)


@pytest.mark.parametrize("options", [{"max_model_len": 48}, {"max_num_seqs": 3, "max_model_len": 200}])
def test_sessions_that_end_too_early_are_told(make: Make, options: dict[str, int]) -> None:
    """Their gaps would be of nothing: there is no room for a token more, or no place for the prompt."""
    engine = make(**options)
    with pytest.raises(RequestError, match="raise max_model_len, num_kv_blocks or max_num_seqs"):
        run(engine, 40)
    check_left_as_it_was(engine)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return bench(
        str(tiny.checkpoint(tmp_path_factory.mktemp("model"))),
        EngineConfig(num_kv_blocks=64, decode_slowdown=0),
        prompt_tokens=8,
        gen_tokens=3,
        concurrency=(1,),
        runs=1,
        seed=0,
        long_prompt=40,
        progress=lambda what: None,
    )


def test_the_benchmark_compares_the_shield_with_none(report: Report) -> None:
    assert [(each.slowdown, each.prompt_tokens) for each in report.intrusions] == [(2, 40), (0, 40)]
    for each in report.intrusions:
        assert min(each.alone.median, each.beside.median, each.ttft.median) > 0
        assert each.beside.median <= each.longest.median
        assert each.ratio.median == pytest.approx(each.beside.median / each.alone.median)
    assert {option.name: option.requested for option in report.options}["decode_slowdown"] == "0"


def test_table_and_json_hold_what_was_measured(report: Report) -> None:
    measured = (
        Intrusion(
            2,
            40,
            Spread(0.010, 0.009, 0.011),
            Spread(0.015, 0.014, 0.016),
            Spread(0.021, 0.020, 0.022),
            Spread(1.5, 1.4, 1.6),
            Spread(1.25, 1, 2),
        ),
        replace(report.intrusions[1], beside=Spread(0.5, 0.4, 0.6), slowdown=0),
    )
    known = replace(report, intrusions=measured)
    lines = known.as_table().splitlines()
    at = lines.index("3 sessions are being answered when a prompt of 40 tokens comes:")
    head, shielded, bare = (" ".join(line.split()) for line in lines[at + 2 : at + 5])
    assert head == "decode_slowdown ITL alone ITL beside it ratio longest its TTFT"
    assert shielded == "2 10.0 ms 15.0 ms 1.50 times (1.40 to 1.60) 21.0 ms 1.25 s"
    assert bare.startswith("no limit")
    assert "500.0 ms" in bare
    assert known.as_json()["intrusions"] == [asdict(each) for each in measured]
    assert "comes:" not in replace(report, intrusions=()).as_table()
