"""A chat session as plain objects: its settings, and its turns as a tree of which one path is on screen.

A turn knows its parent. Asking again or editing a question adds a sibling beside the old turn instead of replacing it,
so nothing is ever lost: `head` says which leaf the session shows, and the other versions stay one key away.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field, replace
from enum import StrEnum

from app.sessions.tokens import Tokens
from app.tools.messages import Part, folded, parts
from app.tools.use import ToolUse
from inference.protocol import ChatPrompt, Message, SamplingParams
from inference.tools.calls import call_id
from inference.tools.receipts import Receipt

DEFAULT_PARAMS = SamplingParams(temperature=0.3)
"""The demo model is a small specialist: near-greedy sampling keeps its facts straight."""
CUT_OFF = "cut off"
"""The `reason` of an interrupted answer that is to be asked for again when its session is opened."""
ENDED_WHILE_WRITING = "glasschat closed before the answer was complete"


def new_id() -> str:
    return uuid.uuid4().hex


class TurnState(StrEnum):
    WAITING = "waiting"
    """Asked, and nothing has come back yet."""
    STREAMING = "streaming"
    DONE = "done"
    INTERRUPTED = "interrupted"
    """The engine or the app ended before the answer did; the text so far is kept."""


@dataclass(slots=True)
class Turn:
    """One question or one answer."""

    role: str
    text: str = ""
    parent: str | None = None
    state: TurnState = TurnState.DONE
    id: str = field(default_factory=new_id)
    created: float = field(default_factory=time.time)
    reason: str = ""
    """How an answer finished: stop, length, aborted or error; or `CUT_OFF`."""
    note: str = ""
    """A sentence for the reader: why an answer failed or was interrupted."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    ttft: float = 0.0
    speed: float = 0.0
    """Decode speed in tokens per second."""
    tokens: Tokens = field(default_factory=Tokens, compare=False)
    """Of this run's answers."""

    @property
    def open(self) -> bool:
        return self.state in (TurnState.WAITING, TurnState.STREAMING)

    @property
    def is_question(self) -> bool:
        return self.role == "user"


@dataclass(slots=True)
class Session:
    """One tab: a name, how its answers are sampled, and a tree of turns."""

    name: str
    id: str = field(default_factory=new_id)
    created: float = field(default_factory=time.time)
    system_prompt: str = ""
    params: SamplingParams = DEFAULT_PARAMS
    priority: int = 0
    """For the scheduling policy of that name: smaller goes first."""
    draft: str = ""
    """What stands unsent in the composer."""
    turns: dict[str, Turn] = field(default_factory=dict)
    """Every turn by id, in the order of creation."""
    head: str | None = None
    """The last turn of the path on screen."""
    tools: ToolUse = field(default_factory=ToolUse)
    receipts: dict[str, Receipt] = field(default_factory=dict)
    """Of the tool calls in its answers, by the calls' ids."""

    def path(self) -> list[Turn]:
        """The turns on screen, first to last."""
        found: list[Turn] = []
        at = self.head
        while at is not None and (turn := self.turns.get(at)) is not None:
            found.append(turn)
            at = turn.parent
        return found[::-1]

    def add(self, turn: Turn) -> Turn:
        """Put a turn into the tree and on screen."""
        self.turns[turn.id] = turn
        self.head = turn.id
        return turn

    def fork(self, name: str, until: Turn | None) -> Session:
        """A session of its own that begins as this one does up to a turn (or to the end), without other versions."""
        path = self.path()
        if until is not None:
            path = path[: path.index(until) + 1]
        fork = Session(name, system_prompt=self.system_prompt, params=self.params, priority=self.priority)
        fork.tools = self.tools.like()
        turns: dict[str, str] = {}
        calls: dict[str, str] = {}
        for turn in path:
            state = TurnState.INTERRUPTED if turn.open else turn.state
            own = fork.add(replace(turn, id=new_id(), parent=fork.head, state=state, tokens=turn.tokens.copy()))
            turns[turn.id] = own.id
            for receipt in self.receipts_of(turn):
                if receipt.state.finished:
                    calls[receipt.call_id] = name = call_id(own.id, receipt.index)
                    fork.receipts[name] = replace(receipt, call_id=name, answer_id=own.id)
        fork.tools.folds = self.tools.folds.carried(turns, calls)
        return fork

    def receipts_of(self, turn: Turn) -> list[Receipt]:
        """Of the calls in one answer, in their order."""
        return sorted((r for r in self.receipts.values() if r.answer_id == turn.id), key=lambda receipt: receipt.index)

    def versions(self, turn: Turn) -> list[Turn]:
        """The turn and its siblings of the same role, oldest first."""
        return [t for t in self.turns.values() if t.parent == turn.parent and t.role == turn.role]

    def version_places(self) -> dict[str, tuple[int, int]]:
        """Of every turn: which version it is, counted from 1, and of how many."""
        groups: dict[tuple[str | None, str], list[str]] = {}
        for turn in self.turns.values():
            groups.setdefault((turn.parent, turn.role), []).append(turn.id)
        return {id: (n, len(group)) for group in groups.values() for n, id in enumerate(group, 1)}

    def show_version(self, turn: Turn, step: int) -> Turn | None:
        """Put the version `step` places after `turn` on screen, with the newest turns that follow it."""
        versions = self.versions(turn)
        index = versions.index(turn) + step
        if not 0 <= index < len(versions):
            return None
        chosen = versions[index]
        leaf = chosen
        while children := [t for t in self.turns.values() if t.parent == leaf.id]:
            leaf = children[-1]
        self.head = leaf.id
        return chosen

    def last(self, role: str) -> Turn | None:
        return next((t for t in reversed(self.path()) if t.role == role), None)

    def sent(self) -> list[str]:
        """What was sent, oldest first and each text once: the composer's history."""
        return list(dict.fromkeys(t.text for t in self.turns.values() if t.is_question))

    def upto(self, turn_id: str | None) -> list[Turn]:
        """The turns that lead to one, it included."""
        turns: list[Turn] = []
        while turn_id is not None and (turn := self.turns.get(turn_id)) is not None:
            turns.append(turn)
            turn_id = turn.parent
        return turns[::-1]

    def parts(self, until: str | None) -> list[Part]:
        """The messages up to turn `until`, each with where it comes from, before anything is folded."""
        system = [Part(Message("system", self.system_prompt))] if self.system_prompt.strip() else []
        return system + parts(self.upto(until), self.receipts, self.tools.max_rounds)

    def folded_parts(self, until: str | None) -> list[Part]:
        """The same as they are sent."""
        return folded(self.parts(until), self.tools.folds, [turn.id for turn in self.upto(until)])

    def summary_above(self, turn: Turn) -> str:
        """What the model gets in the place of all that stands above a turn on screen; empty if it gets that itself."""
        folds = self.tools.folds
        if turn.parent not in folds.summaries or folds.end(each.id for each in self.path()) != turn.parent:
            return ""
        return folds.summaries[turn.parent]

    def prompt(self, *, until: str | None, draft: str = "") -> ChatPrompt:
        """The messages on the path that ends in turn `until`, after the system prompt; then `draft` as a question."""
        messages = [part.message for part in self.folded_parts(until)]
        if draft.strip():
            messages.append(Message("user", draft))
        return ChatPrompt(tuple(messages), self.tools.schemas if self.tools.on else ())
