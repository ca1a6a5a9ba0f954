"""The library's functions against numpy and plain Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from metal_kernels import emulator
from metal_kernels.emulator import Output

from .conftest import KERNELS, ORDERS

LANE = np.arange(32)
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def functions(clang: None) -> emulator.Library:
    return emulator.compile(KERNELS / "functions.metal")


def each_simdgroup(x: Array) -> Array:
    return x.reshape(-1, 32)


def taken_from(lanes: Array) -> Callable[..., Array]:
    return lambda x, y, z: each_simdgroup(x)[:, lanes]


def spread(reduce: Callable[..., Array]) -> Callable[..., Array]:
    return lambda x, y, z: np.repeat(reduce(each_simdgroup(x), axis=1), 32)


def of_quads(reduce: Callable[..., Array]) -> Callable[..., Array]:
    return lambda x, y, z: np.repeat(reduce(x.reshape(-1, 4), axis=1), 4)


def exclusive(scan: Callable[..., Array], identity: float) -> Callable[..., Array]:
    def apply(x: Array, y: Array, z: Array) -> Array:
        before = np.c_[np.full(len(x) // 32, identity), each_simdgroup(x)[:, :-1]]
        return scan(before, axis=1)

    return apply


LANES: dict[str, Callable[..., Array]] = {
    "lanes_sum": spread(np.sum),
    "lanes_product": spread(np.prod),
    "lanes_max": spread(np.max),
    "lanes_min": spread(np.min),
    "lanes_inclusive": lambda x, y, z: np.cumsum(each_simdgroup(x), axis=1),
    "lanes_exclusive": exclusive(np.cumsum, 0),
    "lanes_inclusive_product": lambda x, y, z: np.cumprod(each_simdgroup(x), axis=1),
    "lanes_exclusive_product": exclusive(np.cumprod, 1),
    "lanes_shuffle": taken_from((5 * LANE + 3) % 32),
    "lanes_xor": taken_from(LANE ^ 9),
    "lanes_up": taken_from(np.where(LANE >= 3, LANE - 3, LANE)),
    "lanes_down": taken_from(np.where(LANE < 29, LANE + 3, LANE)),
    "lanes_rotate_up": taken_from((LANE - 3) % 32),
    "lanes_rotate_down": taken_from((LANE + 3) % 32),
    "lanes_fill_up": lambda x, y, z: np.c_[each_simdgroup(y)[:, -3:], each_simdgroup(x)[:, :-3]],
    "lanes_fill_down": lambda x, y, z: np.c_[each_simdgroup(x)[:, 3:], each_simdgroup(y)[:, :3]],
    "lanes_broadcast": taken_from(np.full(32, 7)),
    "lanes_first": taken_from(np.zeros(32, int)),
    "lanes_quad_sum": of_quads(np.sum),
    "lanes_quad_max": of_quads(np.max),
    "lanes_quad_xor": taken_from(LANE ^ 2),
    "lanes_quad_broadcast": taken_from(LANE // 4 * 4 + 1),
    "lanes_vector": lambda x, y, z: spread(np.sum)(y, x, z),
}
VOTES: dict[str, Callable[..., Array]] = {
    "lanes_and": spread(np.bitwise_and.reduce),
    "lanes_or": spread(np.bitwise_or.reduce),
    "lanes_bits_xor": spread(np.bitwise_xor.reduce),
    "lanes_ballot": lambda x, y, z: np.repeat((each_simdgroup(x % 2) << LANE).sum(1), 32),
    "lanes_all": lambda x, y, z: spread(np.all)(x != 0, y, z) * 2 + spread(np.all)(x % 2, y, z),
    "lanes_any": lambda x, y, z: spread(np.any)(x == 0, y, z) * 2 + spread(np.any)(x % 2, y, z),
    "lanes_is_first": lambda x, y, z: np.tile(LANE == 0, len(x) // 32),
}
FLOATS: dict[str, Callable[..., Array]] = {
    "float_exp": lambda x, y, z: np.exp(x),
    "float_exp2": lambda x, y, z: np.exp2(x),
    "float_log": lambda x, y, z: np.log(abs(x)),
    "float_log2": lambda x, y, z: np.log2(abs(x)),
    "float_sin": lambda x, y, z: np.sin(x),
    "float_cos": lambda x, y, z: np.cos(x),
    "float_tanh": lambda x, y, z: np.tanh(x),
    "float_rsqrt": lambda x, y, z: abs(x) ** -0.5,
    "float_pow": lambda x, y, z: abs(x) ** y,
    "float_fma": lambda x, y, z: x * y + z,
    "float_clamp": lambda x, y, z: np.clip(x, -1, 2),
    "float_mix": lambda x, y, z: 0.75 * x + 0.25 * y,
    "float_select": lambda x, y, z: np.where(z > 0, y, x),
    "float_step": lambda x, y, z: (y >= x) * 1.0,
    "float_rint": lambda x, y, z: np.rint(x),
    "float_trunc": lambda x, y, z: np.trunc(x),
    "float_fract": lambda x, y, z: x - np.floor(x),
    "float_sign": lambda x, y, z: np.sign(x),
    "float_copysign": lambda x, y, z: np.copysign(x, y),
    "float_max_of_nan": lambda x, y, z: x,
    "float_dot": lambda x, y, z: 2 * x * z + y * y,
    "float_length": lambda x, y, z: np.hypot(x, y),
    "float_bits": lambda x, y, z: -x,
    "float_swizzle": lambda x, y, z: z,
    "float_literal": lambda x, y, z: x * 0.1 + 1.5,
}
WORD = 1 << 32


def signed(value: int) -> int:
    return value - WORD if value >= WORD // 2 else value


def rotated(value: int, by: int) -> int:
    return (value << by % 32 | value >> (32 - by % 32)) % WORD


INTEGERS: dict[str, Callable[[int, int], int]] = {
    "uint_popcount": lambda a, b: a.bit_count(),
    "uint_clz": lambda a, b: 32 - a.bit_length(),
    "uint_ctz": lambda a, b: (a & -a).bit_length() - 1 if a else 32,
    "uint_reverse": lambda a, b: int(f"{a:032b}"[::-1], 2),
    "uint_extract": lambda a, b: a >> 5 & 511,
    "uint_insert": lambda a, b: a & ~(511 << 5) | (b & 511) << 5,
    "uint_rotate": rotated,
    "uint_mulhi": lambda a, b: a * b >> 32,
    "uint_absdiff": lambda a, b: abs(a - b),
    "uint_addsat": lambda a, b: min(a + b, WORD - 1),
    "uint_subsat": lambda a, b: max(a - b, 0),
    "uint_max": max,
    "uint_clamp": lambda a, b: min(max(a, 7), 1000),
    "int_extract": lambda a, b: (a >> 5 & 511) - (512 if a >> 13 & 1 else 0),
    "int_mulhi": lambda a, b: a * b >> 32,
    "int_addsat": lambda a, b: min(max(a + b, -WORD // 2), WORD // 2 - 1),
    "int_subsat": lambda a, b: min(max(a - b, -WORD // 2), WORD // 2 - 1),
    "int_min": min,
}


def run(functions: emulator.Library, name: str, x: Array, y: Array, z: Array, order: str | int = "forward") -> Array:
    buffers = [x, y, z, Output(len(x), x.dtype)]
    launch = functions.launch(name, buffers, grid=(len(x),), threadgroup=(64,), order=order)
    assert launch.reports == []
    out: Array = launch.outputs[0]
    return out


def test_every_kernel_is_tested(functions: emulator.Library) -> None:
    tested = {*LANES, *VOTES, *FLOATS, *INTEGERS, "arrangement"}
    assert tested == set(functions.kernels)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", LANES)
def test_lanes(functions: emulator.Library, name: str, order: str | int) -> None:
    x, y, z = np.random.default_rng(1).uniform(0.5, 1.5, (3, 128)).astype(np.float32)
    out = run(functions, name, x, y, z, order)
    expected = LANES[name](x.astype(np.float64), y.astype(np.float64), z)
    np.testing.assert_allclose(out, expected.reshape(-1), rtol=1e-5)


@pytest.mark.parametrize("name", VOTES)
def test_votes(functions: emulator.Library, name: str) -> None:
    x = np.random.default_rng(2).integers(0, 1 << 20, 192)
    x[64:96] |= 1
    x[96:128] &= ~1
    x[130] = 0
    out = run(functions, name, *[x.astype(np.uint32)] * 3)
    np.testing.assert_array_equal(out, VOTES[name](x, x, x).astype(np.uint32))


@pytest.mark.parametrize("name", FLOATS)
def test_floats(functions: emulator.Library, name: str) -> None:
    x, y, z = np.random.default_rng(3).uniform(-4, 4, (3, 128)).astype(np.float32)
    wide = [each.astype(np.float64) for each in (x, y, z)]
    np.testing.assert_allclose(run(functions, name, x, y, z), FLOATS[name](*wide), rtol=2e-5, atol=2e-6)


def test_fast_functions_are_for_finite_numbers(functions: emulator.Library) -> None:
    """Of others a GPU's may make anything: a kernel that relies on what comes out is found by its NaN."""
    x = np.resize(np.array([np.inf, -np.inf, np.nan, -1e30], np.float32), 64)
    fast, precise = (run(functions, name, x, x, x) for name in ("float_exp2", "float_exp"))
    np.testing.assert_array_equal(fast[:4], [np.nan, np.nan, np.nan, 0])
    np.testing.assert_array_equal(precise[:4], [np.inf, 0, np.nan, 0])


@pytest.mark.parametrize("name", INTEGERS)
def test_integers(functions: emulator.Library, name: str) -> None:
    edges = [0, 1, 2, 31, 32, 1 << 13, 1 << 31, (1 << 31) - 1, WORD - 1, WORD - 2]
    random = [int(v) for v in np.random.default_rng(4).integers(0, WORD, 28)]
    pairs = [(a, b) for a in edges for b in edges] + list(zip(random[::2], random[1::2], strict=True))
    pairs += [(0, 0)] * (-len(pairs) % 64)
    if name.startswith("int"):
        pairs = [(signed(a), signed(b)) for a, b in pairs]
    a, b = np.array(pairs, np.int32 if name.startswith("int") else np.uint32).T
    out = run(functions, name, a, b, a)
    assert out.tolist() == [INTEGERS[name](*pair) for pair in pairs]


def test_arrangement_of_a_matrix(functions: emulator.Library) -> None:
    """That which kernels rely on that look at thread_elements()."""
    x = np.arange(64, dtype=np.float32)
    buffers = [x, Output(64, np.float32), Output((8, 8), np.float32)]
    launch = functions.launch("arrangement", buffers, grid=(32,), threadgroup=(32,))
    assert launch.reports == []
    row = LANE // 16 * 4 + LANE // 2 % 4
    column = LANE // 8 % 2 * 4 + LANE % 2 * 2
    np.testing.assert_array_equal(launch.outputs[0].reshape(32, 2), np.c_[row * 8 + column, row * 8 + column + 1])
    np.testing.assert_array_equal(launch.outputs[1], x.reshape(8, 8).T)
