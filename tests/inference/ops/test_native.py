"""Our own matrix kernels: every instruction set of this machine against float64, packing there and back, bad input."""

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
from inference.ops.packing import pack, plain, plain_rows
from inference.ops.weights import DenseWeight, PackedWeight, QuantizedWeight, Weight
from tests.inference.ops import oracle

pytestmark = pytest.mark.skipif(bool(packing.why_missing()), reason="no native kernels here")

DTYPES = (mx.float32, mx.bfloat16, mx.float16)
LEVELS = metal_kernels.native.supported_levels() if metal_kernels.native else []
ROUNDING = {mx.float32: 2**-24, mx.bfloat16: 2**-8, mx.float16: 2**-11}
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    module: Any = metal_kernels.native
    before = module.level()
    module.set_level(request.param)
    yield request.param
    module.set_level(before)


def draw_array(seed: int, *shape: int, dtype: mx.Dtype = mx.float32, scale: float = 1.0) -> mx.array:
    return mx.array(scale * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


@st.composite
def weights(draw: st.DrawFn) -> Weight:
    """Any kind, with and without a bias; shapes around the edges of tiles, cells, groups and panels."""
    dtype, bits = draw(st.sampled_from(DTYPES)), draw(st.sampled_from([0, 4, 8]))
    outputs = draw(st.sampled_from([1, 15, 16, 17, 33, 80]))
    group_size = draw(st.sampled_from([32, 64, 128]))
    inputs = group_size * draw(st.sampled_from([1, 3, 9])) if bits else draw(st.sampled_from([1, 3, 4, 64, 1023, 1027]))
    dense = draw_array(draw(seeds), outputs, inputs, dtype=dtype)
    bias = draw_array(draw(seeds), outputs, dtype=dtype) if draw(st.booleans()) else None
    if not bits:
        return DenseWeight(dense, bias)
    return QuantizedWeight(*mx.quantize(dense, group_size, bits), bits, group_size, bias)


def magnitudes(weight: Weight) -> np.ndarray:
    """Of what is summed up for each element: of a quantized one two parts, which may be larger than their sum."""
    whole = oracle.matrix(weight)
    if not isinstance(weight, QuantizedWeight):
        return np.abs(whole)
    biases = np.repeat(oracle.wide(weight.biases), weight.group_size, axis=1)
    return np.abs(whole - biases) + np.abs(biases)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(weights(), st.sampled_from([1, 2, 3, 4, 7, 8, 9, 16, 23, 24, 25, 37, 60]), st.sampled_from(DTYPES), seeds)
def test_products_are_exact_up_to_rounding(level: str, weight: Weight, rows: int, dtype: mx.Dtype, seed: int) -> None:
    """In every type of activations and weights: sums in float32, one rounding at the end."""
    x = draw_array(seed, rows, weight.shape[1], dtype=dtype)
    expected = oracle.linear(x, weight)
    found = native.linear(x, pack(weight))
    assert found.dtype == dtype
    # A float32 sum of n terms in a fixed order: each addition rounds a partial sum, and those grow like sqrt(n).
    size = np.abs(oracle.wide(x)) @ magnitudes(weight).T
    allowed = ROUNDING[dtype] * np.abs(expected) + 2**-23 * np.sqrt(weight.shape[1]) * size + 2**-25
    assert np.all(np.abs(oracle.wide(found) - expected) <= allowed)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(weights(), st.sampled_from([1, 2, 3, 5, 8, 9, 12, 13, 24, 37]), st.sampled_from(DTYPES), seeds)
def test_products_of_int8_differ_by_the_rounding_of_x_alone(
    level: str, weight: Weight, rows: int, dtype: mx.Dtype, seed: int
) -> None:
    x = draw_array(seed, rows, weight.shape[1], dtype=dtype)
    rounded = oracle.rounded(x, weight.group_size) if isinstance(weight, QuantizedWeight) else oracle.wide(x)
    expected = oracle.product(rounded, weight)
    found = native.int8_linear(x, pack(weight))
    assert found.dtype == dtype
    size = np.abs(rounded) @ magnitudes(weight).T
    allowed = ROUNDING[dtype] * np.abs(expected) + 2**-22 * np.sqrt(weight.shape[1]) * size + 2**-25
    assert np.all(np.abs(oracle.wide(found) - expected) <= allowed)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(weights(), st.sampled_from([1, 2, 3, 5, 6, 8, 9, 12, 31, 32, 37, 44]), st.sampled_from(DTYPES), seeds)
def test_products_of_bfloat16_differ_by_the_rounding_of_x_alone(
    level: str, weight: Weight, rows: int, dtype: mx.Dtype, seed: int
) -> None:
    x = draw_array(seed, rows, weight.shape[1], dtype=dtype)
    rounded = oracle.wide(x.astype(mx.bfloat16))
    expected = oracle.product(rounded, weight)
    found = native.bfloat16_linear(x, pack(weight))
    assert found.dtype == dtype
    size = np.abs(rounded) @ magnitudes(weight).T
    allowed = ROUNDING[dtype] * np.abs(expected) + 2**-22 * np.sqrt(weight.shape[1]) * size + 2**-25
    assert np.all(np.abs(oracle.wide(found) - expected) <= allowed)


def test_rows_of_zeros_and_of_one_large_number_are_rounded_too(level: str) -> None:
    weight = QuantizedWeight(*mx.quantize(draw_array(0, 16, 64), 64, 4), 4, 64)
    x = mx.zeros((2, 64))
    x[1, 5] = 1e30
    found = np.array(native.int8_linear(x, pack(weight)))
    np.testing.assert_allclose(found, [np.zeros(16), 1e30 * oracle.matrix(weight)[:, 5]], rtol=1e-5, atol=1e25)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_not_rounded_to_one(level: str, bad: float) -> None:
    """The sampler ends a request whose logits are not numbers: rounding must not hide that."""
    weight = QuantizedWeight(*mx.quantize(draw_array(0, 16, 128), 64, 4), 4, 64)
    x = draw_array(1, 3, 128)
    x[1, 70] = bad
    for implementation in (native, mlx_ops, reference):
        for rounding_linear in (implementation.bfloat16_linear, implementation.int8_linear):
            found = np.array(rounding_linear(x, pack(weight)))
            assert np.isfinite(found[[0, 2]]).all()
            assert not np.isfinite(found[1]).any()


def test_int8_is_refused_for_floats() -> None:
    module: Any = metal_kernels.native
    with pytest.raises(ValueError, match="quantized"):
        module.int8_linear(mx.zeros((1, 8)), pack(DenseWeight(mx.zeros((4, 8)))).matrix)


@settings(max_examples=60, deadline=None)
@given(weights())
def test_packing_loses_nothing(weight: Weight) -> None:
    packed = pack(weight)
    back = plain(packed)
    assert type(back) is type(weight)
    assert packed.shape == back.shape == weight.shape
    assert packed.dtype == back.dtype == weight.dtype
    assert all(mx.array_equal(a, b) for a, b in zip(back.arrays, weight.arrays, strict=True))
    assert pack(packed) is packed


def test_floats_that_fit_a_narrow_type_are_kept_in_it() -> None:
    narrow = draw_array(1, 64, 64, dtype=mx.bfloat16)
    wide = DenseWeight(narrow.astype(mx.float32))
    assert pack(wide).nbytes == narrow.nbytes
    assert plain(pack(wide)).dtype == mx.float32
    assert pack(DenseWeight(draw_array(1, 64, 64))).nbytes == 2 * narrow.nbytes


@settings(max_examples=40, deadline=None)
@given(weights(), st.lists(st.integers(0, 200), min_size=1, max_size=9))
def test_rows_of_a_packed_matrix(weight: Weight, ids: list[int]) -> None:
    ids = [i % weight.shape[0] for i in ids]
    packed, wanted = pack(weight), mx.array(ids)
    found = native.embedding(wanted, packed)
    assert found.dtype == weight.dtype
    expected = oracle.matrix(weight)[ids]
    assert np.all(np.abs(oracle.wide(found) - expected) <= ROUNDING[weight.dtype] * np.abs(expected) + 2**-22)
    places, rows = plain_rows(wanted, packed)
    assert np.array_equal(oracle.matrix(rows)[np.array(places)], expected)


def test_any_number_of_leading_dimensions_and_strides() -> None:
    weight = DenseWeight(draw_array(0, 20, 12))
    x = draw_array(1, 3, 12, 5).transpose(2, 0, 1)
    found = native.linear(x, pack(weight))
    np.testing.assert_allclose(np.array(found), np.array(x) @ np.array(weight.weight).T, rtol=1e-5, atol=1e-5)
    assert native.linear(mx.zeros((0, 12)), pack(weight)).shape == (0, 20)


def test_numbers_at_the_edge() -> None:
    """What a conversion between the float types may get wrong: subnormals, overflow, infinities and NaN."""
    edges = [0.0, -0.0, 1e-7, 6e-8, 5.96e-8, 2.9e-8, 65504, 65519, 65520, 1e30, -1e30, 3.3e38, np.inf, -np.inf, np.nan]
    for dtype in (mx.bfloat16, mx.float16):
        identity = DenseWeight(mx.ones((1, 1)))
        values = mx.array(edges)[:, None]
        expected = values.astype(dtype)
        packed = pack(DenseWeight(expected))
        assert mx.array_equal(plain(packed).arrays[0], expected, equal_nan=True)
        assert mx.array_equal(native.linear(expected, pack(identity)), expected, equal_nan=True)
        assert mx.array_equal(native.embedding(mx.arange(len(edges)), packed), expected, equal_nan=True)


def test_inputs_that_make_no_sense_are_refused() -> None:
    module: Any = metal_kernels.native
    weight = pack(DenseWeight(mx.ones((4, 8))))
    words, scales, biases = mx.quantize(mx.ones((4, 64)), 32, 4)
    for call, message in [
        (lambda: native.linear(mx.ones((2, 7)), weight), "as many columns"),
        (lambda: native.linear(mx.ones((2, 8), dtype=mx.int32), weight), "float32, bfloat16 or float16"),
        (lambda: native.embedding(mx.array([0, 4]), weight), "id 4 is no row of a matrix with 4 rows"),
        (lambda: native.embedding(mx.array([-1]), weight), "id -1 is no row"),
        (lambda: native.embedding(mx.array([0.0]), weight), "ids are integers"),
        (lambda: module.pack(mx.ones((4,))), "two dimensions"),
        (lambda: module.pack(mx.ones((4, 4)), mx.ones((5,))), "one number for each row"),
        (lambda: module.pack(mx.ones((0, 4))), "at least one row"),
        (lambda: module.pack_quantized(words, scales, biases, 3, 32), "4 or 8 bits"),
        (lambda: module.pack_quantized(words, scales, biases, 4, 48), "groups must divide"),
        (lambda: module.pack_quantized(words, scales, biases, 8, 32), r"\[O, I / group_size\]"),
        (lambda: module.pack_quantized(words, scales[:3], biases, 4, 32), r"\[O, I / group_size\]"),
        (lambda: module.pack_quantized(words, scales.astype(mx.float16), biases, 4, 32), "one type"),
        (lambda: module.pack_quantized(scales, scales, biases, 4, 32), "uint32"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_a_packed_weight_tells_its_size() -> None:
    words, scales, biases = mx.quantize(draw_array(0, 32, 64, dtype=mx.bfloat16), 64, 4)
    packed = pack(QuantizedWeight(words, scales, biases, 4, 64))
    assert isinstance(packed, PackedWeight)
    assert packed.nbytes == words.nbytes + scales.nbytes + biases.nbytes
    assert packed.arrays == []


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.sampled_from([1, 2, 17, 1000, 5000]), st.integers(1, 5000), st.booleans(), seeds)
def test_the_largest_of_each_row(rows: int, width: int, count: int, equal: bool, seed: int) -> None:
    """In order, and of equal numbers those with the lower ids."""
    numbers = np.random.default_rng(seed)
    x = numbers.integers(-3, 3, (rows, width)) if equal else numbers.standard_normal((rows, width))
    x = x.astype(np.float32) + 0.5  # no zeros, whose signs would count
    found = np.array(native.largest(mx.array(x), min(count, width)))
    expected = np.lexsort((np.broadcast_to(np.arange(width), x.shape), -x), axis=-1)[:, : min(count, width)]
    assert np.array_equal(found, expected)


def test_infinities_are_in_order_and_bad_counts_are_refused() -> None:
    module: Any = metal_kernels.native
    x = mx.array([[1.0, -np.inf, np.inf, -2.0]])
    assert module.largest(x, 4).tolist() == [[2, 0, 3, 1]]
    for count in (0, 5):
        with pytest.raises(ValueError, match="from 1 to all"):
            module.largest(x, count)
    with pytest.raises(ValueError, match="float32"):
        module.largest(x.astype(mx.float16), 1)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 5),
    st.sampled_from([1, 3, 16, 17, 63, 64, 2047, 2048, 2049, 5000, 20000]),
    st.sampled_from(["any", "equal", "falling", "low"]),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 19999), st.sampled_from([np.nan, np.inf, -np.inf]))),
    seeds,
)
def test_the_greedy_choice_of_each_row(
    level: str, rows: int, width: int, kind: str, odd: list[tuple[int, int, float]], seed: int
) -> None:
    """The first of the largest, or no id where the row has what is no number, wherever it stands."""
    numbers = np.random.default_rng(seed)
    x = numbers.standard_normal((rows, width)).astype(np.float32)
    if kind == "equal":
        x = np.round(x)  # both zeros among them, which are equal
    elif kind == "falling":
        x = -np.sort(-x, axis=-1)
    elif kind == "low":
        x = np.full_like(x, np.finfo(np.float32).min)
    for row, column, value in odd:
        x[row % rows, column % width] = value
    peaks = x.max(axis=-1)  # NaN where there is one
    expected = np.where(np.isfinite(peaks), x.argmax(axis=-1), width)
    for implementation in (native, mlx_ops, reference):
        found = implementation.greedy(mx.array(x))
        assert found.dtype == mx.uint32
        assert np.array_equal(np.array(found), expected), implementation.__name__


def test_greedy_takes_rows_with_gaps_and_refuses_other_types() -> None:
    module: Any = metal_kernels.native
    x = mx.array([[1.0, 9.0, 3.0, 4.0], [8.0, 2.0, 7.0, 6.0]])
    assert module.greedy(x[:, ::2]).tolist() == [1, 0]
    for wrong in (x.astype(mx.float16), x[0]):
        with pytest.raises(ValueError, match="float32"):
            module.greedy(wrong)
