"""Thoughts: the name of what was asked, which the model writes as the first token of every answer.

Which of some 2000 answers a question wants is one decision, and an answer in words would spread it over its first
tokens. A thought takes it at once, in sight of everybody: `<think>kv cache: why</think>` is a single token of the
vocabulary. What is written after it depends on the thought more than on the question, and the next question may lean
on the thoughts before it.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import alternatives
from chat_format import Conversation, Message
from corpus import Corpus

OPEN, CLOSE = "<think>", "</think>"
Answers = Sequence[tuple[str, str]]
"""Names of answers, and their texts."""
BEST_LENGTH, LONGEST_NAME, FEWEST_WORDS = 22, 36, 3
TOO_LONG, TOO_SHORT, PERSONAL, NO_QUESTION = 30, 10, 8, 6
"""What speaks against a wording as a name, in letters too many or too few."""
BEGINNINGS = re.compile(r"^((and|so|but|ok|okay|hm|hmm|well|then|now|oh|ah|also),? )+")
PERSONS = re.compile(r"\b(i|my|me|you|we|somebody|someone|please)\b")
QUESTION = re.compile(r"(what|how|why|when|where|which|who|whose|is|are|does|do|can|could|should|will|would|if|must)\b")
COPYING = "repeat"
"""What an answer is about that repeats words of the question."""


class ThoughtBook:
    """The thought of every answer: definitions, reasons, follow-ups, tool calls and what is made of their results."""

    def __init__(self, corpus: Corpus, others: Sequence[str]) -> None:
        """`others` are the names of answers that are no text of the corpus; messages give them as "about"."""
        self.names: list[str] = list(others)
        self._by_text: dict[str, str] = {}
        for intent in corpus.intents.values():
            subject = intent.key.replace("_", " ")
            self._add(subject, intent.answers)
            for reason in intent.reasons:
                self._add(f"{subject}: why", [reason])
            for follow_up in intent.follow_ups:
                self._add(f"{subject}: {follow_up.theme or short_name(follow_up.question)}", [follow_up.answer])

    @property
    def tokens(self) -> list[str]:
        """All thoughts as they are written."""
        return [f"{OPEN}{name}{CLOSE}" for name in self.names]

    def _add(self, name: str, variants: list[str]) -> None:
        """Variants of one answer have the same thought; an answer that several intents give has the first one's."""
        fresh = [text for text in variants if text not in self._by_text]
        if not fresh:
            return
        known = next((self._by_text[text] for text in variants if text in self._by_text), None)
        if known is None:
            known = self._unused(name)
            self.names.append(known)
        self._by_text.update(dict.fromkeys(fresh, known))

    def _unused(self, name: str) -> str:
        numbered, number = name, 1
        while numbered in self.names:
            number += 1
            numbered = f"{name} ({number})"
        return numbered

    def subject(self, answer: str) -> str:
        """What an answer of the corpus is about."""
        return self._by_text[answer]

    def of(self, message: Message) -> str:
        """The thought of an assistant's message, as it is written."""
        return f"{OPEN}{message.get('about') or self.subject(message['content'])}{CLOSE}"

    def answers(self) -> Answers:
        """Every answer of the corpus with its name."""
        return [(name, text) for text, name in self._by_text.items()]

    def spoken(self, conversation: Conversation) -> Conversation:
        """The conversation as the model says it: a thought before every answer."""
        messages = [
            {**message, "content": self.of(message) + message["content"]} if message["role"] == "assistant" else message
            for message in conversation.messages
        ]
        return replace(conversation, messages=messages)


def subject_of(name: str) -> str:
    """What an answer is about, from its name or thought."""
    return name.removeprefix(OPEN).removesuffix(CLOSE).partition(": ")[0]


def short_name(question: str) -> str:
    """A name for a question with alternatives: a wording that is short, but not so short that it says nothing."""
    names = [BEGINNINGS.sub("", wording.lower().rstrip("?.! ")) for wording in alternatives.variants(question)]
    # Of two as good ones the earlier.
    return min(names, key=_awkwardness)


def _awkwardness(name: str) -> float:
    return (
        abs(len(name) - BEST_LENGTH)
        + TOO_LONG * (len(name) > LONGEST_NAME)
        + TOO_SHORT * (len(name.split()) < FEWEST_WORDS)
        + PERSONAL * bool(PERSONS.search(name))
        + NO_QUESTION * (not QUESTION.match(name))
    )


def without_thought(text: str) -> str:
    """An answer without the thought that it begins with."""
    return re.sub(rf"^\s*{OPEN}.*?{CLOSE}\s*", "", text, count=1, flags=re.DOTALL)
