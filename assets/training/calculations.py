"""Calculations to be asked for: in words, in signs, or leaning on the calculation before, with random numbers."""

import random
import re
from collections import Counter
from dataclasses import dataclass, replace

import alternatives
from alike_numbers import alike, with_a_row
from arithmetic import loosely_written, random_expression, random_number, spoken_number
from corpus import Corpus
from noise import QuestionNoise
from plausible import oddities
from recipes import AGAIN, AS_WRITTEN, NUMBER, SLOT, RecipeBook

IN_WORDS, RANDOM_EXPRESSIONS = 0.72, 0.07
"""Shares of the calculations; the others are a form in a frame."""
AS_ASKED = 0.5
"""The share of those in words whose lines were written as people ask, no two of them alike."""
NUMBERS_IN_WORDS = 0.25
"""The share of the calculations in which some numbers may be written in words."""
PLAUSIBLE, DRAWS = 0.85, 12
"""The share of those with several numbers that are chosen to be plausible, out of at most so many draws."""

SIGNS_BESIDE_NUMBERS = re.compile(r"[+*/^×÷√%(]|>\s*[-x]|[-x]\s*<|>[a-z]")
PAUSE = ";;"
"""Between two questions, and between what they compute."""


@dataclass(frozen=True)
class Practice:
    """What makes calculations harder to write down than people's are."""

    any_recipe: float = 0.0
    """The share of those whose recipe is not theirs, but any that their numbers are enough for: so the thought alone
    tells what is written, and all recipes are met with all wordings. Not of what is written in signs or goes on with
    a result (`RecipeBook.any`)."""
    alike: float = 0.0
    """The share of the numbers that are easily taken for one before them."""
    rows: float = 0.0
    """Of the other numbers, the share of those that end in a row of one digit."""


NO_PRACTICE = Practice()


@dataclass(frozen=True)
class Calculation:
    """A phrase with numbers `<a>` to `<f>`, and the form of the expression meant."""

    phrase: str
    form: str


@dataclass(frozen=True)
class Asked:
    """A question, the expression to call the calculator with, and what the call is about."""

    question: str
    expression: str
    about: str


class Calculations:
    """Draws questions for the calculator."""

    def __init__(self, corpus: Corpus, noise: QuestionNoise) -> None:
        """Reads those in signs ("form => phrase", for the frames "what is <e>?"), those in words ("phrase => form"; as
        people ask, likewise), those that go on with a result, `<r>`, and pairs ("phrase ;; phrase => form ;; form")."""
        self.corpus = corpus
        self.noise = noise
        self.practice = NO_PRACTICE
        signs, words, as_asked, more, pairs = (
            [[half.strip() for half in line.split("=>")] for line in corpus.section(name)]
            for name in ("calc_op", "calc_words", "calc_asked", "calc_more", "calc_pairs")
        )
        self.in_signs = [Calculation(phrase, form) for form, phrase in signs]
        self.in_words = [Calculation(phrase, form) for phrase, form in words]
        self.as_asked = [Calculation(phrase, form) for phrase, form in as_asked]
        self.more = [Calculation(phrase, form) for phrase, form in more]
        self.pairs = [Calculation(phrase, form) for phrase, form in pairs]
        # Those as asked give no recipe its name: more of them change nothing but what is learned.
        self.recipes = RecipeBook([*words, *((phrase, form) for form, phrase in signs)], more)

    def draw(self, rng: random.Random) -> Asked:
        """A calculation that stands alone."""
        kind = rng.random()
        if kind < IN_WORDS:
            lines = self.as_asked if rng.random() < AS_ASKED else self.in_words
            return self.asked(rng.choice(lines), rng)
        frame = self.noise.framed(self.corpus.section("calc_ask"), rng)
        if kind < IN_WORDS + RANDOM_EXPRESSIONS:
            expression = random_expression(rng, rng.choice([1, 2, 2, 3]))
            return Asked(frame.replace("<e>", loosely_written(expression, rng)), expression, AS_WRITTEN)
        known = rng.choice(self.in_signs)
        return self._filled(frame.replace("<e>", alternatives.sample(known.phrase, rng)), known.form, rng)

    def asked(self, known: Calculation, rng: random.Random) -> Asked:
        """One in words."""
        return self._filled(self._worded(known.phrase, rng), known.form, rng)

    def _filled(self, phrase: str, form: str, rng: random.Random) -> Asked:
        if _happens(self.practice.any_recipe, rng):
            recipe = self.recipes.any(phrase, form, rng)
        else:
            recipe = self.recipes.find(phrase, form)
        return Asked(*with_numbers(phrase, recipe.form, rng, self.practice), recipe.about)

    def pair(self, rng: random.Random) -> tuple[Asked, Asked]:
        """Two questions, the second of which says only what is different."""
        known = rng.choice(self.pairs)
        first, second = (self._worded(phrase.strip(), rng) for phrase in known.phrase.split(PAUSE))
        form, further = known.form.split(PAUSE)
        recipe = self.recipes.find(first, form.strip())
        forms = recipe.form + PAUSE + further.strip()
        questions, expressions = with_numbers(first + PAUSE + second, forms, rng, self.practice)
        (first, second), (form, further) = questions.split(PAUSE), expressions.split(PAUSE)
        return Asked(first, form, recipe.about), Asked(second, further, AGAIN)

    def leaning(self, before: Asked, result: str, rng: random.Random) -> Asked:
        """More is done with what was calculated before, or with another number in place of one of its numbers.

        Without a result the expression stands for it.
        """
        counts = Counter(NUMBER.findall(before.expression))
        written = NUMBER.findall(before.question)
        replaceable = [number for number, count in counts.items() if count == 1 and number in written]
        if replaceable and rng.random() < 0.4:
            old, new = rng.choice(replaceable), random_number(rng)
            question = self.noise.framed(self.corpus.section("calc_again"), rng).replace("<o>", old).replace("<n>", new)
            expression = NUMBER.sub(lambda found: new if found[0] == old else found[0], before.expression)
            return Asked(question, expression, AGAIN)
        more = rng.choice(self.more)
        asked = self._filled(self._worded(more.phrase, rng), more.form, rng)
        return replace(asked, expression=asked.expression.replace("<r>", result or f"({before.expression})"))

    def _worded(self, phrase: str, rng: random.Random) -> str:
        """One of its wordings as somebody would type it, without the numbers."""
        phrase = alternatives.sample(phrase, rng)
        for slot, section in (("<thing>", "things"), ("<box>", "containers")):
            if slot in phrase:
                phrase = phrase.replace(slot, rng.choice(self.corpus.section(section)))
        return self.noise.framed([phrase], rng)


def with_numbers(phrase: str, form: str, rng: random.Random, practice: Practice = NO_PRACTICE) -> tuple[str, str]:
    """The phrase and the expression with random numbers, mostly such as people have; a few are written in words."""
    in_words = rng.random() < NUMBERS_IN_WORDS and not SIGNS_BESIDE_NUMBERS.search(phrase)
    slots = sorted(set(SLOT.findall(phrase)))
    plausible = len(slots) > 1 and rng.random() < PLAUSIBLE
    numbers = _random_numbers(slots, form, in_words, practice, rng)
    least = _oddities(form, numbers) if plausible else 0
    for _ in range(DRAWS - 1):
        if not least:
            break
        others = _random_numbers(slots, form, in_words, practice, rng)
        if (odd := _oddities(form, others)) < least:
            numbers, least = others, odd
    for slot, (spoken, digits) in numbers.items():
        phrase = phrase.replace(f"<{slot}>", spoken)
        form = form.replace(f"<{slot}>", digits)
    return phrase, form


def _random_numbers(
    slots: list[str], form: str, in_words: bool, practice: Practice, rng: random.Random
) -> dict[str, tuple[str, str]]:
    """As it is written in the question, and its digits."""
    numbers: dict[str, tuple[str, str]] = {}
    for slot in slots:
        is_exponent = f"** <{slot}>" in form
        if numbers and not is_exponent and _happens(practice.alike, rng):
            _, before = rng.choice(list(numbers.values()))
            digits = alike(before, rng)
        elif in_words and rng.random() < 0.6:
            numbers[slot] = spoken_number(rng)
            continue
        elif is_exponent:
            digits = str(rng.randint(2, 12))
        else:
            digits = with_a_row(rng) if _happens(practice.rows, rng) else random_number(rng)
        numbers[slot] = _written(digits, rng), digits
    return numbers


def _happens(share: float, rng: random.Random) -> bool:
    """Draws nothing where it never does, so that who does not practise meets what a seed always gave."""
    return share > 0 and rng.random() < share


def _oddities(form: str, numbers: dict[str, tuple[str, str]]) -> float:
    digits = {slot: digits for slot, (_, digits) in numbers.items()}
    return sum(oddities(part.strip(), digits) for part in form.split(PAUSE))


def _written(digits: str, rng: random.Random) -> str:
    if len(digits) > 3 and digits.isdigit() and rng.random() < 0.4:
        return f"{int(digits):,}"
    return digits
