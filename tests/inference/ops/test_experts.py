"""Rows that go to the matrices of several experts: by every implementation, kind of matrix and way of rounding."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import metal_kernels
from inference.ops import mlx_ops, native, packing, reference
from inference.ops.experts import PackedExperts, StackedExperts, pack_experts, plain_experts
from inference.ops.table import arranged_experts, function
from inference.ops.weights import DenseWeight, QuantizedWeight
from tests.inference.ops import oracle
from tests.inference.ops.test_operations import (  # noqa: F401
    TOLERANCE,
    Implementation,
    check,
    draw_array,
    ops,
    property_test,
    seeds,
)

native_only = pytest.mark.skipif(bool(packing.why_missing()), reason="no native kernels here")
ROUNDINGS = ("exact", "bfloat16", "int8")


@st.composite
def experts(draw: st.DrawFn, dtype: mx.Dtype) -> StackedExperts:
    """One or several, dense or quantized; outputs around the edges of the kernels' tiles."""
    count, outputs, bits = draw(st.integers(1, 5)), draw(st.sampled_from([1, 4, 15, 16, 17, 40])), draw(BITS)
    group = draw(st.sampled_from([32, 64]))
    inputs = group * draw(st.integers(1, 3)) if bits else draw(st.integers(1, 70))
    dense = draw_array(draw(seeds), count * outputs, inputs, dtype=dtype)
    if not bits:
        return StackedExperts(DenseWeight(dense), count)
    return StackedExperts(QuantizedWeight(*mx.quantize(dense, group, bits), bits, group), count)


BITS = st.sampled_from([0, 4, 8])


def _chosen(seed: int, tokens: int, share: int, count: int) -> np.ndarray:
    """An expert may be chosen twice, or by nobody."""
    return np.random.default_rng(seed).integers(0, count, (tokens, share))


@property_test
@given(st.data(), st.sampled_from(list(TOLERANCE)), st.integers(1, 40), st.integers(1, 4), seeds)
def test_each_row_meets_the_matrices_of_its_experts(
    ops: Implementation,  # noqa: F811
    data: st.DataObject,
    dtype: mx.Dtype,
    tokens: int,
    share: int,
    seed: int,
) -> None:
    weights = data.draw(experts(dtype))
    x = draw_array(seed, tokens, weights.shape[2], dtype=dtype)
    chosen = _chosen(seed, tokens, share, weights.count)
    expected = oracle.expert_product(oracle.wide(x), weights, chosen)
    found = ops.expert_linear(x, weights, mx.array(chosen))
    # As for one matrix: what is added up is larger than the sum, and may be rounded elements.
    check(found, expected, dtype, factor=4)


@native_only
@property_test
@given(st.data(), st.sampled_from(list(TOLERANCE)), st.sampled_from(ROUNDINGS), st.integers(1, 20), seeds)
def test_rounded_activations(data: st.DataObject, dtype: mx.Dtype, rounding: str, tokens: int, seed: int) -> None:
    """Every implementation means the same by a way of rounding, packed or not."""
    weights = data.draw(experts(dtype))
    x = draw_array(seed, tokens, weights.shape[2], dtype=dtype)
    chosen = _chosen(seed, tokens, 2, weights.count)
    rounded = oracle.wide(x)
    if rounding == "bfloat16":
        rounded = oracle.wide(x.astype(mx.bfloat16))
    elif rounding == "int8" and isinstance(weights.stacked, QuantizedWeight):
        rounded = oracle.rounded(x, weights.stacked.group_size)
    expected = oracle.expert_product(rounded, weights, chosen)
    for implementation in ("native", "mlx", "reference"):
        compute = function("expert_linear", implementation, rounding)
        for arranged in (weights, arranged_experts(weights, implementation), pack_experts(weights)):
            check(compute(x, arranged, mx.array(chosen)), expected, dtype, factor=4)


@native_only
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("tokens", [1, 7, 40])
def test_a_row_is_what_its_expert_alone_makes_of_the_rows_it_gets(dtype: mx.Dtype, tokens: int) -> None:
    """To the bit: the same kernel, on the same rows."""
    dense = draw_array(0, 3 * 24, 64, dtype=dtype)
    weights = pack_experts(StackedExperts(QuantizedWeight(*mx.quantize(dense, 32, 4), 4, 32), 3))
    x, chosen = draw_array(1, tokens, 64, dtype=dtype), _chosen(2, tokens, 2, 3)
    found = native.expert_linear(x, weights, mx.array(chosen))
    for expert, matrix in enumerate(weights.matrices):
        token, place = np.nonzero(chosen == expert)
        if len(token):
            alone = native.linear(x[mx.array(token)], matrix)
            assert mx.array_equal(found[mx.array(token), mx.array(place)], alone)


@native_only
@property_test
@given(st.data(), st.sampled_from(list(TOLERANCE)))
def test_packing_loses_nothing(data: st.DataObject, dtype: mx.Dtype) -> None:
    weights = data.draw(experts(dtype))
    packed = pack_experts(weights)
    back = plain_experts(packed)
    assert isinstance(packed, PackedExperts)
    assert pack_experts(packed) is packed
    assert plain_experts(weights) is weights
    assert packed.shape == back.shape == weights.shape
    assert packed.dtype == back.dtype == weights.dtype
    assert type(back.stacked) is type(weights.stacked)
    pairs = zip(back.stacked.arrays, weights.stacked.arrays, strict=True)
    assert all(mx.array_equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.parametrize("module", [reference, mlx_ops] if packing.why_missing() else [reference, mlx_ops, native])
def test_a_gated_mixture_of_experts(module: Any) -> None:
    """As a layer uses it: up to all chosen experts, then down, each row by its own one, then weighed and added up."""
    up, down = (StackedExperts(DenseWeight(draw_array(i, 3 * 16, 16)), 3) for i in range(2))
    x, chosen, shares = draw_array(2, 5, 16), _chosen(3, 5, 2, 3), draw_array(4, 5, 2)
    inner = mx.maximum(module.expert_linear(x, up, mx.array(chosen)), 0)
    outer = module.expert_linear(inner.reshape(10, 16), down, mx.array(chosen).reshape(10, 1)).reshape(5, 2, 16)
    found = mx.sum(outer * shares[..., None], axis=1)
    ups, downs = (oracle.matrix(each.stacked).reshape(3, 16, 16) for each in (up, down))
    expected = [
        sum(share * (downs[e] @ np.maximum(ups[e] @ row, 0)) for e, share in zip(of_row, of_shares, strict=True))
        for row, of_row, of_shares in zip(oracle.wide(x), chosen, oracle.wide(shares), strict=True)
    ]
    check(found, np.array(expected), mx.float32, factor=10)


@native_only
def test_what_is_no_expert_gives_no_numbers() -> None:
    weights = pack_experts(StackedExperts(DenseWeight(mx.ones((2 * 4, 8))), 2))
    found = np.array(native.expert_linear(mx.ones((3, 8)), weights, mx.array([[0, 2], [-1, 1], [1, 1]])))
    assert np.array_equal(np.isnan(found).all(axis=-1), [[False, True], [True, False], [False, False]])
    assert (found[~np.isnan(found)] == 8).all()


@native_only
def test_no_rows_are_no_rows() -> None:
    weights = pack_experts(StackedExperts(DenseWeight(mx.ones((2 * 4, 8))), 2))
    assert native.expert_linear(mx.zeros((0, 8)), weights, mx.zeros((0, 2), mx.int32)).shape == (0, 2, 4)


@native_only
def test_inputs_that_make_no_sense_are_refused() -> None:
    module: Any = metal_kernels.native
    square, tall = (packing.pack(DenseWeight(mx.ones((rows, 8)))).matrix for rows in (8, 9))
    x, chosen = mx.ones((2, 8)), mx.zeros((2, 1), mx.int32)
    for arguments, message in [
        ((x, [], chosen, "exact"), "at least one expert"),
        ((x, [square, tall], chosen, "exact"), "all of one shape"),
        ((mx.ones((2, 7)), [square], chosen, "exact"), "as many columns"),
        ((mx.ones((2, 1, 8)), [square], chosen, "exact"), "as many columns"),
        ((x, [square], chosen[:1], "exact"), "for each row"),
        ((x, [square], chosen[:, 0], "exact"), "for each row"),
        ((x, [square], chosen.astype(mx.float32), "exact"), "integers"),
        ((x.astype(mx.int32), [square], chosen, "exact"), "float32, bfloat16 or float16"),
        ((x, [square], chosen, "int3"), "no way of rounding"),
    ]:
        with pytest.raises(ValueError, match=message):
            module.expert_linear(*arguments)
