"""Receipts: what became of each call, as plain data for the app's store; and what the user allowed for a session.

A receipt is written down before its call begins and again when it has ended. So after a crash there is one of three
things to find: a finished call, which is never made again; one that had not begun; or a running one, of which nobody
knows whether it took effect, and which is reported rather than repeated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from inference.tools.definition import Effect


class CallState(StrEnum):
    WAITING = "waiting"
    """For the user's yes."""
    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """It ran and ended with an error."""
    REFUSED = "refused"
    """It never ran: malformed, unknown, or against a rule."""
    DENIED = "denied"
    """It never ran: the user said no."""
    CANCELLED = "cancelled"
    """The user stopped it; if it had begun, it may have taken effect in part."""
    INTERRUPTED = "interrupted"
    """The app ended while it ran; it may have taken effect or not."""

    @property
    def finished(self) -> bool:
        return self not in (CallState.WAITING, CallState.READY, CallState.RUNNING)


class Decision(StrEnum):
    """The user's answer to a call that asks first."""

    ONCE = "once"
    SESSION = "session"
    """Yes, and to all of the same scope in this session."""
    NO = "no"
    NEVER = "never"
    """No, and to all of the same scope in this session."""

    @property
    def allows(self) -> bool:
        return self in (Decision.ONCE, Decision.SESSION)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision with what the model is to hear about it."""

    decision: Decision
    reason: str = ""
    """Of a no: why, or what to do instead."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """One call, from proposal to result. `to_json` and `from_json` carry it to a store and back."""

    call_id: str
    answer_id: str
    """The answer (a turn of the chat) that the call stands in."""
    index: int
    """Its place among that answer's calls."""
    tool: str
    arguments: Mapping[str, Any]
    """As the model wrote them."""
    effect: Effect | None
    """None if there is no such tool."""
    state: CallState
    decision: Decision | None = None
    """Of a call that asks first: what the user said, now or before for the session."""
    approved: str = ""
    """Digest of the preview that was shown."""
    began: float | None = None
    """Unix time."""
    ended: float | None = None
    result: str = ""
    """What the model gets: bounded, with control markers broken."""
    result_digest: str = ""
    """SHA-256 of the whole result."""
    result_chars: int = 0
    """Length of the whole result, which `ResultStore` has if it is longer than `result`."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Receipt:
        """Raises ValueError if the text is no receipt."""
        try:
            values = json.loads(text)
            known = {f.name for f in fields(cls)}
            values = {name: value for name, value in values.items() if name in known}
            values["state"] = CallState(values["state"])
            values["effect"] = None if values["effect"] is None else Effect(values["effect"])
            values["decision"] = None if values.get("decision") is None else Decision(values["decision"])
            return cls(**values)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a receipt: {error}") from None


@dataclass(slots=True)
class Grants:
    """What the user allowed or forbade for the rest of a session, by `Tool.grant_key`. The app keeps one a session."""

    decisions: dict[str, Decision] = field(default_factory=dict)
    """SESSION or NEVER."""

    def remember(self, key: str, decision: Decision) -> None:
        if decision in (Decision.SESSION, Decision.NEVER):
            self.decisions[key] = decision

    def standing(self, key: str) -> Decision | None:
        """What was said before, if it holds for this."""
        return self.decisions.get(key)
