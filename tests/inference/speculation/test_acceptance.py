"""Rates as counted, prior and all; and what they promise."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.speculation.acceptance import PRIOR, Acceptance, tokens_expected


def test_before_anything_was_seen_a_rate_is_a_guess() -> None:
    assert Acceptance().rates(3) == (PRIOR, PRIOR, PRIOR)


@given(st.lists(st.floats(0.05, 0.95), min_size=1, max_size=5), st.integers(0, 99))
def test_it_finds_the_rates_of_each_place(truth: list[float], seed: int) -> None:
    seen, rng = Acceptance(), random.Random(seed)
    for _ in range(3000):
        accepted = next((i for i, rate in enumerate(truth) if rng.random() > rate), len(truth))
        seen.observe(min(accepted + 1, len(truth)), accepted)
    reached = 1.0
    for rate, found in zip(truth, seen.rates(len(truth)), strict=True):
        seen_often = min(200, 3000 * reached)
        if seen_often > 20:
            assert abs(found - rate) < 5 * math.sqrt(0.25 / seen_often) + 4 * abs(rate - PRIOR) / seen_often + 0.02
        reached *= rate


def test_it_follows_a_change() -> None:
    seen = Acceptance()
    for _ in range(500):
        seen.observe(2, 2)
    assert min(seen.rates(2)) > 0.98
    for _ in range(500):
        seen.observe(1, 0)
    assert seen.rates(1)[0] < 0.15


def test_a_place_that_is_hardly_reached_is_taken_to_be_like_the_one_before() -> None:
    seen = Acceptance()
    for _ in range(100):
        seen.observe(1, 1)
    first, second = seen.rates(2)
    assert second == first > 0.9


def test_what_was_drafted_behind_an_answers_end_is_no_mistake() -> None:
    """Of four drafts that are always right every third ends its answer with the second one."""
    seen = Acceptance()
    for i in range(300):
        seen.observe(*((2, 2) if i % 3 == 0 else (4, 4)))
    assert min(seen.rates(4)) > 0.98


@given(st.lists(st.floats(0, 1), max_size=6))
def test_tokens_expected_is_the_mean_of_a_game_played_by_those_rates(rates: list[float]) -> None:
    chance = {0: 1.0}
    for place, rate in enumerate(rates):
        reached = chance.pop(place)
        chance |= {place: 0.0, place + 1: reached * rate}
        chance[place] = reached * (1 - rate)
    assert tokens_expected(rates) == pytest.approx(sum((n + 1) * p for n, p in chance.items()))
