"""What happened, in words: admissions, prefix hits, preemptions, ends, changes of options, pauses."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from app.paint import Line, fit
from app.panels.telemetry import Snapshot
from inference.protocol import Configured, Event, Stepping, StepRecord, Until

TITLE = "Events"
LEGEND = "the latest first"
KEPT = 200


@dataclass(slots=True)
class EventLog:
    """The latest lines, each with the step that it belongs to and a role."""

    lines: deque[tuple[int, str, str]] = field(default_factory=lambda: deque(maxlen=KEPT))
    _sessions: dict[str, str] = field(default_factory=dict)
    _options: dict[str, str] = field(default_factory=dict)
    _breakpoints: tuple[Until, ...] = ()

    def add(self, record: StepRecord) -> None:
        known = self._sessions | {row.request_id: row.session for row in record.requests}
        for lookup in record.lookups:
            known[lookup.request_id] = lookup.session
        for name in record.preempted:
            self._say(record.step, f"{known.get(name, name)} preempted: its blocks went to others", "warn")
        for lookup in record.lookups:
            computed = lookup.tokens - lookup.cached_tokens
            self._say(
                record.step, f"{lookup.session} admitted: {lookup.cached_tokens} tokens cached, {computed} new", "text"
            )
        for name, reason in record.finished:
            self._say(record.step, f"{known.get(name, name)} ended: {reason}", "dim")
        self._sessions = {row.request_id: row.session for row in record.requests}

    def on_event(self, event: Event) -> None:
        """Changes, breakpoints and pauses; what belongs to requests stands in the records."""
        match event:
            case Configured(options=options, step=step):
                now = {option.name: option.effective for option in options}
                for name, value in now.items():
                    if self._options.get(name, value) != value:
                        self._say(step, f"{name}: {self._options[name]} → {value}", "primary")
                self._options = now
            case Stepping(step=step, breakpoints=points) if points != self._breakpoints:
                self._say(step, f"breakpoints: {', '.join(map(str, points)) or 'none'}", "primary")
                self._breakpoints = points
            case Stepping(step=step, paused=paused, reason=reason):
                state = "paused" if paused else "goes on"
                self._say(step, f"engine {state}{': ' if reason else ''}{reason}", "primary")
            case _:
                pass

    def _say(self, step: int, text: str, role: str) -> None:
        self.lines.appendleft((step, text, role))

    def draw(self, snapshot: Snapshot, width: int, height: int) -> list[Line]:
        if not self.lines:
            return [[("Nothing has happened yet.", "dim")]]
        return [
            [(f"{step:>6} ", "dim"), (fit(text, max(0, width - 7)), role)]
            for step, text, role in list(self.lines)[:height]
        ]
