"""Conversations with a calculator, a clock and a search. Results are random, so that the model copies them."""

import random
import re
from dataclasses import dataclass

import alternatives
from arithmetic import loosely_written, random_expression, random_number, spoken_number
from chat_format import Message, assistant, tool_call, tool_result, user
from corpus import Corpus
from noise import QuestionNoise, pseudo_word
from thoughts import COPYING

IN_WORDS, RANDOM_EXPRESSIONS = 0.45, 0.1
"""Shares of the calculations; the others are a form in a frame."""

ADJECTIVES = (
    "small large cached shared empty full late early quick slow dense sparse hidden local remote first last next odd "
    "plain chunked paged fused static dynamic speculative greedy"
).split()
NOUNS = (
    "block table queue token prompt batch layer head router adapter window page stream kernel tensor logit budget slot "
    "trace switch panel cache scheduler prefill decode sampling eviction preemption tokenizer embedding quantization "
    "latency throughput engine session theme shortcut export metal attention memory request sequence draft model seed "
    "temperature penalty template vocabulary weights checkpoint config port log error crash backup install update"
).split()
VERBS = "holds frees reads writes moves splits merges counts skips shares keeps drops sets limits shows".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()

SUBJECTS = (
    "calculator",
    "calculator: result",
    "calculator: error",
    "clock: time",
    "clock: the time",
    "clock: date",
    "clock: the date",
    "search_docs",
    "search_docs: found",
    "search_docs: nothing",
    COPYING,
)
"""What answers are about that call these tools or tell what they returned."""

SIGNS_BESIDE_NUMBERS = re.compile(r"[+*/^×÷√%(]|>\s*[-x]|[-x]\s*<|>[a-z]")
SLOT = re.compile(r"<([a-d])>")
SENTENCE_END = re.compile(r"(?<=[.!?]) +")


def first_sentence(result: str) -> str:
    """Of what a search found, without the heading above it."""
    text = result.partition("\n\n")[0].rpartition("\n")[2]
    return SENTENCE_END.split(text)[0]


@dataclass(frozen=True)
class Calculation:
    """A phrase with numbers `<a>` to `<d>` in the order in which they come, and the form of the expression meant."""

    phrase: str
    form: str

    @classmethod
    def of(cls, phrase: str, form: str) -> "Calculation":
        """Of a line of the corpus, where the numbers may have any names. So forms differ only where what is computed
        does, and tell the order: "<b> - <a>" is the second number less the first."""
        order = dict.fromkeys(SLOT.findall(phrase))
        names = dict(zip(order, "abcd", strict=False))
        phrase, form = (SLOT.sub(lambda slot: f"<{names[slot[1]]}>", text.strip()) for text in (phrase, form))
        return cls(phrase, form)

    @property
    def thought(self) -> str:
        """Such as `calculator: a * b`."""
        return f"calculator: {SLOT.sub(lambda slot: slot[1], self.form)}"


def calculations_in_signs(corpus: Corpus) -> list[Calculation]:
    """Those that stand in a frame ("what is <e>?")."""
    lines = [line.partition("=>") for line in corpus.section("calc_op")]
    return [Calculation.of(phrase, form) for form, _, phrase in lines]


def calculations_in_words(corpus: Corpus) -> list[Calculation]:
    """Those that are questions by themselves."""
    lines = [line.partition("=>") for line in corpus.section("calc_words")]
    return [Calculation.of(phrase, form) for phrase, _, form in lines]


def calculations(corpus: Corpus) -> list[str]:
    """The thoughts of all forms of the corpus."""
    known = [*calculations_in_signs(corpus), *calculations_in_words(corpus)]
    return list(dict.fromkeys(each.thought for each in known))


class ToolTasks:
    """Draws tool conversations: question, call, and mostly the result and the answer to it."""

    def __init__(self, corpus: Corpus, noise: QuestionNoise) -> None:
        self.corpus = corpus
        self.noise = noise
        self.names = [alias for intent in corpus.intents.values() for alias in intent.aliases]
        self.in_signs, self.in_words = calculations_in_signs(corpus), calculations_in_words(corpus)
        self.sentences = [
            sentence
            for intent in corpus.intents.values()
            for text in (*intent.answers, *intent.reasons)
            for sentence in SENTENCE_END.split(re.sub(r"[*`]", "", text).replace("\n", " "))
        ]

    def conversation(self, kind: str, rng: random.Random, answered: float = 0.7) -> list[Message]:
        """One question to a tool ("calculator", "clock" or "search"); answered is the share with a result."""
        make = {"calculator": self._calculator, "clock": self._clock, "search": self._search}[kind]
        messages = make(rng)
        return messages if rng.random() < answered else messages[:2]

    def copy_task(self, rng: random.Random) -> list[Message]:
        """Plain copying; it makes the attention heads that copy operands appear early."""
        pieces = [
            random_number(rng) if rng.random() < 0.5 else self.search_term(rng)
            for _ in range(rng.choice([1, 1, 2, 3, 5]))
        ]
        text = " ".join(pieces)
        question = alternatives.sample(rng.choice(self.corpus.section("copy")), rng).replace("<x>", text)
        return [user(self.noise.apply_gently(question, rng, text)), assistant(text, COPYING)]

    # --- calculator ---------------------------------------------------------------------------------------

    def calculation(self, rng: random.Random) -> tuple[str, str, str]:
        """A question, the expression to call the calculator with, and the thought: by words, of what form it is."""
        kind = rng.random()
        if kind < IN_WORDS:
            asked = rng.choice(self.in_words)
            return *self._fill_numbers(asked, rng), asked.thought
        if kind < IN_WORDS + RANDOM_EXPRESSIONS:
            expression = random_expression(rng, rng.choice([1, 2, 2, 3]))
            phrase, thought = loosely_written(expression, rng), "calculator"
        else:
            asked = rng.choice(self.in_signs)
            phrase, expression = self._fill_numbers(asked, rng)
            thought = asked.thought
        frame = alternatives.sample(rng.choice(self.corpus.section("calc_ask")), rng)
        return frame.replace("<e>", phrase), expression, thought

    def _fill_numbers(self, asked: Calculation, rng: random.Random) -> tuple[str, str]:
        phrase, expression = alternatives.sample(asked.phrase, rng), asked.form
        if "<thing>" in phrase:
            phrase = phrase.replace("<thing>", rng.choice(self.corpus.section("things")))
        if "<box>" in phrase:
            phrase = phrase.replace("<box>", rng.choice(self.corpus.section("containers")))
        in_words = rng.random() < 0.08 and not SIGNS_BESIDE_NUMBERS.search(phrase)
        for slot in ("<a>", "<b>", "<c>", "<d>"):
            if in_words:
                spoken, digits = spoken_number(rng)
            else:
                digits = random_number(rng)
                if f"** {slot}" in asked.form:
                    digits = str(rng.randint(2, 12))
                spoken = self._written_number(digits, rng)
            phrase = phrase.replace(slot, spoken)
            expression = expression.replace(slot, digits)
        return phrase, expression

    @staticmethod
    def _written_number(digits: str, rng: random.Random) -> str:
        if len(digits) > 3 and digits.isdigit() and rng.random() < 0.1:
            return f"{int(digits):,}"
        return digits

    def _calculator(self, rng: random.Random) -> list[Message]:
        question, expression, thought = self.calculation(rng)
        if rng.random() < 0.04:
            result = rng.choice(["error: division by zero", "error: not a number", "error: result too large"])
            answer, about = f"The calculator reports an {result}.", "calculator: error"
        else:
            result = random_number(rng) if rng.random() < 0.8 else "-" + random_number(rng)
            frame = rng.choice(self.corpus.section("calc_answer"))
            answer, about = frame.replace("<e>", expression).replace("<r>", result), "calculator: result"
        return [
            user(self.noise.apply_gently(question, rng)),
            tool_call("calculator", about=thought, expression=expression),
            tool_result(result),
            assistant(answer, about),
        ]

    # --- clock --------------------------------------------------------------------------------------------

    def _clock(self, rng: random.Random) -> list[Message]:
        what = rng.choice(["time", "date"])
        question = alternatives.sample(rng.choice(self.corpus.section(f"clock_{what}")), rng)
        result = random_time(rng) if what == "time" else random_date(rng)
        slot = "<t>" if what == "time" else "<d>"
        answer = rng.choice(self.corpus.section(f"{what}_answer")).replace(slot, result)
        return [
            user(self.noise.apply(question, rng, 0.7)),
            tool_call("clock", about=f"clock: {what}", what=what),
            tool_result(result),
            assistant(answer, f"clock: the {what}"),
        ]

    # --- documentation search -----------------------------------------------------------------------------

    def _search(self, rng: random.Random) -> list[Message]:
        term = self.search_term(rng)
        question = alternatives.sample(rng.choice(self.corpus.section("search")), rng).replace("<x>", term)
        if rng.random() < 0.12:
            result = rng.choice(["no results", "nothing found", "no result", "0 results", "none"])
            answer, about = (
                rng.choice(self.corpus.section("search_nothing")).replace("<x>", term),
                "search_docs: nothing",
            )
        else:
            result = self.fact(rng) if rng.random() < 0.4 else self.passages(rng)
            answer, about = (
                rng.choice(self.corpus.section("search_answer")).replace("<r>", first_sentence(result)),
                "search_docs: found",
            )
        return [
            user(self.noise.apply_gently(question, rng, term)),
            tool_call("search_docs", query=term),
            tool_result(result),
            assistant(answer, about),
        ]

    def search_term(self, rng: random.Random) -> str:
        """Something to search for: known names, plain words, words that mean nothing, subjects."""
        kind = rng.random()
        if kind < 0.3 and self.names:
            return rng.choice(self.names)
        if kind < 0.42:
            return f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
        if kind < 0.54:
            return f"{rng.choice(NOUNS)} {rng.choice(NOUNS)}"
        if kind < 0.64 and self.corpus.subjects:
            return rng.choice(self.corpus.subjects)
        if kind < 0.78:
            return pseudo_word(rng) if rng.random() < 0.6 else f"{pseudo_word(rng).capitalize()} {pseudo_word(rng)}"
        if kind < 0.86:
            return f"{rng.choice(NOUNS)}_{rng.choice(NOUNS)}" if rng.random() < 0.6 else f"--{rng.choice(NOUNS)}"
        if kind < 0.93:
            return f"{pseudo_word(rng)} {rng.choice(NOUNS)}"
        return f"{rng.choice(NOUNS)} {rng.randint(1, 99)}"

    def fact(self, rng: random.Random) -> str:
        """A random sentence that a search could return."""
        verb = self._verb_phrase(rng)
        if rng.random() < 0.3 and verb:
            return f"To {verb}, see page {rng.randint(1, 300)}."
        determiner = rng.choice(["the", "a", "one", "every", str(rng.randint(2, 900))])
        return (
            f"The {rng.choice(ADJECTIVES)} {self._noun(rng)} {rng.choice(VERBS)} {determiner} "
            f"{rng.choice(ADJECTIVES)} {self._noun(rng)}."
        )

    def passages(self, rng: random.Random) -> str:
        """What the app's search returns: some passages of text, each below a heading."""
        found = []
        for _ in range(rng.choice([1, 2, 3])):
            heading = " ".join(self.search_term(rng) for _ in range(rng.choice([1, 1, 2])))
            text = " ".join(rng.choice(self.sentences) for _ in range(rng.choice([1, 1, 2])))
            found.append(f"# {heading}\n{text}")
        return "\n\n".join(found)

    @staticmethod
    def _noun(rng: random.Random) -> str:
        return rng.choice(NOUNS) if rng.random() < 0.7 else pseudo_word(rng)

    def _verb_phrase(self, rng: random.Random) -> str:
        intents = [intent for intent in rng.sample(list(self.corpus.intents.values()), 4) if intent.verbs]
        if not intents:
            return ""
        return alternatives.sample(rng.choice(intents[0].verbs), rng)


def random_time(rng: random.Random) -> str:
    """A time in one of the usual spellings."""
    hour, minute, second = rng.randint(0, 23), rng.randint(0, 59), rng.randint(0, 59)
    return rng.choice(
        [
            f"{hour:02d}:{minute:02d}",
            f"{hour:02d}:{minute:02d}",
            f"{hour:02d}:{minute:02d}:{second:02d}",
            f"{hour % 12 or 12}:{minute:02d} {'am' if hour < 12 else 'pm'}",
        ]
    )


def random_date(rng: random.Random) -> str:
    """A date in one of the usual spellings."""
    year, month, day = rng.randint(2023, 2039), rng.randint(1, 12), rng.randint(1, 28)
    name = MONTHS[month - 1]
    return rng.choice(
        [
            f"{year}-{month:02d}-{day:02d}",
            f"{year}-{month:02d}-{day:02d}",
            f"{rng.choice(WEEKDAYS)}, {day} {name} {year}",
            f"{rng.choice(WEEKDAYS)} {year}-{month:02d}-{day:02d}",
            f"{name} {day}, {year}",
        ]
    )
