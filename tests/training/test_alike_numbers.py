"""Numbers that are easily taken for one another."""

from __future__ import annotations

import random

from alike_numbers import alike, with_a_row
from arithmetic import random_number
from calculations import NUMBER
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(0, 10**6))
def test_what_is_alike_is_a_number_with_the_same_beginning_and_about_as_many_digits(seed: int) -> None:
    rng = random.Random(seed)
    number = random_number(rng)
    other = alike(number, rng)
    assert NUMBER.fullmatch(other), (number, other)
    assert abs(len(other) - len(number)) <= 2
    half = sum(sign.isdigit() for sign in number) // 2
    repeats_a_digit = len(other) > len(number)
    assert other[: half // 2] == number[: half // 2] or repeats_a_digit


def test_there_are_equal_numbers_and_rows_of_zeros_of_every_length_among_them() -> None:
    rng = random.Random(1)
    drawn = [alike("50000", rng) for _ in range(400)]
    assert {"50000", "5000", "500000", "5000000"} <= set(drawn)
    assert 0.08 < drawn.count("50000") / 400 < 0.4


def test_a_row_is_at_the_end() -> None:
    rng = random.Random(2)
    for _ in range(50):
        number = with_a_row(rng)
        assert number[-1] == number[-2]
        assert number[0] != "0"
