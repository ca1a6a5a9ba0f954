"""Whether the engine may go on to its next step: pause, single steps, and running until something happens.

Only steps wait. Requests are accepted, aborted and counted, and options change, while the engine is paused.
"""

from __future__ import annotations

from inference.protocol import Condition, RequestState, Resume, Stepping, StepRecord, Until


class Control:
    """Runs freely until told otherwise."""

    def __init__(self) -> None:
        self._paused = False
        self._left: int | None = None
        """Steps before the next pause; None for any number."""
        self._until: Until | None = None

    @property
    def may_step(self) -> bool:
        return not self._paused

    def pause(self, step: int, reason: str = "asked to") -> Stepping:
        """Hold before the next step. `step` is the last one that was computed."""
        self._paused, self._left, self._until = True, None, None
        return Stepping(paused=True, step=step, reason=reason)

    def resume(self, command: Resume, step: int) -> Stepping:
        """Go on: freely, or for some steps, or until a condition."""
        self._paused, self._left, self._until = False, command.steps, command.until
        return Stepping(paused=False, step=step, reason=_intention(command))

    def after(self, record: StepRecord) -> Stepping | None:
        """Look at a step that was computed: the pause that it brings, if any."""
        if self._until is not None and (why := _met(self._until, record)):
            return self.pause(record.step, why)
        if self._left is not None:
            self._left -= 1
            if self._left < 1:
                return self.pause(record.step, "the steps asked for are done")
        return None


def _intention(command: Resume) -> str:
    if command.until is not None:
        return f"until {command.until}"
    if command.steps is not None:
        return f"for {command.steps} step{'s' * (command.steps != 1)}"
    return ""


def _met(until: Until, record: StepRecord) -> str:
    """Why a step fulfils a condition, as a phrase; empty if it does not."""
    match until.condition:
        case Condition.PREEMPTION if record.preempted:
            return f"{_named(record.preempted[0], record)} was preempted"
        case Condition.KV_ABOVE:
            used = 100 * record.blocks.used / record.blocks.total
            return f"{used:.0f} % of the KV blocks are in use" if used > until.percent else ""
        case Condition.SCHEDULED:
            chunk = next((s for s in record.scheduled if s.session == until.session), None)
            return f"{chunk.session} got {chunk.num_tokens} token{'s' * (chunk.num_tokens != 1)}" if chunk else ""
        case Condition.FINISHED if record.finished:
            return "a request ended"
        case Condition.REFUSED:
            queued = {row.request_id for row in record.requests if row.state is not RequestState.RUNNING}
            denied = next((u for u in record.unscheduled if u.request_id in queued), None)
            return f"{denied.session} was not admitted: {denied.reason}" if denied else ""
        case _:
            return ""


def _named(request_id: str, record: StepRecord) -> str:
    return next((row.session for row in record.requests if row.request_id == request_id), request_id)
