"""Decodes at lengths of context: the arithmetic on a known clock, the real steps, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import mlx.core as mx
import pytest

from inference.bench import contexts as module
from inference.bench.contexts import SESSIONS, STEPS, Decoding
from inference.bench.measure import Spread
from inference.bench.run import bench
from inference.errors import ConfigError
from inference.model.loader import load
from inference.ops.kv_store import arrays_of
from inference.protocol import EngineConfig
from tests.inference import tiny

Make = Callable[..., Decoding]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def decoding(kept: str = "auto", runs: int = 2) -> Decoding:
        model = load(str(tiny.checkpoint(tmp_path, head_dim=32))).model
        return Decoding(model, 4, model.kv_format(kept), runs, progress=lambda what: None)

    return decoding


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Steps that take a second and another for every ten tokens of context; returns what was computed."""
    computed: list[tuple[int, ...]] = []

    def step(self: object, contexts: tuple[int, ...]) -> float:
        computed.append(contexts)
        return 1 + sum(contexts) / 10 + max(contexts) / 1000

    monkeypatch.setattr(module._Steps, "__call__", step)
    return computed


def test_speeds_at_lengths_are_what_the_clock_says(make: Make, clock: list[tuple[int, ...]]) -> None:
    short, long = make().at_lengths([10, 90])
    assert (short.context, long.context) == (10, 90)
    assert short.speed == Spread.of([1 / 2.01] * 2)
    assert short.ratio == Spread(1, 1, 1)
    assert long.ratio.low == pytest.approx(2.01 / 10.09)
    assert long.ratio.high == pytest.approx(2.01 / 10.09)
    assert clock == [(10,), (90,)] * (1 + 2 * STEPS)  # in turns


def test_a_mixed_batch_is_compared_with_as_many_tokens_in_equal_parts(make: Make, clock: list[tuple[int, ...]]) -> None:
    found = make().mixed(3, 100)
    assert (found.contexts[0], found.contexts[-1], len(found.contexts)) == (3, 100, SESSIONS)
    mixed, equal = clock[:2]
    assert mixed == found.contexts
    assert sum(equal) == sum(mixed)
    assert max(equal) - min(equal) <= 1
    assert found.ratio.median == pytest.approx(found.mixed.median / found.equal.median)
    assert found.ratio.median > 1


@pytest.mark.parametrize("kept", ["auto", "bfloat16", "int8", "int4"])
def test_real_steps_over_a_cache_of_any_kind(make: Make, kept: str) -> None:
    decoding = make(kept, runs=1)
    assert all(each.speed.median > 0 for each in decoding.at_lengths([1, 5, 33]))
    assert decoding.mixed(1, 30).ratio.median > 0
    steps = module._Steps(decoding, 30)
    assert steps((30,)) > 0
    # It is full, and of numbers that differ.
    for store in (*steps._kv.keys, *steps._kv.values):
        elements = arrays_of(store)[0]
        assert mx.max(elements).item() != mx.min(elements).item()


def test_contexts_beyond_the_model_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    folder = tiny.checkpoint(tmp_path)
    most = load(str(folder)).model.config.max_position_embeddings
    for asked in ({"contexts": (1, most + 1)}, {"mixed": (1, most + 1)}):
        said: list[str] = []
        with pytest.raises(ConfigError, match=f"{most + 1} tokens is more than the model's {most}"):
            bench(
                str(folder),
                EngineConfig(num_kv_blocks=16),
                prompt_tokens=4,
                gen_tokens=2,
                concurrency=[1],
                runs=1,
                seed=0,
                progress=said.append,
                **asked,
            )
        assert not [what for what in said if what.startswith("measuring")]


def test_the_report_says_how_the_cache_was_filled(tmp_path: Path) -> None:
    report = bench(
        str(tiny.checkpoint(tmp_path)),
        EngineConfig(num_kv_blocks=16),
        prompt_tokens=4,
        gen_tokens=2,
        concurrency=[1],
        runs=1,
        seed=0,
        contexts=(4, 20),
        mixed=(2, 9),
        progress=lambda what: None,
    )
    table, data = report.as_table(), report.as_json()
    assert "of that at 4" in table
    assert "16 sessions with 2 to 9 tokens of context" in table
    assert "filled with random keys and values" in table
    assert data["lengths"] == [asdict(each) for each in report.lengths]
    assert data["mixed"] == asdict(report.mixed)
