"""Writing keys and values into the pool, in every format: the reference's numbers, and nothing beside them."""

import mlx.core as mx
import numpy as np
import pytest

from inference.ops import reference
from inference.ops.kv_store import GroupedStore, arrays_of, take_blocks, to_groups
from inference.ops.paged import PagedKV
from metal_kernels import emulator
from metal_kernels._native import MetalLaunches
from tests.metal_kernels.metal.attention import KEPT, layout
from tests.metal_kernels.metal.device import TYPES, given, held, launch, random

pytestmark = pytest.mark.usefixtures("place")

STEP = layout((1, 5, 20), (33, 40, 20), 16, 9)


def _written(type_name, pool_name, pool, rows, gap=0):
    """The pool after the launch; rows have gaps of NaN behind them, which must not matter."""
    tokens, heads, size = rows.shape
    arrays = arrays_of(pool)
    plan = MetalLaunches.write_kv(type_name, pool_name, tokens, heads * size, heads * size + gap)
    wide = mx.concatenate([rows.reshape(tokens, -1), mx.full((tokens, gap), mx.nan, rows.dtype)], axis=1)
    buffers = [held(wide), np.array(STEP.slots), *(held(array) for array in arrays)]
    found = launch(plan, buffers, in_place=tuple(range(2, 2 + len(arrays))))
    parts = [given(part, array.dtype) for part, array in zip(found, arrays, strict=True)]
    return GroupedStore(*parts) if len(parts) == 3 else parts[0]


def _by_reference(pool, rows):
    kv = PagedKV([pool], [pool])
    reference.write_kv(kv, 0, rows, rows, STEP)
    return kv.keys[0]


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("pool_name", TYPES)
@pytest.mark.parametrize(("heads", "size", "gap"), [(2, 64, 0), (1, 80, 44)])
def test_floats(type_name, pool_name, heads, size, gap):
    pool = random(1, (9, 16, heads, size), TYPES[pool_name])
    rows = random(2, (STEP.num_tokens, heads, size), TYPES[type_name])
    found = _written(type_name, pool_name, pool, rows, gap)
    assert mx.array_equal(found, _by_reference(pool, rows))


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("kept", [kept for kept in KEPT if kept != "float"])
@pytest.mark.parametrize(("heads", "size", "gap"), [(2, 64, 128), (3, 96, 0)])
def test_integers(type_name, kept, heads, size, gap):
    bits = KEPT[kept]
    pool = to_groups(random(1, (9, 16, heads, size), mx.float32), bits)
    rows = random(2, (STEP.num_tokens, heads, size), TYPES[type_name])
    rows[3, 0, :32] = 2.5  # a group without a spread
    found, truth = _written(type_name, kept, pool, rows, gap), _by_reference(pool, rows)
    assert mx.array_equal(found.scales, truth.scales)
    assert mx.array_equal(found.biases, truth.biases)
    # A number that lies between two integers may go to either of them: the quotient is rounded before.
    apart = mx.abs(take_blocks(found, mx.arange(9)) - take_blocks(truth, mx.arange(9)))
    steps = mx.repeat(truth.scales.astype(mx.float32), 32, axis=-1)
    assert mx.all(apart <= 1.01 * steps).item()
    assert mx.mean(apart > 0).item() < 1e-3


@pytest.mark.parametrize("kept", ["int8", "int4"])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_makes_its_whole_group_so(kept, poison):
    rows = np.array(random(2, (STEP.num_tokens, 2, 64), mx.float32))
    rows[4, 1, 40] = poison
    pool = to_groups(mx.zeros((9, 16, 2, 64)), KEPT[kept])
    found = np.array(take_blocks(_written("f32", kept, pool, mx.array(rows)), mx.arange(9))).reshape(-1, 2, 64)
    wrong = np.isnan(found)
    assert wrong[int(STEP.slots[4].item()), 1, 32:].all()
    assert wrong.sum() == 32


@pytest.mark.parametrize("eights", [1, 256, 1000])
def test_a_pool_that_something_else_holds_is_copied(eights):
    pool = np.random.default_rng(1).integers(0, 256, eights * 8).astype(np.uint8)
    (copy,) = launch(MetalLaunches.copy(pool.nbytes), [pool, emulator.Output(pool.shape, np.uint8)])
    np.testing.assert_array_equal(copy, pool)
