"""Whether the engine may go on to its next step: pause, single steps, breakpoints, and running until something happens.

Only steps wait. Requests are accepted, aborted and counted, and options change, while the engine is paused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from inference.protocol import Condition, RequestState, Resume, Stepping, StepRecord, Until


class Control:
    """Runs freely until told otherwise."""

    def __init__(self) -> None:
        self._state = Stepping(paused=False, step=0)
        """What was last said of it."""
        self._left: int | None = None
        """Steps before the next pause; None for any number."""
        self._until: Until | None = None
        self._sessions: dict[str, str] = {}
        """Of each request that was live after the latest step: the next record has only the ids of those that end."""

    @property
    def may_step(self) -> bool:
        return not self._state.paused

    def pause(self, step: int, reason: str = "asked to") -> Stepping:
        """Hold before the next step. `step` is the last one that was computed."""
        self._left, self._until = None, None
        return self._say(paused=True, step=step, reason=reason)

    def resume(self, command: Resume, step: int) -> Stepping:
        """Go on: freely, or for some steps, or until a condition."""
        self._left, self._until = command.steps, command.until
        return self._say(paused=False, step=step, reason=_intention(command))

    def set_breakpoints(self, points: tuple[Until, ...]) -> Stepping:
        """Pause whenever one of these happens, however the engine was told to go on."""
        self._state = replace(self._state, breakpoints=points)
        return self._state

    def after(self, record: StepRecord) -> Stepping | None:
        """Look at a step that was computed: the pause that it brings, if any."""
        rows = {row.request_id: row.session for row in record.requests}
        sessions = self._sessions | rows | {s.request_id: s.session for s in record.scheduled}
        self._sessions = rows
        for until in (*self._state.breakpoints, *([self._until] if self._until else [])):
            if why := _met(until, record, sessions):
                return self.pause(record.step, why)
        if self._left is not None:
            self._left -= 1
            if self._left < 1:
                return self.pause(record.step, "the steps asked for are done")
        return None

    def _say(self, *, paused: bool, step: int, reason: str) -> Stepping:
        self._state = replace(self._state, paused=paused, step=step, reason=reason)
        return self._state


def _intention(command: Resume) -> str:
    if command.until is not None:
        return f"until {command.until}"
    if command.steps is not None:
        return f"for {command.steps} step{'s' * (command.steps != 1)}"
    return ""


def _met(until: Until, record: StepRecord, sessions: Mapping[str, str]) -> str:
    """Why a step fulfils a condition, as a phrase; empty if it does not. `sessions`: whose request each is."""

    def first(request_ids: Iterable[str]) -> str | None:
        """The session of the first of these requests that counts."""
        named = (sessions.get(request_id, request_id) for request_id in request_ids)
        return next((name for name in named if until.session in ("", name)), None)

    match until.condition:
        case Condition.PREEMPTION:
            session = first(record.preempted)
            return f"{session} was preempted" if session is not None else ""
        case Condition.KV_ABOVE:
            used = 100 * record.blocks.used / record.blocks.total
            return f"{used:.0f} % of the KV blocks are in use" if used > until.percent else ""
        case Condition.SCHEDULED:
            chunk = next((s for s in record.scheduled if s.session == until.session), None)
            return f"{chunk.session} got {chunk.num_tokens} token{'s' * (chunk.num_tokens != 1)}" if chunk else ""
        case Condition.FINISHED:
            session = first(request_id for request_id, _ in record.finished)
            return f"{until.session or 'a request'} ended" if session is not None else ""
        case Condition.REFUSED:
            queued = {row.request_id for row in record.requests if row.state is not RequestState.RUNNING}
            waiting = [u for u in record.unscheduled if u.request_id in queued and until.session in ("", u.session)]
            return f"{waiting[0].session} was not admitted: {waiting[0].reason}" if waiting else ""
