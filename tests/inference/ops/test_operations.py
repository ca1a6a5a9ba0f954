"""Each implementation of each operation against numpy in float64, over random shapes, types and batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import metal_kernels
from inference.ops import mlx_ops, native, packing, reference
from inference.ops.kv_store import KVFormat
from inference.ops.paged import PagedKV
from inference.ops.table import OPERATIONS
from inference.ops.weights import DenseWeight, QuantizedWeight, Weight, arrange, stack_rows
from tests.inference.ops import oracle
from tests.inference.ops.ragged import Batch, batches

# A result may differ from the exact one by so much of the largest one around it: a few roundings of the type.
TOLERANCE = {mx.float32: 3e-6, mx.float16: 4e-3, mx.bfloat16: 3e-2}
dtypes = st.sampled_from(list(TOLERANCE))
seeds = st.integers(0, 2**32 - 1)
rows = st.integers(1, 20)


class Implementation:
    """The operations of one module; a test of one that it lacks is skipped."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __getattr__(self, operation: str) -> Any:
        if operation not in OPERATIONS:
            raise AttributeError(operation)
        if not hasattr(self.module, operation):
            pytest.skip(f"{self.module.__name__} has no {operation}")
        return getattr(self.module, operation)


LEVELS = () if packing.why_missing() else metal_kernels.native.supported_levels()
IMPLEMENTATIONS = {"reference": reference, "mlx": mlx_ops} | {f"native at {level}": native for level in LEVELS}


@pytest.fixture(params=list(IMPLEMENTATIONS))
def ops(request: pytest.FixtureRequest) -> Iterator[Implementation]:
    """Each implementation; our own kernels for each instruction set of this processor."""
    name: str = request.param
    if IMPLEMENTATIONS[name] is not native:
        yield Implementation(IMPLEMENTATIONS[name])
        return
    module: Any = metal_kernels.native
    best = module.level()
    module.set_level(name.split()[-1])
    yield Implementation(native)
    module.set_level(best)


def property_test(test: Any) -> Any:
    """Some examples of each: the kernels are slow on a CPU, and shapes matter more than numbers."""
    return settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])(test)


def draw_array(seed: int, *shape: int, dtype: mx.Dtype = mx.float32, scale: float = 1.0) -> mx.array:
    return mx.array(scale * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def check(found: mx.array, expected: np.ndarray, dtype: mx.Dtype, factor: float = 1.0) -> None:
    assert found.dtype == dtype
    assert found.shape == expected.shape
    allowed = factor * TOLERANCE[dtype] * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(oracle.wide(found), expected, rtol=0, atol=allowed)


@property_test
@given(rows, st.integers(1, 60), st.integers(1, 60), st.booleans(), dtypes, seeds)
def test_dense_linear(ops: Implementation, t: int, i: int, o: int, bias: bool, dtype: mx.Dtype, seed: int) -> None:
    weight = DenseWeight(draw_array(seed, o, i, dtype=dtype), draw_array(seed, o, dtype=dtype) if bias else None)
    x = draw_array(seed + 1, t, i, dtype=dtype)
    expected = oracle.linear(x, weight)
    check(ops.linear(x, weight), expected, dtype)
    check(ops.linear(x, arrange(weight)), expected, dtype)


@st.composite
def quantized_weights(draw: st.DrawFn, dtype: mx.Dtype = mx.float32) -> QuantizedWeight:
    bits, group_size = draw(st.sampled_from([4, 8])), draw(st.sampled_from([32, 64, 128]))
    outputs, inputs = draw(st.integers(1, 40)), group_size * draw(st.integers(1, 3))
    dense = draw_array(draw(seeds), outputs, inputs, dtype=dtype)
    bias = draw_array(draw(seeds), outputs, dtype=dtype) if draw(st.booleans()) else None
    return QuantizedWeight(*mx.quantize(dense, group_size, bits), bits, group_size, bias)


@property_test
@given(rows, quantized_weights(), seeds)
def test_quantized_linear(ops: Implementation, t: int, weight: QuantizedWeight, seed: int) -> None:
    x = draw_array(seed, t, weight.shape[1])
    # Terms of q * scale and of bias are much larger than the sum, in which they cancel.
    check(ops.linear(x, weight), oracle.linear(x, weight), mx.float32, factor=4)


@property_test
@given(rows, quantized_weights(mx.bfloat16), seeds)
def test_quantized_linear_in_bfloat16(ops: Implementation, t: int, weight: QuantizedWeight, seed: int) -> None:
    x = draw_array(seed, t, weight.shape[1], dtype=mx.bfloat16)
    # Where the elements themselves are rounded to the type, hundreds of such errors add up.
    check(ops.linear(x, weight), oracle.linear(x, weight), mx.bfloat16, factor=2)


@property_test
@given(st.one_of(quantized_weights(), quantized_weights(mx.bfloat16)), st.lists(st.integers(0, 39), min_size=1))
def test_embedding(ops: Implementation, weight: QuantizedWeight, ids: list[int]) -> None:
    ids = [i % weight.shape[0] for i in ids]
    check(ops.embedding(mx.array(ids), weight), oracle.matrix(weight)[ids], weight.dtype)
    dense = arrange(DenseWeight(draw_array(0, *weight.shape, dtype=weight.dtype)))
    assert np.array_equal(oracle.wide(ops.embedding(mx.array(ids), dense)), oracle.matrix(dense)[ids])


@property_test
@given(rows, st.integers(1, 130), dtypes, st.sampled_from([1e-6, 1e-5]), st.sampled_from([1e-4, 1.0, 1e3]), seeds)
def test_rms_norm(ops: Implementation, t: int, e: int, dtype: mx.Dtype, eps: float, scale: float, seed: int) -> None:
    """Squares of 1000 overflow float16, so they have to be summed in float32."""
    x = draw_array(seed, t, e, dtype=dtype, scale=scale)
    weight = draw_array(seed + 1, e, dtype=dtype)
    check(ops.rms_norm(x, weight, eps), oracle.rms_norm(x, weight, eps), dtype)


@property_test
@given(rows, st.integers(1, 130), dtypes, st.sampled_from([1e-4, 1.0, 1e3]), seeds)
def test_add_rms_norm(ops: Implementation, t: int, e: int, dtype: mx.Dtype, scale: float, seed: int) -> None:
    """The sum is rounded once, to what comes after as well, and is then normalized like any row."""
    x, added = (draw_array(seed + i, t, e, dtype=dtype, scale=scale) for i in range(2))
    weight = draw_array(seed + 2, e, dtype=dtype)
    normed, total = ops.add_rms_norm(x, added, weight, 1e-6)
    assert mx.array_equal(total, x + added)
    check(normed, oracle.rms_norm(x + added, weight, 1e-6), dtype)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_add_rms_norm_of_what_has_gaps(ops: Implementation, dtype: mx.Dtype) -> None:
    wide, weight = draw_array(0, 6, 3 * 64, dtype=dtype), draw_array(1, 64, dtype=dtype)
    x, added = wide[::2, 64:128], wide[1::2, :64]
    normed, total = ops.add_rms_norm(x, added, weight, 1e-6)
    assert mx.array_equal(total, x + added)
    check(normed, oracle.rms_norm(x + added, weight, 1e-6), dtype)


@property_test
@given(
    st.lists(st.integers(0, 4096), min_size=1, max_size=20),
    st.integers(1, 5),
    st.sampled_from([2, 16, 40, 64, 128]),
    st.sampled_from([1e4, 1e6]),
    dtypes,
    seeds,
)
def test_rope(
    ops: Implementation, positions: list[int], h: int, d: int, theta: float, dtype: mx.Dtype, seed: int
) -> None:
    x = draw_array(seed, len(positions), h, d, dtype=dtype)
    where = mx.array(positions)
    # An angle is a product in float32, off by 2^-24 of itself: 2.4e-4 at position 4096.
    expected = oracle.rope(x, where, theta)
    check(ops.rope(x, where, theta), expected, dtype, factor=100 if dtype == mx.float32 else 1)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_rope_far_out(ops: Implementation, dtype: mx.Dtype) -> None:
    """There is no table to run off the end of, and positions are not rounded to the type of x."""
    x = draw_array(0, 2, 2, 64, dtype=dtype)
    where = mx.array([32767, 131071])
    check(ops.rope(x, where, 1e6), oracle.rope(x, where, 1e6), dtype, factor=5e3 if dtype == mx.float32 else 4)


@property_test
@given(rows, st.integers(1, 90), dtypes, st.sampled_from([1.0, 30.0]), seeds)
def test_silu_mul(ops: Implementation, t: int, i: int, dtype: mx.Dtype, scale: float, seed: int) -> None:
    both = draw_array(seed, t, 2 * i, dtype=dtype, scale=scale)
    gate, up = mx.split(both, 2, axis=-1)
    check(ops.silu_mul(gate, up), oracle.silu_mul(gate, up), dtype)


@property_test
@given(batches(), dtypes, seeds)
def test_write_kv(ops: Implementation, batch: Batch, dtype: mx.Dtype, seed: int) -> None:
    """Each token lands in its slot, and no other slot changes."""
    kv = PagedKV.allocate(2, batch.num_blocks, batch.block_size, 2, 4, KVFormat(dtype))
    layout = batch.layout()
    k, v = (draw_array(seed + i, layout.num_tokens, 2, 4, dtype=dtype) for i in range(2))
    ops.write_kv(kv, 1, k, v, layout)
    for pool, new in ((kv.keys, k), (kv.values, v)):
        expected = np.zeros((batch.num_blocks * batch.block_size, 2, 4))
        expected[layout.slots.tolist()] = oracle.wide(new)
        assert np.array_equal(oracle.wide(pool[1]).reshape(expected.shape), expected)
        assert not pool[0].any().item()


@property_test
@given(batches(), st.sampled_from([(1, 1), (4, 4), (4, 2), (7, 1), (14, 2)]), st.sampled_from([8, 40]), dtypes, seeds)
def test_paged_attention(
    ops: Implementation, batch: Batch, heads: tuple[int, int], size: int, dtype: mx.Dtype, seed: int
) -> None:
    layout = batch.layout()
    q = draw_array(seed, layout.num_tokens, heads[0], size, dtype=dtype)
    keys, values = (
        draw_array(seed + i, batch.num_blocks, batch.block_size, heads[1], size, dtype=dtype) for i in (1, 2)
    )
    expected = oracle.paged_attention(q, keys, values, batch, size**-0.5)
    check(ops.paged_attention(q, keys, values, layout, size**-0.5), expected, dtype)


@pytest.mark.parametrize(("heads", "size"), [((14, 2), 64), ((6, 3), 32), ((40, 2), 64), ((8, 8), 128), ((7, 1), 40)])
@pytest.mark.parametrize("queries", [(1,), (1, 5, 1, 40), (2, 1)])
def test_long_contexts_are_shared_out_among_threads(
    ops: Implementation, heads: tuple[int, int], size: int, queries: tuple[int, ...]
) -> None:
    """In parts that end anywhere in a block, of contexts of many lengths."""
    contexts = (3001, 1200, 641, 77)[: len(queries)]
    counts = [-(-context // 16) for context in contexts]
    order = np.random.default_rng(1).permutation(sum(counts)).tolist()
    tables = tuple(tuple(order[sum(counts[:i]) : sum(counts[: i + 1])]) for i in range(len(counts)))
    batch = Batch(queries, contexts, tables, 16, sum(counts))
    q = draw_array(2, sum(queries), heads[0], size)
    keys, values = (draw_array(seed, batch.num_blocks, 16, heads[1], size) for seed in (3, 4))
    expected = oracle.paged_attention(q, keys, values, batch, size**-0.5)
    check(ops.paged_attention(q, keys, values, batch.layout(), size**-0.5), expected, mx.float32)


@property_test
@given(batches(), seeds)
def test_a_sequence_is_blind_to_the_blocks_of_others(ops: Implementation, batch: Batch, seed: int) -> None:
    """Not even a NaN in another sequence's blocks, or in one that nobody owns, reaches it."""
    layout = batch.layout()
    q = draw_array(seed, layout.num_tokens, 4, 8)
    keys, values = (draw_array(seed + i, batch.num_blocks, batch.block_size, 2, 8) for i in (1, 2))
    before = ops.paged_attention(q, keys, values, layout, 0.3)
    foreign = sorted(set(range(batch.num_blocks)) - set(batch.tables[0]))
    for pool in (keys, values):
        pool[mx.array(foreign)] = mx.nan
    after = ops.paged_attention(q, keys, values, layout, 0.3)
    own = batch.query_lens[0]
    assert np.array_equal(np.array(before[:own]), np.array(after[:own]))


@pytest.mark.parametrize("queries", [1, 5, 40])
def test_a_key_that_is_no_number_is_not_passed_over(ops: Implementation, queries: int) -> None:
    """An answer without that token would look right: broken weights have to be seen."""
    batch = Batch((queries,), (60,), ((2, 0, 3, 1),), 16, 4)
    q = draw_array(1, queries, 4, 8)
    keys, values = (draw_array(seed, 4, 16, 2, 8) for seed in (2, 3))
    keys[0, 3, 0, 5] = mx.nan  # its position is 19: all of the queries see it
    found = oracle.wide(ops.paged_attention(q, keys, values, batch.layout(), 0.3))
    assert np.isnan(found[:, :2]).all()
    assert np.isfinite(found[:, 2:]).all()


@st.composite
def neighbours(draw: st.DrawFn) -> list[Weight]:
    """Weights of one input size, of one kind or of several."""
    kinds = draw(st.lists(st.sampled_from([(16, 0), (4, 32), (4, 64), (8, 64)]), min_size=1, max_size=3))
    if draw(st.booleans()):
        kinds = [kinds[0]] * len(kinds)
    weights: list[Weight] = []
    for bits, group_size in kinds:
        outputs = draw(st.integers(1, 9))
        dense = draw_array(draw(seeds), outputs, 64)
        bias = draw_array(draw(seeds), outputs) if draw(st.booleans()) else None
        if bits == 16:
            weights.append(DenseWeight(dense, bias))
        else:
            weights.append(QuantizedWeight(*mx.quantize(dense, group_size, bits), bits, group_size, bias))
    return weights


@property_test
@given(neighbours(), seeds)
def test_stacked_rows_compute_the_same(ops: Implementation, weights: list[Weight], seed: int) -> None:
    x = draw_array(seed, 3, 64)
    stacked = stack_rows(weights)
    alike = len({type(w) if isinstance(w, DenseWeight) else (w.bits, w.group_size) for w in weights}) == 1
    assert len(stacked) == (1 if alike else len(weights))
    found = mx.concatenate([ops.linear(x, arrange(w)) for w in stacked], axis=-1)
    check(found, np.concatenate([oracle.linear(x, w) for w in weights], axis=-1), mx.float32, factor=4)
    assert sum(w.nbytes for w in stacked) >= sum(w.nbytes for w in weights)
