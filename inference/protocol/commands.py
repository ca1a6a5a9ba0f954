"""What the app tells the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from inference.errors import ConfigError
from inference.protocol.requests import ChatPrompt, Prompt, SamplingParams


@dataclass(frozen=True, slots=True)
class Submit:
    request_id: str
    session: str
    """Which session it belongs to: a label for the records, nothing more."""
    prompt: Prompt
    params: SamplingParams
    priority: int = 0
    """For the policy of that name: smaller goes first."""


@dataclass(frozen=True, slots=True)
class Abort:
    request_id: str


@dataclass(frozen=True, slots=True)
class Configure:
    """Change live options at the next step boundary; answered by `Configured`."""

    changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CountTokens:
    """How many tokens a prompt has once rendered; answered by `TokenCount`."""

    query_id: str
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class CountMessages:
    """How many tokens a chat has once rendered, and each of its messages' texts; answered by `MessageCounts`."""

    query_id: str
    prompt: ChatPrompt


@dataclass(frozen=True, slots=True)
class ExplainPrefix:
    """Why the latest request of a session found no more in the prefix cache; answered by `PrefixExplained`."""

    session: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Compute no further step; answered by `Stepping`. Everything else goes on being answered."""


class Condition(StrEnum):
    """What a running engine can be stopped by. Those of requests may be narrowed down to one session's."""

    PREEMPTION = "a request is preempted"
    KV_ABOVE = "KV use is above"
    SCHEDULED = "a session is scheduled"
    FINISHED = "a request ends"
    REFUSED = "a request is not admitted"


@dataclass(frozen=True, slots=True)
class Until:
    """The engine pauses after the first step that fulfils this."""

    condition: Condition
    percent: float = 0.0
    """For KV_ABOVE."""
    session: str = ""
    """Whose requests count; empty for anyone's, but for SCHEDULED, which needs one."""

    def __str__(self) -> str:
        if self.condition is Condition.KV_ABOVE:
            return f"{self.condition} {self.percent:g} %"
        if self.session:
            return f"{self.session} {_DOES[self.condition]}"
        return str(self.condition)


_DOES = {
    Condition.PREEMPTION: "is preempted",
    Condition.SCHEDULED: "is scheduled",
    Condition.FINISHED: "ends",
    Condition.REFUSED: "is not admitted",
}


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on after a pause; answered by `Stepping`, and by another one at the next pause."""

    steps: int | None = None
    """Pause again after so many; None never does for that reason."""
    until: Until | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"{self.steps} steps are none: ask for at least one")


@dataclass(frozen=True, slots=True)
class SetBreakpoints:
    """Pause after every step that fulfils one of these, until others are set; answered by `Stepping`."""

    points: tuple[Until, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """Write what happens to a file, from now on, or no longer; answered by `Recorded`."""

    path: str
    """Empty to end the recording."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    pass


Command = (
    Submit
    | Abort
    | Configure
    | CountTokens
    | CountMessages
    | ExplainPrefix
    | Pause
    | Resume
    | SetBreakpoints
    | Record
    | Shutdown
)
