"""What a step costs at the least, counted in two ways, and the probes of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

import metal_kernels
from inference.bench import limits
from inference.bench.limits import Efficiency, Limits, Work, measure_limits
from inference.bench.measure import Result, Spread
from inference.bench.workload import Workload
from inference.model.loader import load
from inference.protocol import PhaseTimes
from tests.inference import tiny


@pytest.mark.parametrize("tied", [True, False])
def test_a_step_reads_all_weights_but_those_that_are_looked_up(tmp_path: Path, tied: bool) -> None:
    # Our own kernels fill the last tile of rows up.
    loaded = load(str(tiny.checkpoint(tmp_path, tie_word_embeddings=tied)), kernels="mlx")
    work = Work.of(loaded, loaded.info.kv_bytes_per_token)
    embedding = 331 * 64 * 4
    assert work.weight_bytes == loaded.info.num_parameters * 4
    assert work.embedding_bytes == (0 if tied else embedding)
    per_token = 2 * 2 * 2 * 16 * 4
    assert work.step_bytes(100) - work.step_bytes(0) == 100 * per_token


def test_operations_are_two_for_each_weight_and_token(tmp_path: Path) -> None:
    """And those of attention: a score and a weighted value for each query head, key and dimension."""
    loaded = load(str(tiny.checkpoint(tmp_path, tie_word_embeddings=False)))
    work = Work.of(loaded, loaded.info.kv_bytes_per_token)
    vectors = 2 * (2 * 64 + 64 + 2 * 32) + 64  # norms and biases of two layers, last norm: no multiplications here
    matrices = loaded.info.num_parameters - vectors - 331 * 64
    assert work.operations(1, 0, 1) == 2 * matrices
    assert work.operations(7, 0, 0) == 2 * 7 * (matrices - 331 * 64)
    assert work.operations(1, 10, 1) - work.operations(1, 0, 1) == 2 * 2 * 10 * 64 * 2


def test_shares_are_of_the_limits(tmp_path: Path) -> None:
    loaded = load(str(tiny.checkpoint(tmp_path)))
    work = Work.of(loaded, loaded.info.kv_bytes_per_token)
    speed = Spread(50.0, 50.0, 50.0)
    result = Result(Workload(8, 4, 5), *[speed] * 6, steps=1, phases=PhaseTimes())
    found = Efficiency.of(result, work, Limits(work.step_bytes(50) * 20, work.operations(5, 50, 5) * 40, "test"))
    assert found.read_share == pytest.approx(0.5)  # 50 tokens a second of 5 sessions are 10 steps
    assert found.decode_share == pytest.approx(0.25)


@pytest.mark.parametrize("activations", ["exact", "bfloat16", "int8"])
def test_probes_measure_something(monkeypatch: pytest.MonkeyPatch, activations: str) -> None:
    monkeypatch.setattr(limits, "_READ_BYTES", 16 << 20)
    found = measure_limits(activations)
    assert 1e8 < found.read_bandwidth < 1e13
    assert 1e8 < found.peak < 1e15
    assert ("int8" in found.peak_of) == (activations == "int8" and metal_kernels.native is not None)


def test_without_native_kernels_mlx_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metal_kernels, "native", None)
    monkeypatch.setattr(limits, "_READ_BYTES", 1 << 20)
    monkeypatch.setattr(limits, "_MATRIX", 64)
    found = measure_limits()
    assert found.read_bandwidth > 0
    assert "float32" in found.peak_of
