"""Numbers of questions are mostly such as people have in mind."""

from __future__ import annotations

import math
import random

import pytest
from arithmetic import value_of
from calculations import with_numbers
from plausible import oddities

DRAWS = 400


@pytest.mark.parametrize(
    ("form", "numbers"),
    [
        ("<a> - <b>", "50 36.42"),
        ("<b> - <a>", "41 50"),
        ("<a> / <b>", "12.60 3"),
        ("<a> / <b> * 100", "17 24"),
        ("(<b> - <a>) / <a> * 100", "80 92"),
        ("<a> - <b> / 100 * <a>", "129 30"),
        ("<a> * (100 - <b>) / 100", "129 30"),
        ("<a> % <b>", "50 8"),
        ("avg(<a>, <b>, <c>)", "12 17 9"),
        ("<a> * 60", "90"),
        ("-<a> + <b>", "8 15"),
    ],
)
def test_in_what_people_ask_nothing_is_odd(form: str, numbers: str) -> None:
    assert oddities(form, dict(zip("abc", numbers.split(), strict=False))) == 0


@pytest.mark.parametrize(
    ("form", "numbers"),
    [
        ("<a> - <b>", "36.42 50"),
        ("<a> / <b>", "3 12.60"),
        ("<a> / <b> * 100", "24 17"),
        ("<b> / 100 * <a>", "30 129"),
        ("(<b> - <a>) / <a> * 100", "8 92"),
        ("<a> % <b>", "8 50"),
        ("avg(<a>, <b>)", "12 1700"),
        ("<a> + <b>", "2 5000000"),
        ("<a> * <b>", "400000 500000"),
        ("<a> + <b>", "0 5"),
        ("<a> / <b>", "5 0"),
        ("sqrt(<a> - <b>)", "5 9"),
    ],
)
def test_what_nobody_has_in_mind_is_odd(form: str, numbers: str) -> None:
    assert oddities(form, dict(zip("ab", numbers.split(), strict=True))) > 0


@pytest.mark.parametrize(
    ("form", "said"), [("<r> / <a>", 0), ("<a> <b>", 0), ("sum(<a>)", math.inf), ("<a> and <b>", math.inf)]
)
def test_what_has_no_value_cannot_be_plausible_but_what_goes_on_with_a_result_may_be(form: str, said: float) -> None:
    assert oddities(form, {"a": "5", "b": "7"}) == said


@pytest.mark.parametrize("form", ["<a> - <b>", "<b> - <a>", "<a> - <b> - <c>", "(<a> - <b>) / <c>"])
def test_most_questions_take_less_away_than_there_is_and_some_do_not(form: str) -> None:
    """A person may ask for anything, so the words have to decide in the end."""
    rng = random.Random(5)
    taken = [value_of(with_numbers(form, form, rng)[1]) > 0 for _ in range(DRAWS)]
    assert 0.8 * DRAWS < sum(taken) < DRAWS


def test_what_is_asked_in_a_pair_of_questions_is_plausible_in_both() -> None:
    rng = random.Random(6)
    phrase = form = "<a> - <b> ;; <c> - <b>"
    both = [[value_of(part) > 0 for part in with_numbers(phrase, form, rng)[1].split(";;")] for _ in range(DRAWS)]
    assert sum(map(all, both)) > 0.8 * DRAWS
