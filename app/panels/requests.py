"""The requests panel: one row per request, the running ones first, and why a waiting one waits."""

from __future__ import annotations

from textwrap import wrap

from app.paint import Line, fit
from app.panels.draw import number
from app.panels.telemetry import RequestView, Snapshot

TITLE = "Requests"
LEGEND = "tokens of each request"

_COLUMNS = (("state", 9), ("prompt", 6), ("comp.", 5), ("out", 4), ("blks", 4), ("tok/s", 5))
_NARROW = (("state", 9), ("prom", 4), ("comp", 4), ("out", 4), ("blk", 3), ("tok/s", 5))
_ROLES = {"WAIT": "warn", "PREEMPTED": "bad", "PREFILL": "prefill", "DECODE": "decode", "error": "bad", "lost": "bad"}


def draw(snapshot: Snapshot, width: int, height: int) -> list[Line]:
    columns = _COLUMNS if width >= 45 else _NARROW
    name_width = max(5, width - sum(w + 1 for _, w in columns))
    lines: list[Line] = [
        [(fit("session", name_width), "dim")]
        + [(f" {name:<{w}}" if name == "state" else f" {name:>{w}}", "dim") for name, w in columns]
    ]
    for session, why in snapshot.resting:
        lines.append([(fit(session, name_width), "text"), (" TOOL", "warn")])
        lines.append([(fit(f"  rests: {why}", width), "warn")])
    if not snapshot.requests and not snapshot.resting:
        text = "No request yet. Each message you send is one: WAIT, then PREFILL, then DECODE."
        lines += [[(line, "dim")] for line in wrap(text, width)]
    for view in snapshot.requests:
        lines.append(_row(view, columns, name_width))
        if view.why and view.state in ("WAIT", "PREEMPTED"):
            lines.append([(fit(f"  waits: {view.why}", width), "warn")])
    return lines[:height]


def _row(view: RequestView, columns: tuple[tuple[str, int], ...], name_width: int) -> Line:
    speed = number(view.speed) if view.speed else "-"
    values = (view.prompt, view.computed, view.output, view.blocks if view.live else "-", speed)
    role = "text" if view.live else "dim"
    line: Line = [(fit(view.session, name_width), role), (f" {view.state:<9}", _ROLES.get(view.state, "dim"))]
    for (_, width), value in zip(columns[1:], values, strict=True):
        line.append((f" {value:>{width}}", role))
    return line
