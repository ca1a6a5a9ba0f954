"""Conversations with a calculator, a clock and a search. Results are random, so that the model copies them."""

import random
import re

import alternatives
from arithmetic import random_number
from calculations import Asked, Calculations
from chat_format import Message, assistant, tool_call, tool_result, until_last_call, user
from corpus import Corpus
from noise import QuestionNoise, pseudo_word
from thoughts import COPYING

LEANING = 0.13
"""The share of the calculations, and of the searches, that lean on one before."""
PAIRS = 0.65
"""Of these calculations, the share of those that were written as pairs."""

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
"""What answers are about that call these tools or tell what they returned, besides the calls of the calculator."""

SENTENCE_END = re.compile(r"(?<=[.!?]) +")
WORD = re.compile(r"[A-Za-z]{2,}(?:['-][A-Za-z]+)*")


def words_of(corpus: Corpus) -> list[str]:
    """Every word of the answers, once, as it is written there."""
    texts = (text for intent in corpus.intents.values() for text in intent.texts)
    return list(dict.fromkeys(word for text in texts for word in WORD.findall(text)))


def first_sentence(result: str) -> str:
    """Of what a search found, without the heading above it."""
    text = result.partition("\n\n")[0].rpartition("\n")[2]
    return SENTENCE_END.split(text)[0]


class ToolTasks:
    """Draws tool conversations: question, call, and mostly the result and the answer to it."""

    def __init__(self, corpus: Corpus, noise: QuestionNoise) -> None:
        self.corpus = corpus
        self.noise = noise
        self.names = [alias for intent in corpus.intents.values() for alias in intent.aliases]
        self.words = words_of(corpus)
        self.calculations = Calculations(corpus, noise)
        self.sentences = [
            sentence
            for intent in corpus.intents.values()
            for text in (*intent.answers, *intent.reasons)
            for sentence in SENTENCE_END.split(re.sub(r"[*`]", "", text).replace("\n", " "))
        ]

    @property
    def subjects(self) -> list[str]:
        """All that answers are about which call these tools or tell what they returned."""
        return [*self.calculations.recipes.names, *SUBJECTS]

    def conversation(self, kind: str, rng: random.Random, answered: float = 0.7) -> list[Message]:
        """One question to a tool ("calculator", "clock" or "search"); answered is the share with a result."""
        make = {"calculator": self._calculator, "clock": self._clock, "search": self._search}[kind]
        messages = make(rng)
        return messages if rng.random() < answered else until_last_call(messages)

    def copy_task(self, rng: random.Random) -> list[Message]:
        """Plain copying; it makes the attention heads that copy operands appear early."""
        pieces = [
            random_number(rng) if rng.random() < 0.5 else self.search_term(rng)
            for _ in range(rng.choice([1, 1, 2, 3, 5]))
        ]
        text = " ".join(pieces)
        return [user(self._framed("copy", rng).replace("<x>", text)), assistant(text, COPYING)]

    def _framed(self, section: str, rng: random.Random) -> str:
        """A frame as somebody would type it, its slots still empty."""
        return self.noise.framed(self.corpus.section(section), rng)

    # --- calculator ---------------------------------------------------------------------------------------

    def _calculator(self, rng: random.Random) -> list[Message]:
        leans = rng.random() < LEANING
        if leans and rng.random() < PAIRS:
            asked, more = self.calculations.pair(rng)
            messages = self._calculated(asked, rng)
            return [*(messages if rng.random() < 0.7 else messages[:2]), *self._calculated(more, rng)]
        asked = self.calculations.draw(rng)
        messages = self._calculated(asked, rng)
        if not leans:
            return messages
        # More is asked when the result is there, or before.
        result = messages[2]["content"]
        known = rng.random() < 0.7 and not result.startswith("error")
        before = messages if known else messages[:2]
        return [*before, *self._calculated(self.calculations.leaning(asked, result if known else "", rng), rng)]

    def _calculated(self, asked: Asked, rng: random.Random) -> list[Message]:
        """Question, call, result and answer."""
        if rng.random() < 0.04:
            result = rng.choice(["error: division by zero", "error: not a number", "error: result too large"])
            answer, about = f"The calculator reports an {result}.", "calculator: error"
        else:
            result = random_number(rng) if rng.random() < 0.8 else "-" + random_number(rng)
            frame = rng.choice(self.corpus.section("calc_answer"))
            answer, about = frame.replace("<e>", asked.expression).replace("<r>", result), "calculator: result"
        return [
            user(asked.question),
            tool_call("calculator", about=asked.about, expression=asked.expression),
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
        messages = self._searched(self._framed("search", rng), term, rng)
        if rng.random() >= LEANING:
            return messages
        before = messages if rng.random() < 0.7 else messages[:2]
        return [*before, *self._searched(self._framed("search_again", rng), self.search_term(rng), rng)]

    def search_that(self, term: str, rng: random.Random) -> list[Message]:
        """A search for what was talked about, which the question does not say."""
        return self._searched(self._framed("search_that", rng), term, rng)

    def _searched(self, frame: str, term: str, rng: random.Random) -> list[Message]:
        """Question, call, result and answer."""
        if rng.random() < 0.12:
            result = rng.choice(["no results", "nothing found", "no result", "0 results", "none"])
            answer = rng.choice(self.corpus.section("search_nothing")).replace("<x>", term)
            about = "search_docs: nothing"
        else:
            result = self.fact(rng) if rng.random() < 0.4 else self.passages(rng)
            answer = rng.choice(self.corpus.section("search_answer")).replace("<r>", first_sentence(result))
            about = "search_docs: found"
        return [
            user(frame.replace("<x>", term)),
            tool_call("search_docs", query=term),
            tool_result(result),
            assistant(answer, about),
        ]

    def search_term(self, rng: random.Random) -> str:
        """Something to search for: known names, subjects, and above all words of any kind, so that no word is new to
        the heads that copy."""
        kind = rng.random()
        if kind < 0.2 and self.names:
            return rng.choice(self.names)
        if kind < 0.3:
            return f"{rng.choice([*ADJECTIVES, *NOUNS])} {rng.choice(NOUNS)}"
        if kind < 0.36 and self.corpus.subjects:
            return rng.choice(self.corpus.subjects)
        if kind < 0.76:
            return " ".join(self._any_word(rng) for _ in range(rng.choice([1, 1, 1, 2, 2, 3])))
        if kind < 0.84:
            return " ".join(pseudo_word(rng) for _ in range(rng.choice([1, 1, 2])))
        if kind < 0.95:
            return self._identifier(rng)
        return f"{self._any_word(rng)} {rng.randint(1, 99)}"

    def _any_word(self, rng: random.Random) -> str:
        """One of all words of the corpus, common and rare ones alike, or of none; now and then in capitals."""
        word = rng.choice(self.words) if rng.random() < 0.85 else pseudo_word(rng)
        if rng.random() < 0.12:
            return word.capitalize()
        return word.upper() if rng.random() < 0.04 else word

    def _identifier(self, rng: random.Random) -> str:
        """Several words as one: an option, a name of a program, of a variable, with a hyphen."""
        words = [rng.choice([rng.choice(NOUNS), rng.choice(self.words)]) for _ in range(rng.choice([1, 2, 2, 3]))]
        kind = rng.random()
        if kind < 0.35:
            return "_".join(words)
        if kind < 0.55:
            return "--" + "-".join(words)
        if kind < 0.75:
            return "_".join(words).upper()
        return "-".join(words) if kind < 0.9 else "".join(word.capitalize() for word in words)

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
