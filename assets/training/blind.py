"""The blind evaluation set and the open one: loading, asking turn by turn, finding what training could produce."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alternatives
import asked_kinds
import grading
from chat_format import Conversation, Message, assistant, prompt_text, user
from corpus import Corpus
from named_follow_ups import follow_ups_of
from noise import PREFIXES, SUFFIXES
from phrasings import Phrasings
from thoughts import without_thought

EVALUATION_FOLDER = Path(__file__).resolve().parent / "evaluation"
BLIND_FILE = EVALUATION_FOLDER / "blind.jsonl"
OPEN_FILE = EVALUATION_FOLDER / "open.jsonl"
"""Of the same kind, but its items may be looked at."""
CALCULATIONS_FILE = EVALUATION_FOLDER / "calculations.jsonl"
"""Calculations alone, enough of them to tell small differences; they may be looked at, too."""

NAME_SECTIONS = ("what", "why", "follow_why", "switch", "again")

Asker = Callable[[list[str]], list[str]]


@dataclass(frozen=True)
class BlindItem:
    """One item as it stands in the file."""

    identifier: str
    category: str
    turns: list[str | Message]
    expect: dict[str, Any]

    @property
    def last_question(self) -> str:
        """The text of the last turn."""
        last = self.turns[-1]
        return last if isinstance(last, str) else str(last["content"])

    def grade(self, answer: str) -> bool:
        """Whether an answer is good, whatever its thought."""
        answer = without_thought(answer)
        if "facts" in self.expect:
            return grading.has_facts(answer, self.expect["facts"])
        if "call" in self.expect:
            return grading.same_call(answer, self.expect["call"])
        return grading.is_refusal(answer)


def load(file: Path = BLIND_FILE) -> list[BlindItem]:
    """Read the items, one JSON object a line."""
    items = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = json.loads(line)
            items.append(BlindItem(entry["id"], entry["category"], entry["turns"], entry["expect"]))
        except (json.JSONDecodeError, KeyError) as error:
            raise ValueError(f"{file.name}:{number}: {error!r}") from None
    return items


@dataclass
class Asked:
    """The last prompt of an item and the answer to it."""

    prompt: str
    answer: str


def ask(
    items: list[BlindItem],
    answer_prompts: Asker,
    before: Sequence[list[Message]] = (),
    tools: dict[str, list[str]] | None = None,
) -> list[Asked]:
    """Put the turns of all items to the model; earlier answers are part of the later prompts.

    `before` is what was talked about before each item; nothing without. `tools` are those that the prompts list.
    """
    histories: list[list[Message]] = [list(messages) for messages in before] or [[] for _ in items]
    positions = [0] * len(items)
    asked = [Asked("", "") for _ in items]
    while True:
        waiting = [index for index, item in enumerate(items) if _advance(item, histories, positions, index)]
        if not waiting:
            return asked
        prompts = [prompt_text(Conversation(histories[index], tools)) for index in waiting]
        for index, prompt, answer in zip(waiting, prompts, answer_prompts(prompts), strict=True):
            histories[index].append(assistant(answer))
            asked[index] = Asked(prompt, answer)


def _advance(item: BlindItem, histories: list[list[Message]], positions: list[int], index: int) -> bool:
    """Add fixed messages up to the next turn that the model has to answer; False when there is none."""
    while positions[index] < len(item.turns):
        turn = item.turns[positions[index]]
        positions[index] += 1
        histories[index].append(user(turn) if isinstance(turn, str) else turn)
        is_last = positions[index] == len(item.turns)
        if isinstance(turn, str) or (is_last and turn["role"] in ("user", "tool")):
            return True
    return False


class ProducibleQuestions:
    """Matches questions against every line and frame of the corpus, as patterns.

    Compared are letters and digits in lower case; the politeness that the noise adds is taken off first. Numbers and
    search terms are random, so a tool question is "producible" only in its frame: that is reported but not dropped.
    """

    def __init__(self, corpus: Corpus) -> None:
        intents = corpus.intents.values()
        self.names = {alternatives.squeeze(alias) for intent in intents for alias in intent.aliases}
        self.names |= {alternatives.squeeze(subject) for subject in corpus.subjects}
        self.verbs = Phrasings(verb for intent in intents for verb in intent.verbs)
        lines = [q for intent in intents for q in (*intent.questions, *intent.indirect)]
        lines += [follow_up.question for intent in intents for follow_up in intent.follow_ups]
        for section in (*NAME_SECTIONS, *asked_kinds.sections(corpus)):
            lines += corpus.section(section)
        self.lines = Phrasings(line for line in lines if "<x>" not in line)
        self.name_frames = Phrasings(line for line in lines if "<x>" in line)
        self.verb_frames = Phrasings(corpus.section("do"))
        self.keys = {alternatives.squeeze(key) for intent in intents for key in intent.keys}
        self.key_frames = Phrasings(corpus.section("key"))
        self.things = Phrasings(thing for intent in intents for thing in intent.things)
        self.thing_frames = Phrasings(corpus.section("thing"))
        self.prefixes = [alternatives.squeeze(prefix) for prefix in PREFIXES]
        self.suffixes = [alternatives.squeeze(suffix) for suffix in SUFFIXES]

    def can_produce(self, question: str) -> bool:
        """Whether some line or frame matches the whole question."""
        return any(self._matches(form) for form in self._without_politeness(alternatives.squeeze(question)))

    def _matches(self, form: str) -> bool:
        return (
            self.lines.make(form)
            or any(name in self.names for name in self.name_frames.slot_texts(form))
            or any(key in self.keys for key in self.key_frames.slot_texts(form))
            or any(self.verbs.make(verb) for verb in self.verb_frames.slot_texts(form))
            or any(self.things.make(thing) for thing in self.thing_frames.slot_texts(form))
            or any(self.lines.make(asked) for name in self.names for asked in follow_ups_of(form, name))
        )

    def _without_politeness(self, text: str) -> list[str]:
        forms = [text]
        forms += [text[len(prefix) :] for prefix in self.prefixes if text.startswith(prefix)]
        forms += [form[: -len(suffix)] for form in list(forms) for suffix in self.suffixes if form.endswith(suffix)]
        return [form for form in forms if form]
