"""Normalization, rotation and the MLP's gate, against the reference."""

import mlx.core as mx
import numpy as np
import pytest

from inference.ops import reference
from metal_kernels._native import MetalLaunches
from tests.metal_kernels.metal.device import NOTHING, TYPES, assert_close, given, held, launch, random, room

pytestmark = pytest.mark.usefixtures("place")


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize(("rows", "width"), [(1, 4), (3, 64), (2, 896), (2, 4100), (1, 16384)])
def test_rms_norm(type_name, rows, width):
    dtype = TYPES[type_name]
    x, weight = random(1, (rows, width), dtype), random(2, (width,), dtype)
    plan = MetalLaunches.rms_norm(type_name, rows, width, width, 1e-6, add=False)
    (out,) = launch(plan, [held(x), NOTHING, held(weight), room((rows, width), dtype), NOTHING])
    assert_close(given(out, dtype), reference.rms_norm(x, weight, 1e-6))


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize(("rows", "width"), [(3, 64), (2, 896), (1, 8200)])
def test_rms_norm_of_a_sum(type_name, rows, width):
    """The sum is rounded first, and left behind."""
    dtype = TYPES[type_name]
    x, added, weight = random(1, (rows, width), dtype), random(2, (rows, width), dtype), random(3, (width,), dtype)
    plan = MetalLaunches.rms_norm(type_name, rows, width, width, 1e-6, add=True)
    shape = (rows, width)
    out, total = launch(plan, [held(x), held(added), held(weight), room(shape, dtype), room(shape, dtype)])
    assert mx.array_equal(given(total, dtype), x + added)
    assert_close(given(out, dtype), reference.rms_norm(x + added, weight, 1e-6))


def test_rms_norm_of_rows_with_gaps():
    wide, weight = random(1, (3, 96), mx.float32), random(2, (64,), mx.float32)
    plan = MetalLaunches.rms_norm("f32", 3, 64, 96, 1e-6, add=False)
    (out,) = launch(plan, [held(wide), NOTHING, held(weight), room((3, 64), mx.float32), NOTHING])
    assert_close(mx.array(out), reference.rms_norm(wide[:, :64], weight, 1e-6))


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize(("heads", "size", "gap"), [(1, 64, 0), (4, 80, 0), (6, 96, 32), (14, 128, 256)])
def test_rope(type_name, heads, size, gap):
    dtype = TYPES[type_name]
    positions = np.array([0, 1, 1000, 17, 17], np.int32)
    wide = random(1, (5, heads * size + gap), dtype)
    plan = MetalLaunches.rope(type_name, 5, heads, size, heads * size + gap, 1e6)
    (out,) = launch(plan, [held(wide), positions, room((5, heads, size), dtype)])
    x = wide[:, : heads * size].reshape(5, heads, size)
    assert_close(given(out, dtype), reference.rope(x, mx.array(positions), 1e6))


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize(("rows", "width"), [(1, 4), (3, 100), (2, 1284)])
def test_swiglu(type_name, rows, width):
    """Gate and up as one matrix multiplication leaves them, side by side."""
    dtype = TYPES[type_name]
    both = random(1, (rows, 2 * width), dtype) * 4
    plan = MetalLaunches.swiglu(type_name, rows, width, 2 * width, 2 * width)
    flat = held(both).reshape(-1)
    (out,) = launch(plan, [flat, flat[width:].copy(), room((rows, width), dtype)])
    assert_close(given(out, dtype), reference.silu_mul(both[:, :width], both[:, width:]))


def test_swiglu_far_from_zero():
    gate = mx.array([[-1e4, -100, 100, 1e4]])
    plan = MetalLaunches.swiglu("f32", 1, 4, 4, 4)
    (out,) = launch(plan, [held(gate), held(mx.ones((1, 4))), room((1, 4), mx.float32)])
    assert_close(mx.array(out), reference.silu_mul(gate, mx.ones((1, 4))))
