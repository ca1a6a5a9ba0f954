"""The KV cache panel: how much of the block pool is in use, and by which session."""

from __future__ import annotations

from textwrap import wrap

from app.paint import Line, add_if_fits, fit
from app.panels.draw import EMPTY, USED, cells
from app.panels.telemetry import Snapshot, held_by_session

TITLE = "KV cache"
LEGEND = f"{USED} used {EMPTY} free"


def draw(snapshot: Snapshot, width: int, height: int) -> list[Line]:
    blocks = snapshot.blocks
    percent = f" {snapshot.kv_percent:3.0f} %"
    room = width - len(percent)
    full = cells(blocks.used, blocks.total, room)
    lines: list[Line] = [
        [(USED * full, "used"), (EMPTY * (room - full), "empty"), (percent, "bold")],
        [(f"{blocks.used} of {blocks.total} blocks used", "text")],
    ]
    add_if_fits(lines[1], f" · {snapshot.block_size} tokens per block", "dim", width)
    if snapshot.reuse.tokens and height > 3:
        reuse = snapshot.reuse
        lines.append([(fit(f"prefix cache: {reuse.percent:.0f} % hit, {reuse.cached} tokens saved", width), "text")])
    held = held_by_session(snapshot.requests)
    if not held:
        lines += _explanation(snapshot, width)
        return lines
    fits = height - len(lines)
    most = held[0][1]
    for session, count in held[: fits if len(held) <= fits else fits - 1]:
        bar = cells(count, most, max(0, width - 10 - 15))
        plural = "s" if count != 1 else ""
        lines.append(
            [(fit(session, 10), "text"), (" ", "text"), (USED * bar, "used"), (f" {count} block{plural}", "text")]
        )
    if len(held) > fits:
        rest = held[fits - 1 :]
        lines.append([(f"and {len(rest)} more sessions: {sum(count for _, count in rest)} blocks", "dim")])
    return lines


def _explanation(snapshot: Snapshot, width: int) -> list[Line]:
    if not snapshot.blocks.total:
        return [[("The pool appears when the engine is ready."[:width], "dim")]]
    tokens = snapshot.blocks.total * snapshot.block_size
    text = (
        f"No session holds a block now. All share the pool, which has room for {tokens} tokens; "
        "a block is taken as a text needs it."
    )
    return [[(line, "dim")] for line in wrap(text, width)]
