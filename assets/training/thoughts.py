"""Thoughts: the name of what was asked, which the model writes as the first token of every answer.

Which of some 2000 answers a question wants is one decision, and an answer in words would spread it over its first
tokens. A thought takes it at once, in sight of everybody: `<think>kv cache: why</think>` is a single token of the
vocabulary. What is written after it depends on the thought more than on the question, and the next question may lean
on the thoughts before it.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from chat_format import Conversation, Message
from corpus import Corpus

OPEN, CLOSE = "<think>", "</think>"
Answers = Sequence[tuple[str, str]]
"""Names of answers, and their texts."""
LONGEST_WORDING = 40
COPYING = "repeat"
"""What an answer is about that repeats words of the question."""


class ThoughtBook:
    """The thought of every answer: definitions, reasons, follow-ups, tool calls and what is made of their results."""

    def __init__(self, corpus: Corpus, others: Sequence[str], calculations: Sequence[str]) -> None:
        """`others` and `calculations` are the names of answers that are no text of the corpus; messages give them as
        "about"."""
        self.names: list[str] = list(others)
        self._by_text: dict[str, str] = {}
        for intent in corpus.intents.values():
            subject = intent.key.replace("_", " ")
            self._add(subject, intent.answers)
            for reason in intent.reasons:
                self._add(f"{subject}: why", [reason])
            for follow_up in intent.follow_ups:
                self._add(f"{subject}: {first_wording(follow_up.question)}", [follow_up.answer])
        self.names += calculations

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


def first_wording(question: str) -> str:
    """A short name for a question with alternatives: the first of each, without its mark, cut at a word."""
    text = question
    while "{" in text:
        text = re.sub(r"\{([^{}]*)\}", lambda choice: choice.group(1).split("|")[0], text)
    text = re.sub(r"\s+", " ", text).strip().rstrip("?.! ").lower()
    if len(text) > LONGEST_WORDING:
        text = text[:LONGEST_WORDING].rsplit(" ", 1)[0]
    return text


def without_thought(text: str) -> str:
    """An answer without the thought that it begins with."""
    return re.sub(rf"^\s*{OPEN}.*?{CLOSE}\s*", "", text, count=1, flags=re.DOTALL)
