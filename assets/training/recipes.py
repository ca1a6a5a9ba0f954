"""Recipes: what a calculation does with the numbers of its question, `a`, `b`, `c` in the order in which they stand.

"30% off a jacket of 129" wants `b - a / 100 * b`, and so do a hundred other lines. Which recipe a question wants is
one decision, as which answer it wants is; so it is a part of the thought, `calculator: b - a / 100 * b`, and what is
left to be written is the recipe with the numbers filled in.
"""

import random
import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import alternatives
from arithmetic import ExpressionError, value_of

CALCULATOR = "calculator"
"""What a call is about whose recipe is too rare to have a name."""
AS_WRITTEN = f"{CALCULATOR}: as written"
"""The question has the expression in it."""
AGAIN = f"{CALCULATOR}: again"
"""The calculation before, with something else in one place."""

SLOT = re.compile("<([a-f])>")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
RESULT = "r"
LETTERS = string.ascii_lowercase[: string.ascii_lowercase.index(RESULT)]
"""Of the numbers in a question; `r` is the result before it."""
ASKED = re.compile(rf"{SLOT.pattern}|(?<![\w.])\d[\d,]*(?:\.\d+)?")
"""A number of a question: a slot, or one that every wording has, as people write it."""
COMPUTED = re.compile(rf"{SLOT.pattern}|{NUMBER.pattern}")
"""A number of a form."""
LETTER = re.compile(r"\b[a-r]\b")
TIMES = re.compile(r"(?<=[>\d)])[x×](?=[<\d(])")
OPERATOR = re.compile(r"[-+*/%]")

FEWEST_LINES = 3
"""So many lines of the corpus ask for a recipe that has a name."""
LONGEST_LIST = 6
LISTS: dict[str, tuple[int, Callable[[str], str]]] = {
    "a + b + …": (3, " + ".join),
    "a - b - …": (3, " - ".join),
    "a * b * …": (3, " * ".join),
    "avg(a, b, …)": (2, lambda letters: f"avg({', '.join(letters)})"),
}
"""Recipes for all numbers of a question, with the fewest that they are for."""
FOR_ALL, LISTED = 0.75, 0.15
"""Of any recipes for a question, the share of those for all of its numbers, and of those the share of lists."""


@dataclass(frozen=True)
class Recipe:
    """What a calculation is about, and the form of its expression with the slots of the question."""

    about: str
    form: str


@dataclass(frozen=True)
class _Lettered:
    """A form with letters for the numbers of its question, and which letters these are."""

    form: str
    letters: dict[str, str]
    numbers: int

    @property
    def meaning(self) -> str:
        """The same for all that compute the same."""
        return list_name(self.form, self.numbers) or value_at_points(self.form)


class RecipeBook:
    """The recipes that have a name."""

    def __init__(self, questions: Iterable[tuple[str, str]], further: Iterable[tuple[str, str]] = ()) -> None:
        """Questions and their forms; of the `further` ones, which go on with a result, no recipe is too rare."""
        lines: Counter[str] = Counter()
        spellings: dict[str, Counter[str]] = defaultdict(Counter)
        for weight, asked in ((1, questions), (FEWEST_LINES, further)):
            for phrase, form in asked:
                lettered = _lettered(alternatives.variants(phrase)[0], form)
                lines[lettered.meaning] += weight
                spellings[lettered.meaning][lettered.form] += 1
        self._forms = {
            meaning: max(spellings[meaning].items(), key=lambda found: (found[1], -len(found[0])))[0]
            for meaning, count in lines.items()
            if count >= FEWEST_LINES
        }
        self._by_numbers: dict[int, list[str]] = defaultdict(list)
        """Meanings, by how many numbers they are for; none of those that go on with a result."""
        for meaning, form in self._forms.items():
            letters = LETTER.findall(form)
            if meaning in LISTS:
                for numbers in range(LISTS[meaning][0], LONGEST_LIST + 1):
                    self._by_numbers[numbers].append(meaning)
            elif letters and RESULT not in letters:
                self._by_numbers[LETTERS.index(max(letters)) + 1].append(meaning)

    @property
    def names(self) -> list[str]:
        """What calls of the calculator are about."""
        return [CALCULATOR, AS_WRITTEN, AGAIN, *map(self._name, self._forms)]

    def find(self, phrase: str, form: str) -> Recipe:
        """The recipe of a question whose slots are still empty; its form may be another one with the same value."""
        if _stands_in(form, phrase):
            return Recipe(AS_WRITTEN, form)
        lettered = _lettered(phrase, form)
        if lettered.meaning not in self._forms:
            return Recipe(CALCULATOR, form)
        return self._filled_in(lettered, lettered.meaning)

    def any(self, phrase: str, form: str, rng: random.Random) -> Recipe:
        """One that the numbers of the question are enough for, whatever it asks. What is written in signs, or goes on
        with a result, keeps its own."""
        question = _lettered(phrase, form)
        if _stands_in(form, phrase) or "<r>" in form or not question.numbers:
            return self.find(phrase, form)
        numbers = question.numbers if rng.random() < FOR_ALL else rng.randint(1, question.numbers)
        fitting = [meaning for meaning in self._by_numbers[numbers] if self._fits(meaning, numbers, question)]
        if rng.random() < LISTED:
            fitting = [meaning for meaning in fitting if meaning in LISTS] or fitting
        return self._filled_in(question, rng.choice(fitting)) if fitting else self.find(phrase, form)

    def _filled_in(self, question: _Lettered, meaning: str) -> Recipe:
        numbers = {letter: number for number, letter in question.letters.items()} | {RESULT: "<r>"}
        return Recipe(self._name(meaning), _filled(self._form(meaning, question.numbers), numbers))

    def _form(self, meaning: str, numbers: int) -> str:
        return LISTS[meaning][1](LETTERS[:numbers]) if meaning in LISTS else self._forms[meaning]

    def _fits(self, meaning: str, numbers: int, question: _Lettered) -> bool:
        """A list is of all numbers of the question."""
        if meaning in LISTS and numbers < question.numbers:
            return False
        # Of a number that is there twice only the first has a letter.
        return set(LETTER.findall(self._form(meaning, numbers))) <= set(question.letters.values())

    def _name(self, meaning: str) -> str:
        return f"{CALCULATOR}: {meaning if meaning in LISTS else self._forms[meaning]}"


def _lettered(phrase: str, form: str) -> _Lettered:
    numbers = [number[0].replace(",", "") for number in ASKED.finditer(phrase)]
    # Of a number that is there twice, the first.
    letters = dict(reversed(list(zip(numbers, LETTERS, strict=False))))
    form = COMPUTED.sub(lambda found: letters.get(found[0], found[0]), form).replace("<r>", RESULT)
    return _Lettered(form, letters, len(numbers))


def _stands_in(form: str, phrase: str) -> bool:
    """Whether the question is written as the expression is, but for blanks and the signs for times and power."""
    signs = TIMES.sub("*", phrase.replace(" ", "")).replace("^", "**").replace("÷", "/")
    return bool(OPERATOR.search(form)) and form.replace(" ", "") in signs


@cache
def list_name(form: str, numbers: int) -> str:
    """The name of a recipe for all of so many numbers; empty when it is none."""
    for name, (fewest, joined) in LISTS.items():
        if fewest <= numbers <= LONGEST_LIST and value_at_points(form) == value_at_points(joined(LETTERS[:numbers])):
            return name
    return ""


@cache
def value_at_points(form: str) -> str:
    """What a form with letters computes at some random points; the form itself where it has no value."""
    try:
        return " ".join(f"{value_of(_filled(form, point)):.7g}" for point in POINTS)
    except ExpressionError:
        return form


def _filled(form: str, numbers: Mapping[str, str]) -> str:
    return LETTER.sub(lambda found: numbers[found[0]], form)


def _points(count: int) -> list[dict[str, str]]:
    """Small numbers and large ones, so that rests and whole parts differ, too."""
    rng = random.Random(0)
    return [{letter: f"{10 ** rng.uniform(0.3, 4):.6f}" for letter in LETTERS + RESULT} for _ in range(count)]


POINTS = _points(4)
