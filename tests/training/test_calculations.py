"""Calculations in the training text: what is asked for is what the call computes."""

from __future__ import annotations

import random
import re
from contextlib import suppress
from dataclasses import replace

import alternatives
import pytest
from arithmetic import ExpressionError, in_words, value_of
from calculations import NUMBER, PAUSE, SLOT, Asked, Calculations, Practice, with_numbers
from hypothesis import given
from hypothesis import strategies as st
from noise import QuestionNoise
from recipes import AS_WRITTEN, CALCULATOR

from tests.training.conftest import whole_corpus

CORPUS = whole_corpus()
# To read all recipes takes a second: too long for each example.
AS_THEY_STAND = Calculations(CORPUS, QuestionNoise(0))


@pytest.fixture(scope="module")
def calculations() -> Calculations:
    return Calculations(CORPUS, QuestionNoise(0.6))


def numbers(text: str) -> set[str]:
    return set(NUMBER.findall(re.sub(r"(?<=\d),(?=\d{3})", "", text)))


def has_value(form: str, rng: random.Random) -> bool:
    """With one of many numbers: there are no roots of negative ones."""
    for _ in range(200):
        with suppress(ExpressionError):
            return isinstance(value_of(SLOT.sub(lambda slot: str(rng.randint(2, 30)), form)), float)
    return False


def test_every_calculation_of_the_corpus_has_a_value_and_all_its_numbers_in_every_wording(
    calculations: Calculations,
) -> None:
    rng = random.Random(1)
    for known in (
        *calculations.in_signs,
        *calculations.in_words,
        *calculations.as_asked,
        *calculations.more,
        *calculations.pairs,
    ):
        for form in known.form.replace("<r>", "12").split(PAUSE):
            assert has_value(form, rng), known
        for _ in range(5):
            told = SLOT.findall(alternatives.sample(known.phrase, rng))
            assert set(told) >= set(SLOT.findall(known.form)), known


def test_half_of_those_in_words_are_as_people_ask_and_these_give_no_recipe_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or each new line could change the tokens of all thoughts."""
    asked = ["which wire for <a> of <b>? => <a> ** <b> * 7"] * 9
    calculations = Calculations(replace(CORPUS, frames=CORPUS.frames | {"calc_asked": asked}), QuestionNoise(0))
    assert calculations.recipes.names == AS_THEY_STAND.recipes.names
    monkeypatch.setattr("calculations.IN_WORDS", 1.0)
    rng = random.Random(5)
    drawn = [calculations.draw(rng) for _ in range(400)]
    assert 150 < sum(one.question.lower().startswith("which wire") for one in drawn) < 250
    assert {one.about for one in drawn if one.question.lower().startswith("which wire")} == {CALCULATOR}


def test_the_second_of_a_pair_says_only_what_is_different_and_computes_all(
    calculations: Calculations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calculations.NUMBERS_IN_WORDS", 0.0)
    rng, shorter = random.Random(4), 0
    for known in rng.sample(calculations.pairs, 600):
        monkeypatch.setattr(calculations, "pairs", [known])
        first, second = calculations.pair(rng)
        fixed = numbers(SLOT.sub("", known.form))
        # The first one's recipe may have other constants than the line: "/ 10" for "* 0.1".
        assert numbers(first.expression) <= numbers(first.question) | fixed | numbers(first.about)
        assert numbers(second.expression) <= numbers(first.question) | numbers(second.question) | fixed
        assert not SLOT.search(first.question + second.question + first.expression + second.expression)
        shorter += numbers(second.expression) - fixed > numbers(second.question)
    assert shorter > 300


@given(st.integers(0, 10**6))
def test_a_question_holds_the_numbers_of_its_expression(seed: int) -> None:
    asked = AS_THEY_STAND.draw(random.Random(seed))
    with suppress(ExpressionError):  # what is divided by zero, say, has no value
        assert isinstance(value_of(asked.expression), float)
    assert "<" not in asked.expression
    assert not SLOT.search(asked.question)


def test_what_a_call_computes_with_stands_in_the_question_or_belongs_to_its_form_or_recipe(
    calculations: Calculations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calculations.NUMBERS_IN_WORDS", 0.0)
    rng = random.Random(2)
    for _ in range(400):
        known = rng.choice(rng.choice([calculations.in_words, calculations.as_asked]))
        asked = calculations.asked(known, rng)
        # A recipe may be spelled otherwise than the line: "4 * a + 2 * b".
        assert numbers(asked.expression) <= numbers(asked.question) | numbers(known.form) | numbers(asked.about), asked


@pytest.mark.parametrize(("result", "stands_for_it"), [("-4.5", "-4.5"), ("", "(70 + 17)")])
def test_what_leans_on_a_calculation_takes_its_result_or_its_expression_or_changes_one_number(
    calculations: Calculations, result: str, stands_for_it: str
) -> None:
    rng, changed = random.Random(3), 0
    before = Asked("what is 70 + 17?", "70 + 17", AS_WRITTEN)
    for _ in range(200):
        asked = calculations.leaning(before, result, rng)
        if re.fullmatch(r"70 \+ [\d.]+|[\d.]+ \+ 17", asked.expression):
            changed += 1
            assert numbers(asked.expression) <= numbers(asked.question) | {"70", "17"}
        else:
            assert stands_for_it in asked.expression
    assert 30 < changed < 150


@given(st.integers(0, 999_999), st.integers(0, 9))
def test_numbers_in_words_are_the_numbers(value: int, seed: int) -> None:
    words = in_words(value, random.Random(seed)).replace("-", " ").replace(" and ", " ").split()
    ones = {in_words(number, random.Random(seed)): number for number in (*range(21), *range(20, 100, 10))}
    total = part = 0
    for word in words:
        if word == "thousand":
            total, part = part * 1000, 0
        elif word == "hundred":
            part *= 100
        else:
            part += ones[word]
    assert total + part == value


def test_with_any_recipe_the_expression_is_what_its_thought_says_of_the_questions_numbers(
    calculations: Calculations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calculations, "practice", Practice(any_recipe=1.0))
    monkeypatch.setattr("calculations.NUMBERS_IN_WORDS", 0.0)
    rng, others = random.Random(5), 0
    for _ in range(300):
        known = rng.choice(calculations.as_asked)
        asked = calculations.asked(known, rng)
        assert numbers(asked.expression) <= numbers(asked.question) | numbers(known.form) | numbers(asked.about), asked
        others += asked.about != calculations.recipes.find(known.phrase, known.form).about
    assert others > 250


def test_numbers_to_practise_with_are_easily_taken_for_each_other() -> None:
    def same_beginnings(practice: Practice) -> int:
        rng = random.Random(6)
        drawn = [with_numbers("<a> of <b>", "<a> / <b>", rng, practice)[1].split(" / ") for _ in range(1000)]
        return sum(a[:2] == b[:2] for a, b in drawn if len(a) > 2)

    assert same_beginnings(Practice()) < 50
    assert same_beginnings(Practice(alike=0.5)) > 150


def test_numbers_to_practise_with_end_in_rows_of_one_digit() -> None:
    def rows(practice: Practice) -> int:
        rng = random.Random(7)
        drawn = [with_numbers("half of <a>", "<a> / 2", rng, practice)[1].split(" / ")[0] for _ in range(1000)]
        return sum(bool(re.search(r"[1-9](\d)\1+$", number)) for number in drawn)

    assert rows(Practice()) < 160
    assert rows(Practice(rows=0.5)) > 350


def test_who_does_not_practise_meets_exponents_in_words_too() -> None:
    rng = random.Random(8)
    drawn = [with_numbers("<a> to the power of <b>", "<a> ** <b>", rng)[0] for _ in range(400)]
    assert sum(not question.rsplit(" ", 1)[1].isdigit() for question in drawn) > 30


def test_an_exponent_is_not_made_alike_to_what_it_is_the_power_of() -> None:
    rng, practice = random.Random(9), Practice(alike=1.0)
    drawn = [with_numbers("<a>^<b>", "<a> ** <b>", rng, practice)[1].split(" ** ") for _ in range(200)]
    assert all(2 <= int(exponent) <= 12 for _, exponent in drawn)
