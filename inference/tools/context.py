"""What the app lends to tools while they run: the workspace, a place for long results, a look at the engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from inference.tools.workspace import Workspace


class ResultStore(Protocol):
    """Where results that are too long for a prompt are kept. The app's survives a restart; `MemoryResults` does not."""

    def put(self, call_id: str, text: str) -> None:
        """Keep the whole result of a call."""

    def get(self, call_id: str) -> str | None:
        """The whole result of a call, or None if there is none."""


class MemoryResults:
    """Results for as long as the process lives. The oldest go when there are too many."""

    def __init__(self, most_chars: int = 50_000_000) -> None:
        self._most_chars = most_chars
        self._kept: dict[str, str] = {}
        self._lock = threading.Lock()

    def put(self, call_id: str, text: str) -> None:
        with self._lock:
            self._kept.pop(call_id, None)
            self._kept[call_id] = text
            while len(self._kept) > 1 and sum(map(len, self._kept.values())) > self._most_chars:
                del self._kept[next(iter(self._kept))]

    def get(self, call_id: str) -> str | None:
        with self._lock:
            return self._kept.get(call_id)


LEAST_RESULT = 100
"""Bytes that each result gets, however many calls share."""


def _now() -> datetime:
    return datetime.now().astimezone()


@dataclass(frozen=True, slots=True)
class Context:
    """Lent to every call. What is None is not there, and tools that need it are not offered."""

    workspace: Workspace | None = None
    results: ResultStore = field(default_factory=MemoryResults)
    engine_state: Callable[[], str] | None = None
    """What the engine did in its last step, in plain text; see `builtin.engine_state.describe_step`."""
    search_documents: Callable[[str], str] | None = None
    """What the documentation says on a query."""
    now: Callable[[], datetime] = _now
    """The local time, with its zone."""
    result_bytes: int = 6_000
    """The most of a result that goes into a prompt, in bytes of UTF-8, of which a token has at least one; the rest is
    read by range."""
    round_bytes: int = 24_000
    """The same of all results of one round together."""

    call_id: str = ""
    """Filled for each call, as are the two below."""
    approved: str = ""
    """The digest of the preview that the user said yes to; empty if nobody looked."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set when the call's time is up or the user stopped it; tools that take long look at it."""

    def within(self, max_model_len: int) -> Context:
        """For a model whose context has so many tokens: a round's results take three fifths of it at the very worst,
        and about a fifth if they are ordinary text."""
        room = max_model_len * 3 // 5
        return replace(self, result_bytes=min(self.result_bytes, room), round_bytes=min(self.round_bytes, room))

    def shared(self, calls: int) -> Context:
        """For each of the calls of one round."""
        return replace(self, result_bytes=min(self.result_bytes, max(LEAST_RESULT, self.round_bytes // max(1, calls))))
