"""Folding a conversation that nears the context's limit, before its next prompt is sent.

Older results of tools become one line each; if that is not enough, the model itself sums up the oldest turns. What was
folded stays in the session and on the screen, and the fold can be undone. The engine counts the tokens, so all this
takes a few turns of the app's loop, in which the prompt waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from app.link import EngineLink
from app.sessions.session import Session, new_id
from app.tools.messages import Part, folded, taken_apart
from app.watch import EngineWatch
from inference.protocol import ChatPrompt, Delta, Finished, FinishReason, Message, SamplingParams, Submit, TokenCount
from inference.tools.compaction import SUMMARY_TOKENS, Compaction, compact, summary_request

LIMIT = 0.75
"""Of the context: the prompt may take so much, and the answer has the rest."""
PER_MESSAGE = 12
"""Tokens that a template adds to a message, at most; for the first guess alone."""

MOST_THOUGHT = 1024
"""Tokens that the model may think for before it writes a summary, at most."""


@dataclass(slots=True)
class _Work:
    """One session's, from the first count to the summary."""

    session: Session
    parts: list[Part]
    queries: dict[str, int] = field(default_factory=dict)
    """Which count is asked for: of the first so many messages."""
    counts: dict[int, int] = field(default_factory=dict)
    plan: Compaction | None = None
    summary: str = ""
    request_id: str = ""
    done: bool = False


class Compactor:
    def __init__(
        self, link: EngineLink, watch: EngineWatch, save: Callable[[Session], None], say: Callable[[str], None]
    ) -> None:
        self._link, self._watch, self._save, self._say = link, watch, save, say
        self._work: dict[str, _Work] = {}

    def fits(self, session: Session, until: str | None) -> bool:
        """Whether the prompt up to turn `until` can be sent. If not, it is being folded: ask again later."""
        work = self._work.get(session.id)
        if work is not None:
            if work.done:
                del self._work[session.id]
            return work.done
        if session.tools.folds.refused:
            return True
        parts = folded(session.parts(until), session.tools.folds)
        guess = sum(len(part.message.content.encode()) + PER_MESSAGE for part in parts)
        guess += sum(len(str(schema)) for schema in session.tools.schemas)
        if guess <= self._limit:
            return True
        work = self._work[session.id] = _Work(session, parts)
        self._count(work, len(parts))
        return False

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

    def on_event(self, event: TokenCount | Delta | Finished) -> bool:
        """Take in what the engine answered; says whether it was for this."""
        match event:
            case TokenCount(query_id=id):
                work = next((w for w in self._work.values() if id in w.queries), None)
                if work is not None:
                    self._counted(work, work.queries.pop(id), event.num_tokens)
                return work is not None
            case Delta(request_id=id, text=text):
                work = self._summing_up(id)
                if work is not None:
                    work.summary += text
                return work is not None
            case Finished(request_id=id, reason=reason):
                work = self._summing_up(id)
                if work is not None:
                    self._summed_up(work, reason)
                return work is not None

    # --- inside -----------------------------------------------------------------------------------------------------

    @property
    def _limit(self) -> int:
        return int(self._watch.max_model_len * LIMIT)

    def _summing_up(self, request_id: str) -> _Work | None:
        return next((w for w in self._work.values() if w.request_id == request_id), None)

    def _count(self, work: _Work, first: int) -> None:
        """Have the first so many messages counted."""
        id = f"fold-{new_id()}"
        work.queries[id] = first
        messages = tuple(part.message for part in work.parts[:first])
        self._link.count_tokens(id, ChatPrompt(messages, work.session.tools.schemas))

    def _counted(self, work: _Work, first: int, tokens: int) -> None:
        work.counts[first] = tokens
        if len(work.counts) == 1 and tokens > self._limit:
            for number in range(1, len(work.parts)):
                self._count(work, number)
        if not work.queries and max(work.counts.values()) > self._limit:
            self._fold(work)
        elif not work.queries:
            work.done = True

    def _fold(self, work: _Work) -> None:
        totals = [0, *(work.counts[number] for number in range(1, len(work.parts) + 1))]
        # What a message adds to the ones before it; a template may close the one before differently.
        tokens = [max(1, after - before) for before, after in pairwise(totals)]
        messages = [part.message for part in work.parts]
        calls = {place: part.call for place, part in enumerate(work.parts) if part.call}
        plan = work.plan = compact(messages, tokens, self._limit, call_ids=calls)
        folds = work.session.tools.folds
        for place in plan.folded:
            folds.results[work.parts[place].call] = plan.messages[place].content
        if (request := summary_request(plan)) is None:
            self._tell(work)
            return
        prompt = replace(request, tools=work.session.tools.schemas)
        params = SamplingParams(temperature=0, max_tokens=SUMMARY_TOKENS + _thinks_for(messages))
        work.request_id = new_id()
        self._link.submit(Submit(work.request_id, work.session.name, prompt, params, work.session.priority))

    def _summed_up(self, work: _Work, reason: FinishReason) -> None:
        plan, folds = work.plan, work.session.tools.folds
        assert plan is not None
        assert plan.summarize is not None
        summary = taken_apart(work.summary).text.strip()
        if reason in (FinishReason.STOP, FinishReason.LENGTH) and summary:
            folds.summary = f"{folds.summary}\n\n{summary}".strip()
            folds.kept_from = work.parts[plan.summarize.stop].turn
        else:
            work.plan = replace(plan, summarize=None)
        self._tell(work)

    def _tell(self, work: _Work) -> None:
        plan = work.plan
        if plan is not None and plan.changed:
            self._save(work.session)
            done = plan.described().replace("to be summarized", "summarized")
            self._say(f"{work.session.name}: {done}, to make room. Ctrl+P, “Undo the folding” brings all back.")
        work.done = True


def _thinks_for(messages: Sequence[Message]) -> int:
    """Tokens for the thought before a summary: as many as the longest one so far had at most."""
    thoughts = [taken_apart(message.content).thought for message in messages if message.role == "assistant"]
    return min(MOST_THOUGHT, max((len(thought.encode(errors="replace")) for thought in thoughts), default=0))
