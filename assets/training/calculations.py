"""Calculations to be asked for: in words, in signs, or leaning on the calculation before, with random numbers."""

import random
import re
from collections import Counter
from dataclasses import dataclass

import alternatives
from arithmetic import loosely_written, random_expression, random_number, spoken_number
from corpus import Corpus
from noise import QuestionNoise

CALCULATOR = "calculator"
"""What a calculation in signs is about whose form is its own."""
THAT = "calculator: that"
"""What a calculation is about that leans on the one before."""
ANOTHER = "calculator: another form"
"""What a calculation in words is about whose form is a rare one."""
FEWEST_LINES = 3
"""So many lines make a form one to be named. Of rarer ones too little is seen to choose them."""

IN_WORDS, RANDOM_EXPRESSIONS = 0.6, 0.1
"""Shares of the calculations; the others are a form in a frame."""
NUMBERS_IN_WORDS = 0.14
"""The share of the calculations in which some numbers may be written in words."""

SIGNS_BESIDE_NUMBERS = re.compile(r"[+*/^×÷√%(]|>\s*[-x]|[-x]\s*<|>[a-z]")
SLOTS = "abcdef"
SLOT = re.compile(rf"<([{SLOTS}])>")
LISTS = (
    (re.compile(r"<a>( \+ <[b-f]>){2,}"), "a + b + ..."),
    (re.compile(r"\(<a>( \+ <[b-f]>)+\) / [2-6]"), "(a + b + ...) / n"),
    (re.compile(r"<a>( - <[b-f]>){2,}"), "a - b - ..."),
)
"""Forms of any number of numbers, and their one name: how many there are is seen when they are written."""
NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Calculation:
    """A phrase with numbers `<a>` to `<f>` in the order in which they come, and the form of the expression meant."""

    phrase: str
    form: str

    @classmethod
    def of(cls, phrase: str, form: str) -> "Calculation":
        """Of a line of the corpus, where the numbers may have any names. So forms differ only where what is computed
        does, and tell the order: "<b> - <a>" is the second number less the first."""
        order = dict.fromkeys(SLOT.findall(phrase))
        names = dict(zip(order, SLOTS, strict=False))
        phrase, form = (SLOT.sub(lambda slot: f"<{names[slot[1]]}>", text.strip()) for text in (phrase, form))
        return cls(phrase, form)

    @property
    def thought(self) -> str:
        """Such as `calculator: a * b`."""
        name = next((name for form, name in LISTS if form.fullmatch(self.form)), self.form)
        return f"{CALCULATOR}: {SLOT.sub(lambda slot: slot[1], name)}"


@dataclass(frozen=True)
class Asked:
    """A question, the expression to call the calculator with, and the thought of the call."""

    question: str
    expression: str
    thought: str


class Calculations:
    """Draws questions for the calculator."""

    def __init__(self, corpus: Corpus, noise: QuestionNoise) -> None:
        """Reads those in signs ("form => phrase", for the frames "what is <e>?"), those in words ("phrase => form"),
        and those that go on with a result, `<r>`."""
        self.corpus = corpus
        self.noise = noise
        signs, words, more = (
            [line.partition("=>") for line in corpus.section(name)] for name in ("calc_op", "calc_words", "calc_more")
        )
        self.in_signs = [Calculation.of(phrase, form) for form, _, phrase in signs]
        self.in_words = [Calculation.of(phrase, form) for phrase, _, form in words]
        self.more = [Calculation.of(phrase, form) for phrase, _, form in more]
        lines = Counter(known.thought for known in (*self.in_signs, *self.in_words))
        self.forms = [*(thought for thought, count in lines.items() if count >= FEWEST_LINES), ANOTHER]
        """The thoughts of calculations in words."""

    def draw(self, rng: random.Random) -> Asked:
        """A calculation that stands alone."""
        kind = rng.random()
        if kind < IN_WORDS:
            return self.asked(rng.choice(self.in_words), rng)
        frame = self.noise.framed(self.corpus.section("calc_ask"), rng)
        if kind < IN_WORDS + RANDOM_EXPRESSIONS:
            expression = random_expression(rng, rng.choice([1, 2, 2, 3]))
            return Asked(frame.replace("<e>", loosely_written(expression, rng)), expression, CALCULATOR)
        known = rng.choice(self.in_signs)
        question = frame.replace("<e>", alternatives.sample(known.phrase, rng))
        return Asked(*with_numbers(question, known.form, rng), self.thought(known))

    def thought(self, known: Calculation) -> str:
        """Of its call."""
        return known.thought if known.thought in self.forms else ANOTHER

    def asked(self, known: Calculation, rng: random.Random) -> Asked:
        """One in words."""
        phrase = self._phrase(known, rng)
        return Asked(*with_numbers(phrase, known.form, rng), self.thought(known))

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
        else:
            more = rng.choice(self.more)
            question, expression = with_numbers(self._phrase(more, rng), more.form, rng)
            expression = expression.replace("<r>", result or f"({before.expression})")
        return Asked(question, expression, THAT)

    def _phrase(self, known: Calculation, rng: random.Random) -> str:
        """One of its wordings as somebody would type it, without the numbers."""
        phrase = alternatives.sample(known.phrase, rng)
        for slot, section in (("<thing>", "things"), ("<box>", "containers")):
            if slot in phrase:
                phrase = phrase.replace(slot, rng.choice(self.corpus.section(section)))
        return self.noise.framed([phrase], rng)


def with_numbers(phrase: str, form: str, rng: random.Random) -> tuple[str, str]:
    """The phrase and the expression with random numbers; a few are written in words."""
    in_words = rng.random() < NUMBERS_IN_WORDS and not SIGNS_BESIDE_NUMBERS.search(phrase)
    for slot in sorted({f"<{slot}>" for slot in SLOT.findall(phrase)}):
        if in_words and rng.random() < 0.6:
            spoken, digits = spoken_number(rng)
        else:
            digits = str(rng.randint(2, 12)) if f"** {slot}" in form else random_number(rng)
            spoken = _written(digits, rng)
        phrase = phrase.replace(slot, spoken)
        form = form.replace(slot, digits)
    return phrase, form


def _written(digits: str, rng: random.Random) -> str:
    if len(digits) > 3 and digits.isdigit() and rng.random() < 0.3:
        return f"{int(digits):,}"
    return digits
