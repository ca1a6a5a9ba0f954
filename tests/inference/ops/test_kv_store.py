"""The KV cache in integers: what is lost, what every implementation agrees on, and what is refused."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import ConfigError
from inference.ops import mlx_ops, native, packing, reference
from inference.ops.kv_store import GROUP, GroupedStore, KVFormat, from_groups, take_blocks, to_groups
from inference.ops.paged import PagedKV
from tests.inference.ops import oracle
from tests.inference.ops.ragged import Batch, batches
from tests.inference.ops.test_operations import TOLERANCE, draw_array, seeds

IMPLEMENTATIONS: list[Any] = [reference, mlx_ops] if packing.why_missing() else [reference, mlx_ops, native]
bits = st.sampled_from([4, 8])
dtypes = st.sampled_from(list(TOLERANCE))


@given(bits, st.sampled_from([1e-3, 1.0, 300.0]), st.sampled_from([0.0, -100.0]), st.integers(1, 4), seeds)
def test_an_element_is_off_by_half_a_step_at_most(n: int, scale: float, offset: float, heads: int, seed: int) -> None:
    x = draw_array(seed, 3, heads, 2 * GROUP, scale=scale) + offset
    store = to_groups(x, n)
    assert store.bits == n
    assert store.shape == x.shape
    groups = np.array(x, np.float64).reshape(3, heads, 2, GROUP)
    low, high = groups.min(-1, keepdims=True), groups.max(-1, keepdims=True)
    # Half a step, and what rounding the bias and the steps to float16 moves the ends by.
    allowed = (high - low) / (2**n - 1) / 2 + (np.abs(low) + (high - low)) * 2**-10
    error = np.abs(np.array(from_groups(store), np.float64).reshape(groups.shape) - groups)
    assert np.all(error <= allowed)


def test_equal_elements_and_zeros_come_back_as_they_were() -> None:
    x = mx.concatenate([mx.zeros((1, GROUP)), mx.full((1, GROUP), -2.5)])
    for n in (4, 8):
        assert mx.array_equal(from_groups(to_groups(x, n)), x)


@settings(deadline=None, max_examples=40)
@given(batches(), bits, dtypes, seeds)
def test_all_implementations_write_the_same(batch: Batch, n: int, dtype: mx.Dtype, seed: int) -> None:
    """Each token lands in its slot, rounded alike, and no other slot changes."""
    layout = batch.layout()
    k, v = (draw_array(seed + i, layout.num_tokens, 2, GROUP, dtype=dtype) for i in range(2))
    pools = []
    for implementation in IMPLEMENTATIONS:
        kv = PagedKV.allocate(1, batch.num_blocks, batch.block_size, 2, GROUP, KVFormat(mx.float16, n))
        implementation.write_kv(kv, 0, k, v, layout)
        pools.append(kv)
    slots = layout.slots.tolist()
    for store, rows in ((pools[0].keys[0], k), (pools[0].values[0], v)):
        flat = np.array(take_blocks(store, mx.arange(batch.num_blocks))).reshape(-1, 2, GROUP)
        assert np.array_equal(flat[slots], np.array(from_groups(to_groups(rows, n))))
        assert not np.delete(flat, slots, axis=0).any()
    for kv in pools[1:]:
        assert all(mx.array_equal(found, first) for found, first in zip(kv.arrays, pools[0].arrays, strict=True))


@settings(deadline=None, max_examples=40)
@given(batches(), bits, st.sampled_from([(4, 2), (7, 1)]), st.sampled_from([32, 64]), dtypes, seeds)
def test_attention_over_integers_is_attention_over_what_they_stand_for(
    batch: Batch, n: int, heads: tuple[int, int], size: int, dtype: mx.Dtype, seed: int
) -> None:
    layout = batch.layout()
    q = draw_array(seed, layout.num_tokens, heads[0], size, dtype=dtype)
    shape = (batch.num_blocks, batch.block_size, heads[1], size)
    keys, values = (to_groups(draw_array(seed + i, *shape), n) for i in (1, 2))
    expected = oracle.paged_attention(q, from_groups(keys), from_groups(values), batch, size**-0.5)
    for implementation in IMPLEMENTATIONS:
        found = implementation.paged_attention(q, keys, values, layout, size**-0.5)
        assert found.dtype == dtype
        np.testing.assert_allclose(oracle.wide(found), expected, rtol=0, atol=TOLERANCE[dtype] * 4)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=lambda module: module.__name__.rsplit(".", 1)[1])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_stays_none(implementation: Any, bad: float) -> None:
    """A failed computation must show in the logits, not hide in the cache."""
    batch = Batch(query_lens=(1,), context_lens=(1,), tables=((0,),), block_size=2, num_blocks=2)
    kv = PagedKV.allocate(1, 2, 2, 1, GROUP, KVFormat(mx.float16, 8))
    row = draw_array(0, 1, 1, GROUP)
    broken = mx.array(row)
    broken[0, 0, 3] = bad
    implementation.write_kv(kv, 0, row, broken, batch.layout())
    out = implementation.paged_attention(row, kv.keys[0], kv.values[0], batch.layout(), 1.0)
    assert not np.isfinite(np.array(out)).any()


@pytest.mark.skipif(bool(packing.why_missing()), reason="no native kernels here")
def test_our_kernels_refuse_what_is_no_store() -> None:
    from metal_kernels import _native

    layout = _native.Layout((1,), (1,), [0], 1, 2)
    row, good = mx.zeros((1, 1, GROUP)), to_groups(mx.zeros((2, 2, 1, GROUP)), 8)
    wrong = [
        good.arrays[:2],
        [good.words.astype(mx.int32), good.scales, good.biases],
        [good.words, good.scales.astype(mx.float32), good.biases],
        [good.words[:1], good.scales, good.biases],
        [good.words[..., :3], good.scales, good.biases],
        [mx.zeros((2, 2, 1), mx.uint32), good.scales, good.biases],
    ]
    for store in wrong:
        with pytest.raises(ValueError, match="pool"):
            _native.write_kv(store, row, layout)
        with pytest.raises(ValueError, match="pool"):
            _native.paged_attention(row, store, good.arrays, layout, 1.0)
    with pytest.raises(ValueError, match="one shape and type"):
        _native.paged_attention(row, good.arrays, to_groups(mx.zeros((2, 2, 1, GROUP)), 4).arrays, layout, 1.0)


def test_formats_have_names_and_sizes() -> None:
    named = {name: KVFormat.named(name, mx.float32, 64) for name in ("auto", "bfloat16", "int8", "int4")}
    assert [f.name for f in named.values()] == ["float32", "bfloat16", "int8", "int4"]
    # 64 elements: 8 bits and 4 bits each, and two groups' scales and biases.
    assert [f.bytes_of(64) for f in named.values()] == [256, 128, 64 + 8, 32 + 8]
    for kept in named.values():
        kv = PagedKV.allocate(3, 2, 4, 2, 64, kept)
        assert kv.nbytes == kept.bytes_of(2 * 3 * 2 * 4 * 2 * 64)
        assert isinstance(kv.keys[0], GroupedStore) == (kept.bits > 0)
    with pytest.raises(ConfigError, match="groups of 32, but this model's heads have 48: take a float type"):
        KVFormat.named("int4", mx.float32, 48)
