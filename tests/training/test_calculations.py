"""Forms of calculations tell the order of their numbers, however the corpus names them."""

from __future__ import annotations

import random
from contextlib import suppress

import alternatives
import corpus as corpus_files
import pytest
from arithmetic import ExpressionError, value_of
from hypothesis import given
from hypothesis import strategies as st
from noise import QuestionNoise
from tool_tasks import SLOT, Calculation, ToolTasks, calculations_in_signs, calculations_in_words

CORPUS = corpus_files.load(corpus_files.CORPUS_FOLDER)
ALL = [*calculations_in_signs(CORPUS), *calculations_in_words(CORPUS)]


@pytest.mark.parametrize(
    ("phrase", "form", "thought"),
    [
        ("take <b> from <a>", "<a> - <b>", "calculator: b - a"),
        ("a <c>% tip on <a>", "<c> / 100 * <a>", "calculator: a / 100 * b"),
        ("<a> and <a> again", "<a> + <a>", "calculator: a + a"),
    ],
)
def test_numbers_are_named_in_the_order_in_which_they_come(phrase: str, form: str, thought: str) -> None:
    assert Calculation.of(phrase, form).thought == thought


def test_a_line_of_the_corpus_computes_what_it_tells() -> None:
    """No number is used that is not told, none is told in vain, and they come in the order of their names."""
    rng = random.Random(1)
    for calculation in ALL:
        for _ in range(5):
            told = SLOT.findall(alternatives.sample(calculation.phrase, rng))
            assert set(told) == set(SLOT.findall(calculation.form)), calculation
            assert sorted(set(told)) == list(dict.fromkeys(told)), calculation


@given(st.integers(0, 10**6))
def test_a_question_holds_the_numbers_of_its_expression(seed: int) -> None:
    rng = random.Random(seed)
    tasks = ToolTasks(CORPUS, QuestionNoise(0))
    question, expression, thought = tasks.calculation(rng)
    assert thought.startswith("calculator")
    with suppress(ExpressionError):  # what is divided by zero, say, has no value
        assert isinstance(value_of(expression), float)
    assert "<" not in expression
    assert not SLOT.search(question)
