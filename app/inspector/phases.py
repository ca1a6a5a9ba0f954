"""Where the time of the latest steps went: a bar for each phase."""

from __future__ import annotations

from dataclasses import asdict
from textwrap import wrap

from app.paint import Line, add_if_fits
from app.panels.draw import cells
from app.panels.telemetry import Snapshot

TITLE = "Time of a step"
LEGEND = "last 2 s, or the last step"

_ABOUT = {
    "schedule": "who gets how many tokens",
    "build": "the batch as arrays",
    "compute": "the model",
    "sample": "a token from each row of logits",
    "output": "text, stop strings, events",
    "draft": "guesses for it to verify",
}


def draw(snapshot: Snapshot, width: int, height: int) -> list[Line]:
    total = snapshot.phases.total
    if not total:
        return [[(line, "dim")] for line in wrap("Send a message: where each step's time went stands here.", width)]
    room = max(4, min(24, width - 30))
    lines: list[Line] = []
    for phase, seconds in asdict(snapshot.phases).items():
        bar = cells(seconds, total, room)
        line: Line = [(f"{phase:<9}", "text"), ("■" * bar + " " * (room - bar), "primary")]
        line.append((f" {1000 * seconds:7.2f} ms {100 * seconds / total:3.0f} %", "text"))
        add_if_fits(line, f"  {_ABOUT[phase]}", "dim", width)
        lines.append(line)
    return lines[:height]
