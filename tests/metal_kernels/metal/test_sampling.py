"""The largest logits, and draws: the reference's ids, whatever is equal."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.ops import reference
from inference.ops.noise import draw_key, gumbel
from metal_kernels._native import MetalLaunches
from tests.metal_kernels.metal.device import NOTHING, launch, room

pytestmark = pytest.mark.usefixtures("place")

few = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _largest(rows, count):
    plan = MetalLaunches.largest(*rows.shape, count)
    (ids,) = launch(plan, [rows, room((rows.shape[0], count), mx.uint32)])
    return ids


def _argmax(rows, temperatures=None, keys=None, listed=None):
    count = rows.shape[1] if listed is None else listed.shape[1]
    plan = MetalLaunches.argmax(*rows.shape, count, draw=keys is not None, listed=listed is not None)
    halves = NOTHING if keys is None else np.array([[key & 0xFFFFFFFF, key >> 32] for key in keys], np.uint32)
    heat = NOTHING if temperatures is None else np.array(temperatures, np.float32)
    given_ids = NOTHING if listed is None else listed
    (ids,) = launch(plan, [rows, given_ids, halves, heat, room((rows.shape[0],), mx.uint32)])
    return ids


def _rows(seed, shape, levels):
    """Normal numbers, or few different ones of both signs."""
    rng = np.random.default_rng(seed)
    if levels:
        return (rng.integers(0, levels, shape) - levels // 2).astype(np.float32)
    return rng.standard_normal(shape).astype(np.float32)


@few
@given(st.integers(0, 2**32), st.integers(1, 3000), st.sampled_from([0, 1, 2, 5]), st.data())
def test_largest(seed, width, levels, data):
    rows = _rows(seed, (2, width), levels)
    count = data.draw(st.integers(1, min(width, 1024)))
    np.testing.assert_array_equal(_largest(rows, count), np.array(reference.largest(mx.array(rows), count)))


@pytest.mark.parametrize("count", [1, 1024])
def test_largest_of_extremes(count):
    rows = _rows(1, (1, 1500), 0)
    rows[0, [3, 900]] = np.inf
    rows[0, 7:700] = -np.inf
    rows[0, 800:810] *= 1e-40
    rows[0, 1000:1100] = 0.0  # some of either sign, which are equal
    rows[0, 1000:1100:3] = -0.0
    np.testing.assert_array_equal(_largest(rows, count), np.array(reference.largest(mx.array(rows), count)))


@few
@given(st.integers(0, 2**32), st.integers(1, 3000), st.sampled_from([0, 1, 2, 5]))
def test_argmax(seed, width, levels):
    rows = _rows(seed, (2, width), levels)
    np.testing.assert_array_equal(_argmax(rows), rows.argmax(axis=1))


def test_argmax_of_those_listed():
    """The lowest id of equal ones, in whatever order they are listed."""
    rows = _rows(1, (3, 1000), 5)
    listed = np.array([np.random.default_rng(row).permutation(1000)[:300] for row in range(3)], np.uint32)
    at = np.take_along_axis(rows, listed.astype(np.int64), axis=1)
    lowest = np.where(at == at.max(axis=1, keepdims=True), listed, 1000).min(axis=1)
    np.testing.assert_array_equal(_argmax(rows, listed=listed), lowest)


@pytest.mark.parametrize("draw", [False, True])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_row_that_is_no_numbers_has_no_id(draw, wrong):
    rows = _rows(1, (3, 1100), 0)
    rows[0, 1090] = wrong
    rows[1] = -np.inf
    ids = _argmax(rows, [1.0] * 3, [1, 2, 3]) if draw else _argmax(rows)
    assert ids[:2].tolist() == [1100, 1100]
    assert ids[2] < 1100


def _scores(rows, temperatures, keys, ids):
    at = np.take_along_axis(rows, ids.astype(np.int64), axis=1)
    return at / np.array(temperatures, np.float32)[:, None] + np.array(gumbel(keys, mx.array(ids)))


@few
@given(st.integers(0, 2**32), st.integers(1, 2000), st.booleans(), st.data())
def test_draw(seed, width, top_k, data):
    """The id whose logit and noise, of the draw's key, are largest: of all, or of the top k."""
    rows = _rows(seed, (3, width), 0) * 4
    keys = [draw_key(seed, position) for position in range(3)]
    temperatures = data.draw(st.lists(st.floats(0.125, 4, width=32), min_size=3, max_size=3))
    listed = _largest(rows, data.draw(st.integers(1, min(width, 50)))) if top_k else None
    ids = np.broadcast_to(np.arange(width, dtype=np.uint32), rows.shape) if listed is None else listed
    scores = _scores(rows, temperatures, keys, ids)
    drawn = _argmax(rows, temperatures, keys, listed)
    for row, token in enumerate(drawn):
        # Two logarithms are not rounded alike: what is chosen has the largest score up to that.
        (place,) = np.flatnonzero(ids[row] == token)
        assert scores[row, place] >= scores[row].max() - 1e-5


def test_draws_follow_the_distribution():
    """2000 draws from three tokens: a share is off by more than 0.05 once in 100 000 times."""
    rows = np.log(np.array([[0.2, 0.5, 0.3]], np.float32)).repeat(2000, axis=0)
    drawn = _argmax(rows, [1.0] * 2000, [draw_key(5, position) for position in range(2000)])
    assert np.abs(np.bincount(drawn, minlength=3) / 2000 - [0.2, 0.5, 0.3]).max() < 0.05
