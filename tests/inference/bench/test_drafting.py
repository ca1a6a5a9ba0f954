"""Ways to draft, compared: who is measured, what is counted, on a known clock, and how the engine is left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference.bench import drafting as module
from inference.bench.drafting import LEAST, PLAIN, QUESTIONS, DraftingReport, Measured, compare_ways, ways
from inference.engine.engine import Engine
from inference.errors import ConfigError, RequestError
from inference.model.loader import load
from inference.protocol import EngineConfig, Event, StepRecord
from tests.inference import tiny

Make = Callable[..., Any]
CHAT = "{% for m in messages %}{{ m.content }}{% endfor %}"
"""A short prompt: what is measured here is not reading it."""


class Watched(Engine):
    """An engine that keeps its records, and whose steps take a second."""

    now = 0.0

    def step(self) -> list[Event]:
        events = super().step()
        record = events[-1]
        assert isinstance(record, StepRecord)
        self.records = [*getattr(self, "records", []), record]
        self.now += 1
        return events

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def make(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    def engine(*, draft: bool = True, **options: Any) -> Watched:
        given = {"num_kv_blocks": 256, "max_num_seqs": 5, "num_speculative_tokens": 3} | options
        model = load(str(tiny.checkpoint(checkpoints, chat_template=CHAT)))
        # The model drafts for itself: every draft is right.
        made = Watched(model, EngineConfig(**given), model if draft else None)
        monkeypatch.setattr(module, "time", made)
        return made

    return engine


def run(engine: Engine, sessions: int = 2, temperature: float = 0.0, **options: Any) -> dict[str, Measured]:
    asked = {"gen_tokens": 12, "runs": 1, "seed": 0} | options
    found = compare_ways(
        engine, concurrency=(sessions,), temperatures=(temperature,), progress=lambda what: None, **asked
    )
    return {each.way.name: each for each in found}


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_every_way_gives_the_same_answers_in_its_own_number_of_steps(make: Make, temperature: float) -> None:
    found = run(make(), temperature=temperature)
    assert list(found) == [way.name for way in ways(draft=True, most=3)]
    assert all(each.other_answers == 0 and each.answers == LEAST for each in found.values())
    plain = found.pop("plain")
    assert (plain.tokens_per_decode, plain.depth, plain.acceptance) == (1, 0, ())
    # A second for each step, and two sessions in each.
    assert plain.decode_speed.median == 2
    for depth in module.DEPTHS:
        always = found[f"draft, always {depth}"]
        assert always.acceptance == (1,) * depth
        assert always.depth == depth
        # The ends of answers are cut off, and nothing else.
        assert depth < always.tokens_per_decode + 1 <= depth + 2
        assert always.decode_ratio.median == pytest.approx(always.decode_speed.median / 2)
        assert always.decode_ratio.median > 1
    assert found["draft, up to 3"].reason


def test_without_a_draft_model_there_are_n_grams(make: Make) -> None:
    assert list(run(make(draft=False))) == ["plain", "ngram, always 3", "ngram, up to 3"]


def test_full_steps_alone_count_for_the_speed_of_decoding(make: Make) -> None:
    """Twelve questions by five at a time: the last two are alone."""
    plain = run(make(draft=False), sessions=5)["plain"]
    assert plain.decode_speed.median == 5
    assert plain.total_speed.median < 5


def test_the_engine_is_left_as_it_was(make: Make) -> None:
    engine = make(speculation="ngram", adaptive_speculation=False)
    before = engine.options
    run(engine, sessions=3, runs=2)
    assert engine.options == before
    assert not engine.has_work
    assert max(len(record.scheduled) for record in engine.records) == 3


def test_it_is_left_as_it_was_after_a_refusal(make: Make) -> None:
    engine = make(max_model_len=16)
    before = engine.options
    with pytest.raises(RequestError, match="tokens"):
        run(engine)
    assert engine.options == before
    assert not engine.has_work


def test_where_nothing_can_be_drafted_it_says_so(make: Make) -> None:
    with pytest.raises(ConfigError, match="with kv_layout none nothing can be drafted"):
        run(make(kv_layout="none"))


def test_the_questions_are_distinct() -> None:
    assert len(set(QUESTIONS)) == len(QUESTIONS) >= 2 * 16
    assert all(question.strip() == question != "" for question in QUESTIONS)


def test_table_and_json_hold_what_was_measured(make: Make) -> None:
    engine = make()
    results = tuple(run(engine).values())
    results = (*results[:-1], replace(results[-1], other_answers=2, reason="because"))
    report = DraftingReport(engine.model_info, engine.options, 1, 12, results)
    parsed = json.loads(json.dumps(report.as_json()))
    assert [each["way"]["name"] for each in parsed["results"]] == [each.way.name for each in results]
    assert parsed["results"][1]["acceptance"] == [1, 1]
    lines = [" ".join(line.split()) for line in report.as_table().splitlines()]
    at = lines.index("2 sessions, temperature 0:")
    assert lines[at + 3].startswith("plain 2.0 (2.0 to 2.0) 1.00 0.0 0%")
    assert lines[at + 4].startswith("draft, always 2 ")
    assert lines[at + 4].endswith("100 100")
    assert "ngram, up to 3: because" in lines
    assert any(line.startswith("ngram, up to 3: 2 of 12 answers are not plain decoding's") for line in lines)
    assert PLAIN.name not in [line.partition(":")[0] for line in lines]
