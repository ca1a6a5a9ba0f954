"""The speed panel: the last minute of decode and prefill speed and step time, and the time to first token."""

from __future__ import annotations

from app.paint import Line, add_if_fits, line_text
from app.panels.draw import graph, number
from app.panels.telemetry import Series, Snapshot

TITLE = "Speed"
LEGEND = "one column per second"
LOW = 7
"""Rows below which each graph stands beside its number."""


def draw(snapshot: Snapshot, width: int, height: int) -> list[Line]:
    beside = height < LOW
    tall = max(1, min(3, (height - 4) // 3))
    lines: list[Line] = []
    series: tuple[tuple[str, str, Series, str], ...] = (
        ("decode", "tok/s", snapshot.decode, "decode"),
        ("prefill", "tok/s", snapshot.prefill, "prefill"),
        ("step time", "ms", snapshot.step_ms, "primary"),
    )
    for name, unit, values, role in series:
        line: Line = [(f"{name:<10}", "text"), (f"{number(values.now):>5} {unit:<5}", "bold")]
        if not beside:
            add_if_fits(line, f"  peak {number(values.peak)}", "dim", width)
        lines.append(line)
        if beside:
            room = min(width - len(line_text(line)) - 2, len(values.points))
            line += [(f"  {row}", role) for row in graph(values.points, room, 1)] if room > 0 else []
            continue
        lines += [[(row, role)] for row in graph(values.points, min(width, len(values.points) or width), tall)]
    line = [(f"{'TTFT':<10}", "text")]
    if snapshot.ttft:
        mean = sum(snapshot.ttft) / len(snapshot.ttft)
        line.append((f"{snapshot.ttft[-1]:5.2f} s    ", "bold"))
        add_if_fits(line, f"  mean of last {len(snapshot.ttft)}: {mean:.2f} s", "dim", width)
    else:
        line.append(("    -      ", "bold"))
        add_if_fits(line, "  time to first token", "dim", width)
    lines.append(line)
    return lines
