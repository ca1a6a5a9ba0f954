"""How far a computation is from the truth: on average, and where it is worst."""

from __future__ import annotations

import math

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.ops.agreement import TOLERANCE, distance
from inference.ops.kv_store import FLOATS

SHAPE = (32, 3072)


@pytest.mark.parametrize("dtype", FLOATS)
def test_roundings_are_within_what_is_tolerated(dtype: str) -> None:
    truth = mx.random.normal(SHAPE, key=mx.random.key(1))
    assert distance(truth.astype(FLOATS[dtype]), truth) < TOLERANCE[dtype] / 2


@pytest.mark.parametrize("dtype", FLOATS)
@given(row=st.integers(0, SHAPE[0] - 1), column=st.integers(0, SHAPE[1] - 1))
def test_one_wrong_number_of_a_hundred_thousand_is_seen(dtype: str, row: int, column: int) -> None:
    """The average of all would hide it: it is a few thousandths."""
    truth = mx.random.normal(SHAPE, key=mx.random.key(1))
    ours = truth.astype(FLOATS[dtype])
    ours[row, column] = ours[row, column] + 1
    assert distance(ours, truth) > TOLERANCE[dtype]


@given(st.sampled_from([(0, 0), (31, 3071), (5, 17)]))
def test_what_is_no_number_is_no_agreement(place: tuple[int, int]) -> None:
    truth = mx.random.normal(SHAPE, key=mx.random.key(1))
    ours = mx.array(truth)
    ours[place] = mx.nan
    assert math.isnan(distance(ours, truth))


def test_other_shapes_and_ids() -> None:
    ids = mx.array([[1, 2], [3, 4]])
    assert distance(ids, ids) == 0
    assert distance(ids, mx.array([[1, 2], [4, 3]])) == 0.5
    assert distance(ids[:1], ids) == math.inf
