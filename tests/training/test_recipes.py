"""Recipes of calculations: what is done with the numbers of a question, in the order in which they stand there."""

from __future__ import annotations

import random
import re

import alternatives
import pytest
from arithmetic import same_value
from calculations import SLOT, Calculations
from hypothesis import given
from hypothesis import strategies as st
from noise import QuestionNoise
from recipes import AGAIN, AS_WRITTEN, ASKED, CALCULATOR, LETTERS, NUMBER, RecipeBook
from tool_tasks import ToolTasks

from tests.training.conftest import whole_corpus

CORPUS = whole_corpus()
CALCULATIONS = Calculations(CORPUS, QuestionNoise(0))
DISCOUNTS = [
    ("<a>% off a {coat|hat} of <b>", "<b> - <a> / 100 * <b>"),
    ("the code takes <b> percent off <a>", "<a> - <b> / 100 * <a>"),
    ("with <c> percent off <f>", "<f> * (100 - <c>) / 100"),
    ("<a>% less than <b>", "<b> - <a> / 100 * <b>"),
]
LISTS = [
    ("<a>, <b> and <c> together", "<a> + <b> + <c>"),
    ("sum: <a> <b> <c> <d>", "<a> + <b> + <c> + <d>"),
    ("<a> with <b> and <c>", "<c> + <b> + <a>"),
]


@pytest.fixture(scope="module")
def book() -> RecipeBook:
    return RecipeBook(DISCOUNTS + LISTS, [("and half of that?", "<r> / 2"), ("times <a>", "<r> * <a>")])


def test_a_recipe_counts_numbers_in_the_order_of_the_question(book: RecipeBook) -> None:
    found = book.find("it costs <e>, minus <c> percent", "<e> - <c> / 100 * <e>")
    assert (found.about, found.form) == (CALCULATOR, "<e> - <c> / 100 * <e>")
    found = book.find("minus <e> percent of <c>", "<c> * (1 - <e> / 100)")
    assert (found.about, found.form) == ("calculator: b - a / 100 * b", "<c> - <e> / 100 * <c>")


def test_a_number_that_every_wording_has_is_counted_too(book: RecipeBook) -> None:
    found = book.find("a coat of 1,200 minus <a> percent is more than 20% off <b>", "<b> - 20 / 100 * <b>")
    assert found.about == CALCULATOR
    found = book.find("20% off <b>", "<b> * 0.8")
    assert found.about == CALCULATOR, "0.8 is none of its numbers, and no line of the book computes with it"
    found = book.find("20% off <b>", "<b> - 20 / 100 * <b>")
    assert found.about == "calculator: b - a / 100 * b"


def test_lists_of_any_length_have_one_recipe(book: RecipeBook) -> None:
    for phrase, form in (
        ("<a> <b> <c>", "<a> + <b> + <c>"),
        ("all of <c>, <b>, <a>, <d>, <e>", "<e> + <d> + <c> + <b> + <a>"),
    ):
        found = book.find(phrase, form)
        assert found.about == "calculator: a + b + …"
        assert found.form == " + ".join(re.findall("<.>", phrase))
    assert book.find("of <a>, <b>, <c> and <d> leave out the last", "<a> + <b> + <c>").about == CALCULATOR


def test_what_is_written_in_signs_is_called_as_it_is_written(book: RecipeBook) -> None:
    for phrase, form in (
        ("what is <a>+<b> +<c>?", "<a> + <b> + <c>"),
        ("<a> x <b>", "<a> * <b>"),
        ("<a>^2", "<a> ** 2"),
        ("(<a> ÷ <b>) * 7", "(<a> / <b>) * 7"),
    ):
        assert book.find(phrase, form).about == AS_WRITTEN


def test_what_goes_on_with_a_result_has_a_recipe_with_it(book: RecipeBook) -> None:
    found = book.find("and times <b>?", "<b> * <r>")
    assert (found.about, found.form) == ("calculator: r * a", "<r> * <b>")


def test_a_recipe_has_a_name_when_some_lines_ask_for_it(book: RecipeBook) -> None:
    assert set(book.names) == {
        CALCULATOR,
        AS_WRITTEN,
        AGAIN,
        "calculator: b - a / 100 * b",
        "calculator: a + b + …",
        "calculator: r / 2",
        "calculator: r * a",
    }
    assert len(set(CALCULATIONS.recipes.names)) == len(CALCULATIONS.recipes.names)


@given(st.integers(0, 10**6))
def test_the_recipe_of_a_line_computes_what_the_line_says(seed: int) -> None:
    rng = random.Random(seed)
    known = rng.choice(rng.choice([CALCULATIONS.in_words, CALCULATIONS.as_asked]))
    phrase = CALCULATIONS._worded(known.phrase, rng)
    found = CALCULATIONS.recipes.find(phrase, known.form)
    numbers = {slot: f"{rng.uniform(1, 20):.3f}" for slot in SLOT.findall(phrase)}
    filled = [SLOT.sub(lambda slot: numbers[slot[1]], form) for form in (known.form, found.form)]
    assert same_value(*filled)
    if found.about in (CALCULATOR, AS_WRITTEN) or "…" in found.about:
        return
    letters = dict(zip(LETTERS, (number[0] for number in ASKED.finditer(phrase)), strict=False))
    recipe = found.about.removeprefix(f"{CALCULATOR}: ")
    told = re.sub(r"\b[a-q]\b", lambda letter: letters[letter[0]].replace(",", ""), recipe)
    assert told == found.form, "what the thought says is what is written, with the numbers filled in"


def test_every_call_is_about_something_that_the_book_names() -> None:
    tasks, rng = ToolTasks(CORPUS, QuestionNoise(0.6)), random.Random(3)
    names = set(tasks.calculations.recipes.names)
    met = set()
    for _ in range(300):
        for message in tasks.conversation("calculator", rng):
            if message.get("tool_calls"):
                met.add(message["about"])
    assert met <= names
    assert {CALCULATOR, AS_WRITTEN, AGAIN} < met
    assert any("r" in about.partition(": ")[2] for about in met)


@given(st.integers(0, 10**6))
def test_any_recipe_is_one_that_has_a_name_and_that_the_numbers_of_the_question_are_enough_for(seed: int) -> None:
    rng = random.Random(seed)
    known = rng.choice(rng.choice([CALCULATIONS.in_words, CALCULATIONS.as_asked]))
    phrase = alternatives.sample(known.phrase, rng)
    drawn = CALCULATIONS.recipes.any(phrase, known.form, rng)
    assert drawn.about in CALCULATIONS.recipes.names
    assert set(SLOT.findall(drawn.form)) <= set(SLOT.findall(phrase))
    if not NUMBER.search(phrase):  # one that is a recipe's, too, may make it another
        assert CALCULATIONS.recipes.find(phrase, drawn.form) == drawn


def test_any_recipe_has_nothing_to_do_with_what_is_asked(book: RecipeBook) -> None:
    phrase, form, rng = "<a>% off a coat, <b>, and <c> of them", "<b> - <a> / 100 * <b>", random.Random(1)
    drawn = {book.any(phrase, form, rng) for _ in range(100)}
    assert {recipe.about for recipe in drawn} == {"calculator: a + b + …", "calculator: b - a / 100 * b"}
    assert {recipe.form for recipe in drawn} == {"<a> + <b> + <c>", "<b> - <a> / 100 * <b>"}


def test_what_is_written_in_signs_or_goes_on_with_a_result_has_no_other_recipe(book: RecipeBook) -> None:
    rng = random.Random(2)
    for phrase, form in (("what is <a> + <b> + <c>?", "<a> + <b> + <c>"), ("times <a>, <b> or <c>?", "<r> * <b>")):
        for _ in range(30):
            assert book.any(phrase, form, rng) == book.find(phrase, form)


def test_a_number_that_is_there_twice_makes_no_list(book: RecipeBook) -> None:
    rng = random.Random(3)
    drawn = {book.any("<a>, 7, 7 and <b>", "<a> * <b> + 7", rng).about for _ in range(50)}
    assert "calculator: a + b + …" not in drawn


def test_a_list_drawn_for_any_question_is_of_all_its_numbers_and_of_no_more_than_lists_have(book: RecipeBook) -> None:
    rng = random.Random(4)
    for phrase in ("<a>, <b>, <c> and <d>", "<a>, <b>, <c>, <d>, <e>, <f> and 7"):
        slots = re.findall("<.>", phrase)
        drawn = {book.any(phrase, "<a>", rng) for _ in range(200)}
        of_lists = {recipe.form for recipe in drawn if recipe.about == "calculator: a + b + …"}
        assert of_lists == ({" + ".join(slots)} if "7" not in phrase else set())
