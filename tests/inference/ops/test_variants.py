"""What a GPU's kernels are tried on: everything that a model launches, and times that mean something."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.ops import proof, stopwatch
from inference.ops.cases import STEPS, Case, Product
from inference.ops.demands import ORDINARY, Demands
from inference.ops.packing import why_missing
from inference.ops.proof import filed_under
from inference.ops.variants import checks, heats

pytestmark = pytest.mark.skipif(bool(why_missing()), reason="no native kernels here")

# Qwen2.5-0.5B, Qwen2.5-7B and the demo model's width, in formats of their own.
MODELS = {
    "half": Demands(896, 4864, 14, 2, 64, 151936, ((4, 64),), "bfloat16", "bfloat16"),
    "seven": Demands(3584, 18944, 28, 4, 128, 152064, ((0, 0), (8, 64)), "float16", "int8"),
    "little": Demands(256, 768, 4, 4, 64, 4096, ((4, 32),), "float32", "float32"),
}


@pytest.fixture(autouse=True, scope="module")
def _on_a_gpu() -> Iterator[None]:
    """Nothing is computed there."""
    from metal_kernels import _native

    _native.run_launches_by(lambda launch, buffers: None)
    yield
    _native.run_launches_by(None)


def _variant(launch: Any) -> tuple[Any, ...]:
    return launch.kernel, tuple(sorted(launch.constants.items()))


TYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


def _of_product(demands: Demands, rows: int, outputs: int, inputs: int, bias: bool) -> set[tuple[Any, ...]]:
    from metal_kernels._native import MetalLaunches

    bits, group = demands.matrices[-1]
    plan = MetalLaunches.quantized(TYPES[demands.dtype], bits, group, rows, outputs, inputs, bias)
    return {_variant(each) for each in (plan.multiply, plan.sum) if each}


def _of_attention(demands: Demands, query_lens: tuple[int, ...], context_lens: tuple[int, ...]) -> set[tuple[Any, ...]]:
    from metal_kernels._native import MetalLaunches

    kept = demands.kv if demands.kv.startswith("int") else "float"
    shape = (demands.heads, demands.kv_heads, demands.head_size, 16, 600, demands.heads * demands.head_size, 1.0)
    plans = MetalLaunches.attention(TYPES[demands.dtype], kept, *shape, query_lens, context_lens)
    return {_variant(each) for plan in plans for each in (plan.attend, plan.merge) if each}


@pytest.mark.parametrize("name", MODELS)
def test_whatever_a_product_launches_was_tried(name: str) -> None:
    demands = MODELS[name]
    tried: set[tuple[Any, ...]] = set()
    for case in checks("linear", demands):
        assert case.product
        tried |= _of_product(demands, case.step.rows, case.product.outputs, case.product.inputs, case.product.bias)
    heads, keys = demands.heads * demands.head_size, demands.kv_heads * demands.head_size
    shapes = (
        (heads + 2 * keys, demands.hidden, True),
        (demands.hidden, heads, False),
        (2 * demands.inner, demands.hidden, False),
        (demands.hidden, demands.inner, False),
        (demands.vocabulary, demands.hidden, False),
    )
    for rows in range(1, 513):
        for shape in shapes:
            assert _of_product(demands, rows, *shape) <= tried, (rows, shape)
    assert len(checks("linear", demands)) <= 20


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 8000)), min_size=1, max_size=8))
def test_whatever_attention_launches_was_tried(name: str, sequences: list[tuple[int, int]]) -> None:
    demands = MODELS[name]
    tried = {
        variant
        for case in checks("paged_attention", demands)
        for variant in _of_attention(demands, case.step.query_lens, case.step.context_lens)
    }
    queries = tuple(query for query, _ in sequences)
    assert _of_attention(demands, queries, tuple(query + before for query, before in sequences)) <= tried


def test_a_gpu_s_verdicts_are_of_real_widths() -> None:
    half, wider = MODELS["half"], replace(MODELS["half"], hidden=1536, inner=8960, heads=12)
    assert filed_under("linear", half) != filed_under("linear", wider)
    decode, decodes, prefill, head = heats("linear", half)
    assert [heat.rows for heat in (decode, decodes, prefill, head)] == [1, 8, 256, 1]
    assert [case.product.inputs for case in decode.cases if case.product] == [896, 896, 896, 4864]
    assert [case.product.outputs for case in head.cases if case.product] == [151936]


def test_the_cpu_is_tried_on_little(monkeypatch: pytest.MonkeyPatch) -> None:
    from metal_kernels import _native

    _native.run_launches_by(None)
    try:
        for operation in ("linear", "paged_attention", "rope"):
            assert checks(operation, ORDINARY) == tuple(map(Case, STEPS))
        assert filed_under("rms_norm", MODELS["half"]) == filed_under("rms_norm", MODELS["seven"]).replace(
            "float16", "bfloat16"
        )
    finally:
        _native.run_launches_by(lambda launch, buffers: None)


@given(st.floats(1e-6, 1.0))
def test_short_computations_are_timed_many_at_once(seconds: float) -> None:
    now, before = 0.0, stopwatch.clock

    def run() -> None:
        nonlocal now
        now += seconds

    stopwatch.clock = lambda: now
    try:
        count = stopwatch.repeats(run)
    finally:
        stopwatch.clock = before
    assert 1 <= count <= 100
    assert count == 1 or count * seconds <= 0.0101
    assert count == 100 or (count + 1) * seconds >= 0.0099


def test_repeated_computations_wait_for_each_other() -> None:
    """Side by side, a GPU would hide how long each takes."""
    seen: list[mx.array] = []

    def thunk(after: Any) -> list[mx.array]:
        seen.append(2 * after(mx.array([[1.0, 3.0]])))
        return [seen[-1]]

    proof._run(thunk, 4)
    # Each input is [1, 3] and the first number of what was before.
    assert [each.tolist() for each in seen] == [[[2, 6]], [[6, 10]], [[14, 18]], [[30, 34]]]


def test_products_of_parts_of_groups_are_not_ours() -> None:
    odd = replace(MODELS["little"], inner=100)
    products = {case.product for case in checks("linear", odd)}
    assert not {product for product in products if product and product.inputs == 100}
    assert Product(200, 256, False, (4, 32)) in {case.product for heat in heats("linear", odd) for case in heat.cases}
