"""The model of a step's time: what it learns, and what it refuses to learn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import ConfigError
from inference.scheduling.step_time import Features, StepTime, features

parts = st.floats(1e-5, 1e-2)
steps = st.lists(
    st.tuples(st.integers(0, 500), st.integers(0, 32), st.integers(0, 4000)), min_size=12, max_size=40, unique=True
)


def of(prefill: int, decodes: int, context: int) -> Features:
    chunks = [(prefill, 0, True)] if prefill else []
    return features([*chunks, *[(1, context, False)] * decodes])


@given(st.tuples(parts, parts, parts, parts), steps)
def test_true_parts_are_found_again(true: Features, steps: list[tuple[int, int, int]]) -> None:
    rows = [of(*step) for step in steps]
    found = StepTime.fit([(row, StepTime(true).of(row)) for row in rows])
    for row in rows:
        assert found.of(row) == pytest.approx(StepTime(true).of(row), rel=1e-3)


@given(steps, st.lists(st.floats(1e-4, 1.0), min_size=40, max_size=40))
def test_no_part_is_negative_whatever_was_measured(steps: list[tuple[int, int, int]], seconds: list[float]) -> None:
    found = StepTime.fit([(of(*step), s) for step, s in zip(steps, seconds, strict=False)])
    assert all(part >= 0 for part in found.parts)
    assert any(part > 0 for part in found.parts)


def test_keys_are_counted_as_a_query_sees_them() -> None:
    assert features([(3, 10, True)]) == (1.0, 3, 0, pytest.approx((11 + 12 + 13) / 1000))
    assert features([(1, 10, False), (1, 0, False)]) == (1.0, 0, 2, pytest.approx((11 + 1) / 1000))


def test_without_steps_there_is_nothing_to_learn() -> None:
    with pytest.raises(ConfigError, match="record an answer first"):
        StepTime.fit([])
