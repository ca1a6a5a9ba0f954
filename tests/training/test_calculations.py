"""Calculations in the training text: what is asked for is what the call computes."""

from __future__ import annotations

import random
import re
from contextlib import suppress

import alternatives
import corpus as corpus_files
import pytest
from arithmetic import ExpressionError, in_words, value_of
from calculations import NUMBER, SLOT, THAT, Asked, Calculation, Calculations
from hypothesis import given
from hypothesis import strategies as st
from noise import QuestionNoise

CORPUS = corpus_files.load(corpus_files.CORPUS_FOLDER)


@pytest.fixture(scope="module")
def calculations() -> Calculations:
    return Calculations(CORPUS, QuestionNoise(0.6))


def numbers(text: str) -> set[str]:
    return set(NUMBER.findall(re.sub(r"(?<=\d),(?=\d{3})", "", text)))


def test_every_calculation_of_the_corpus_has_a_value_and_all_its_numbers_in_every_wording(
    calculations: Calculations,
) -> None:
    rng = random.Random(1)
    for known in (*calculations.in_signs, *calculations.in_words, *calculations.more):
        form = SLOT.sub(lambda slot: str(ord(slot[1]) - 90), known.form).replace("<r>", "12")
        assert value_of(form) == value_of(form), known
        for _ in range(5):
            told = SLOT.findall(alternatives.sample(known.phrase, rng))
            assert set(told) >= set(SLOT.findall(known.form)), known
            assert sorted(set(told)) == list(dict.fromkeys(told)), known


@pytest.mark.parametrize(
    ("phrase", "form", "thought"),
    [
        ("take <b> from <a>", "<a> - <b>", "calculator: b - a"),
        ("a <c>% tip on <a>", "<c> / 100 * <a>", "calculator: a / 100 * b"),
        ("<a> and <a> again", "<a> + <a>", "calculator: a + a"),
        ("take <b> {from|off} <a>", "<a> - <b>", "calculator: b - a"),
        ("<a>, <b> and <c> in all", "<a> + <b> + <c>", "calculator: a + b + ..."),
        ("mean of <a> and <b>", "(<a> + <b>) / 2", "calculator: (a + b + ...) / n"),
        ("<a> less <b> less <c>", "<a> - <b> - <c>", "calculator: a - b - ..."),
        ("<a> and <b>, two for each", "(<a> + <b>) * 2", "calculator: (a + b) * 2"),
    ],
)
def test_numbers_are_named_in_the_order_in_which_they_come(phrase: str, form: str, thought: str) -> None:
    assert Calculation.of(phrase, form).thought == thought


@given(st.integers(0, 10**6))
def test_a_question_holds_the_numbers_of_its_expression(seed: int) -> None:
    asked = Calculations(CORPUS, QuestionNoise(0)).draw(random.Random(seed))
    assert asked.thought.startswith("calculator")
    with suppress(ExpressionError):  # what is divided by zero, say, has no value
        assert isinstance(value_of(asked.expression), float)
    assert "<" not in asked.expression
    assert not SLOT.search(asked.question)


def test_what_a_call_computes_with_stands_in_the_question_or_belongs_to_its_form(
    calculations: Calculations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calculations.NUMBERS_IN_WORDS", 0.0)
    rng = random.Random(2)
    for _ in range(400):
        known = rng.choice(calculations.in_words)
        asked = calculations.asked(known, rng)
        assert numbers(asked.expression) <= numbers(asked.question) | numbers(known.form), asked


@pytest.mark.parametrize(("result", "stands_for_it"), [("-4.5", "-4.5"), ("", "(70 + 17)")])
def test_what_leans_on_a_calculation_takes_its_result_or_its_expression_or_changes_one_number(
    calculations: Calculations, result: str, stands_for_it: str
) -> None:
    rng, changed = random.Random(3), 0
    before = Asked("what is 70 + 17?", "70 + 17", "calculator: a + b")
    for _ in range(200):
        asked = calculations.leaning(before, result, rng)
        if re.fullmatch(r"70 \+ [\d.]+|[\d.]+ \+ 17", asked.expression):
            changed += 1
            assert numbers(asked.expression) <= numbers(asked.question) | {"70", "17"}
        else:
            assert stands_for_it in asked.expression
        assert asked.thought == THAT
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
