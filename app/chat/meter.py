"""The context meter: how many tokens the next request will hold, of the most that the model can take.

The engine counts exactly, with the model's own template and tokenizer; it is asked a moment after the last keystroke.
While an answer is written the number follows it without asking.
"""

from __future__ import annotations

from collections.abc import Callable

from app.link import EngineLink
from app.sessions.session import Session, Turn
from app.watch import EngineWatch
from inference.protocol import TokenCount

DEBOUNCE = 0.3
"""Seconds without a change before the engine is asked."""


class ContextMeter:
    def __init__(self, link: EngineLink, watch: EngineWatch, clock: Callable[[], float]) -> None:
        self._link, self._watch, self._clock = link, watch, clock
        self._counts: dict[str, int] = {}
        """The last exact count of each session."""
        self._asked: dict[str, str] = {}
        """Query id to session id, of questions that are out."""
        self._due: float | None = None
        self._number = 0

    def changed(self, wait: float = DEBOUNCE) -> None:
        """The text that would be sent is another one now."""
        self._due = self._clock() + wait

    def tick(self, session: Session, draft: str) -> None:
        if self._due is None or self._clock() < self._due or not self._watch.ready:
            return
        self._due = None
        prompt = session.prompt(until=session.head, draft=draft)
        if not prompt.messages:
            self._counts[session.id] = 0
            return
        self._number += 1
        id = f"context-{self._number}"
        self._asked = {id: session.id}
        self._link.count_tokens(id, prompt)

    def counted(self, event: TokenCount) -> None:
        if (session_id := self._asked.pop(event.query_id, None)) is not None:
            self._counts[session_id] = event.num_tokens

    def text(self, session: Session, answer: Turn | None) -> tuple[str, str]:
        """The meter in words, and its colour in the style sheet (empty for the usual one).

        `answer`: the one being written, if there is one.
        """
        used, most = self._counts.get(session.id), self._watch.max_model_len
        if answer is not None and answer.prompt_tokens:
            used = answer.prompt_tokens + answer.output_tokens
        if not most:
            return "context: counted when the engine is ready", ""
        if used is None:
            return f"context … / {most} tokens", ""
        percent = 100 * used / most
        colour = "$text-error" if percent >= 95 else "$text-warning" if percent >= 80 else ""
        return f"context {used} / {most} tokens · {percent:.0f} %", colour
