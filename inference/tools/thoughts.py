"""The thought that an answer may begin with: `<think>…</think>`, as reasoning models write it.

A thought stands at the very start, white space aside; anywhere else the markers are words like any other. It is all
that comes up to the first closing marker, tool calls included, and everything if there is none. White space at its ends
and after it is not part of anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from inference.protocol import THOUGHT, THOUGHT_END


class _At(Enum):
    START = 0
    """Nothing has come yet that says whether there is a thought."""
    THOUGHT = 1
    GAP = 2
    """Behind the thought, before anything but white space."""
    ANSWER = 3


class ThoughtReader:
    """Feed it deltas as they come, then `finish`. How the text was cut into deltas can't matter: joined, what it gives
    is the same."""

    def __init__(self) -> None:
        self.before = 0
        """Characters of the text that came before the answer itself, once that has begun."""
        self._at = _At.START
        self._held = ""
        """Not yet given out: what may become a marker, or may be white space at an end."""
        self._begun = False
        """Some of the thought was given out."""

    def feed(self, delta: str) -> tuple[str, str]:
        """What the next part of the text adds to the thought, and to the answer behind it."""
        if self._at is _At.ANSWER:
            return "", delta
        self._held += delta
        if self._at is _At.START and not self._start():
            return "", ""
        thought = self._thought() if self._at is _At.THOUGHT else ""
        if self._at is _At.GAP and (kept := self._held.lstrip()):
            self._take(len(self._held) - len(kept))
            self._at = _At.ANSWER
        if self._at is not _At.ANSWER:
            return thought, ""
        answer, self._held = self._held, ""
        return thought, answer

    def finish(self) -> tuple[str, str]:
        """What was held back, now that nothing more comes."""
        at, rest = self._at, self._held
        self._at, self._held = _At.ANSWER, ""
        if at is _At.THOUGHT:
            return (rest.rstrip() if self._begun else rest.strip()), ""
        return "", rest if at is _At.START else ""

    def _start(self) -> bool:
        """Whether it is known by now what the text begins with."""
        text = self._held.lstrip()
        if text.startswith(THOUGHT):
            self._take(len(self._held) - len(text) + len(THOUGHT))
            self._at = _At.THOUGHT
        elif not THOUGHT.startswith(text):
            self._at = _At.ANSWER
        return self._at is not _At.START

    def _thought(self) -> str:
        end = self._held.find(THOUGHT_END)
        certain = len(self._held) - held_back(self._held, (THOUGHT_END,)) if end < 0 else end
        text = self._held[:certain].rstrip()
        if end < 0:
            self._take(len(text))
        else:
            self._take(end + len(THOUGHT_END))
            self._at = _At.GAP
        text = text if self._begun else text.lstrip()
        self._begun = self._begun or bool(text)
        return text

    def _take(self, count: int) -> None:
        self._held = self._held[count:]
        self.before += count


def split_thought(text: str) -> tuple[str, str]:
    """A whole text's thought, empty if there is none, and the answer behind it, as it was written."""
    reader = ThoughtReader()
    (thought, answer), (more, rest) = reader.feed(text), reader.finish()
    return thought + more, answer + rest


def held_back(text: str, markers: Iterable[str]) -> int:
    """How many characters at the end of the text may be the beginning of a marker."""
    markers = tuple(markers)
    longest = min(len(text), max(map(len, markers)) - 1)
    return next((n for n in range(longest, 0, -1) if any(m.startswith(text[-n:]) for m in markers)), 0)
