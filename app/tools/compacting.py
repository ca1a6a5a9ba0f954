"""Folding a conversation that nears the context's limit, before its next prompt is sent.

Old results and calls of tools are told in short; if that is not enough, the model itself sums up the oldest turns, as
many at a time as fit into one prompt. What was folded stays in the session and on the screen, and the fold can be
undone. The engine counts the tokens, so all this takes a few turns of the app's loop, in which the prompt waits: count,
one step of `compact`, and again, until there is nothing left to do.

Most prompts need no count: what the one before really took is known, and only what is new in this one is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.link import EngineLink
from app.sessions.session import Session, Turn, new_id
from app.tools.messages import Part, taken_apart
from app.watch import EngineWatch
from inference.protocol import (
    THOUGHT,
    THOUGHT_END,
    ChatPrompt,
    Delta,
    Finished,
    FinishReason,
    Message,
    MessageCounts,
    Prompt,
    SamplingParams,
    Submit,
)
from inference.tools.compaction import Compaction, Room, compact, outline, shares, summary_request

PER_MESSAGE = 12
"""Tokens that a template adds to a message, at most; for the guess alone."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A prompt, with the answer to it if there is one, and its tokens."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...]
    tokens: int


@dataclass(slots=True)
class _Done:
    """What was folded for one prompt, for the reader."""

    results: int = 0
    answers: int = 0
    summed_up: int = 0
    outlined: bool = False
    """The model wrote no summary of some of it."""

    def __str__(self) -> str:
        """In a phrase; empty if it was nothing."""
        parts = []
        if self.results:
            parts.append(f"{self.results} older tool result{'s' * (self.results > 1)} folded")
        if self.answers:
            parts.append(f"the arguments of tool calls in {self.answers} older answer{'s' * (self.answers > 1)} folded")
        if self.summed_up:
            what = f"{self.summed_up} older messages"
            parts.append(
                f"{what} left out but for what you asked, as the model gave no summary of them"
                if self.outlined
                else f"{what} summarized"
            )
        return " and ".join(parts)


@dataclass(slots=True)
class _Work:
    """One session's, from the first count to the last summary."""

    session: Session
    until: str | None
    """The turn that the prompt ends with."""
    parts: list[Part] = field(default_factory=list)
    """The prompt as it is now."""
    tools: tuple[Mapping[str, Any], ...] = ()
    query_id: str = ""
    plan: Compaction | None = None
    room: Room = field(default_factory=lambda: Room(0))
    request_id: str = ""
    """Of a summary that is being written."""
    text: str = ""
    """Of it, with a thought before it."""
    tokens: int = 0
    """Of it, without a thought."""
    folded: _Done = field(default_factory=_Done)
    done: bool = False


class Compactor:
    def __init__(
        self, link: EngineLink, watch: EngineWatch, save: Callable[[Session], None], say: Callable[[str], None]
    ) -> None:
        self._link, self._watch, self._save, self._say = link, watch, save, say
        self._work: dict[str, _Work] = {}
        self._known: dict[str, _Known] = {}
        """By session: the last prompt whose tokens are known."""
        self._bare = _Known((), (), 0)
        """What tools take, of those that were counted last."""

    def fits(self, session: Session, until: str | None) -> bool:
        """Whether the prompt up to turn `until` can be sent. If not, it is being folded: ask again later."""
        work = self._work.get(session.id)
        if work is not None:
            if work.done:
                del self._work[session.id]
            return work.done
        if session.tools.folds.refused:
            return True
        if self._guess(session, session.prompt(until=until)) <= Room(self._watch.max_model_len).limit:
            return True
        work = self._work[session.id] = _Work(session, until)
        self._count(work)
        return False

    def learn(self, session: Session, prompt: Prompt, answer: Turn) -> None:
        """What a prompt and the answer to it really took."""
        if isinstance(prompt, ChatPrompt) and answer.prompt_tokens:
            kept = taken_apart(answer.text).kept
            written = (Message("assistant", kept),) if kept else ()
            tokens = answer.prompt_tokens + answer.output_tokens
            self._known[session.id] = _Known((*prompt.messages, *written), prompt.tools, tokens)

    def doing(self, session: Session) -> str:
        """What is being done for the session, as a phrase; empty if nothing is."""
        work = self._work.get(session.id)
        if work is None:
            return ""
        return "summing up older messages, to make room" if work.request_id else "counting tokens"

    def drop(self, session: Session) -> None:
        """Nobody waits any more."""
        work = self._work.pop(session.id, None)
        if work is not None and work.request_id:
            self._link.abort(work.request_id)

    def engine_lost(self) -> None:
        self._work.clear()

    def on_event(self, event: MessageCounts | Delta | Finished) -> bool:
        """Take in what the engine answered; says whether it was for this."""
        match event:
            case MessageCounts(query_id=id):
                work = next((w for w in self._work.values() if w.query_id == id), None)
                if work is not None:
                    self._counted(work, event)
            case Delta(request_id=id):
                work = self._summing_up(id)
                if work is not None:
                    _take(work, event)
            case Finished(request_id=id):
                work = self._summing_up(id)
                if work is not None:
                    self._summed_up(work, event.reason)
        return work is not None

    # --- inside -----------------------------------------------------------------------------------------------------

    def _guess(self, session: Session, prompt: ChatPrompt) -> int:
        """The prompt's tokens, at most."""
        known = self._known.get(session.id)
        if known is not None and known.tools == prompt.tools:
            begin = len(known.messages)
            if prompt.messages[:begin] == known.messages:
                return known.tokens + _guess_of(prompt.messages[begin:])
        tools = self._bare.tokens if self._bare.tools == prompt.tools else sum(len(str(tool)) for tool in prompt.tools)
        return tools + _guess_of(prompt.messages)

    def _summing_up(self, request_id: str) -> _Work | None:
        return next((w for w in self._work.values() if w.request_id == request_id), None)

    def _count(self, work: _Work) -> None:
        session = work.session
        work.parts = session.folded_parts(work.until)
        work.tools = session.tools.schemas if session.tools.on else ()
        work.query_id = f"fold-{new_id()}"
        self._link.count_messages(work.query_id, ChatPrompt(tuple(part.message for part in work.parts), work.tools))

    def _counted(self, work: _Work, event: MessageCounts) -> None:
        work.query_id = ""
        if event.error:
            self._finish(work)  # whatever is wrong with the prompt, the engine says it again when it is sent
            return
        session, messages = work.session, tuple(part.message for part in work.parts)
        self._known[session.id] = _Known(messages, work.tools, event.num_tokens)
        self._bare = _Known((), work.tools, event.bare)
        work.room = Room(self._watch.max_model_len, _thinks_for(messages))
        tokens = shares(event.num_tokens - event.bare, event.contents)
        calls = {place: part.call for place, part in enumerate(work.parts) if part.call and work.tools}
        plan = work.plan = compact(messages, tokens, event.bare, work.room, calls)
        if not plan.changed:
            self._finish(work)
            return
        self._shorten(work, plan)
        request = summary_request(plan, work.room)
        if request is None:
            self._count(work)
            return
        params = SamplingParams(temperature=0, max_tokens=work.room.summary + work.room.thought)
        work.request_id, work.text, work.tokens = new_id(), "", 0
        prompt = replace(request, tools=work.tools)
        self._link.submit(Submit(work.request_id, session.name, prompt, params, session.priority))

    def _shorten(self, work: _Work, plan: Compaction) -> None:
        folds = work.session.tools.folds
        for place in plan.shortened:
            part, text = work.parts[place], plan.messages[place].content
            if part.call:
                folds.results[part.call] = text
                work.folded.results += 1
            else:
                folds.answers[part.turn] = text
                work.folded.answers += 1

    def _summed_up(self, work: _Work, reason: FinishReason) -> None:
        plan, session, work.request_id = work.plan, work.session, ""
        assert plan is not None
        assert plan.summarize is not None
        summary = taken_apart(work.text).text if reason is not FinishReason.ERROR else ""
        if not summary:
            summary, work.folded.outlined = outline(plan, work.room), True
        kept_from = session.turns[work.parts[plan.summarize.stop].turn]
        assert kept_from.parent is not None
        session.tools.folds.sum_up(kept_from.parent, summary)
        work.folded.summed_up += sum(bool(part.turn) for part in work.parts[plan.summarize.start : plan.summarize.stop])
        self._save(session)
        self._count(work)

    def _finish(self, work: _Work) -> None:
        work.done = True
        if done := str(work.folded):
            self._save(work.session)
            self._say(f"{work.session.name}: {done}, to make room. Ctrl+P, “Undo the folding” brings all back.")


def _take(work: _Work, delta: Delta) -> None:
    """More of a summary, as long as it is no longer than one may be."""
    thinks = work.text.lstrip().startswith(THOUGHT) and THOUGHT_END not in work.text
    if thinks or work.tokens < work.room.summary:
        work.text += delta.text
        work.tokens += 0 if thinks else len(delta.token_ids)


def _guess_of(messages: Sequence[Message]) -> int:
    return sum(len(message.content.encode(errors="replace")) + PER_MESSAGE for message in messages)


def _thinks_for(messages: Sequence[Message]) -> int:
    """Tokens of a thought before a summary: as many as the longest one so far had at most."""
    thoughts = [taken_apart(message.content).thought for message in messages if message.role == "assistant"]
    return max((len(thought.encode(errors="replace")) for thought in thoughts), default=0)
