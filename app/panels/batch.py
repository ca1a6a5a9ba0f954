"""The batch panel: what each of the latest steps was made of, and what each session got of the last one."""

from __future__ import annotations

from textwrap import wrap

from rich.cells import cell_len

from app.paint import Line, add_if_fits, fit, line_text
from app.panels.draw import DECODE, DRAFT, PREFILL, cells
from app.panels.telemetry import Share, Snapshot, StepBar

TITLE = "Batch"
LEGEND = f"{PREFILL} prefill {DECODE} decode {DRAFT} drafts"
AXIS = 5
"""Cells for the numbers left of the columns."""


def draw(snapshot: Snapshot, width: int, height: int) -> list[Line]:
    if not snapshot.bars:
        text = (
            f"One column per step of the engine: {PREFILL} prefill is tokens of prompts being read, {DECODE} decode "
            f"is one token for each answer, {DRAFT} drafts are guesses at its next ones, to be verified. Send messages "
            "in several tabs to see them share a step."
        )
        return [[(line, "dim")] for line in wrap(text, width)]
    shares = _by_session(snapshot.shares)
    columns = 2 if width >= 40 else 1
    rows = max(1, min(-(-len(shares) // columns), height - 3))
    lines = _columns(snapshot.bars[-(width - AXIS) :], width, max(1, height - rows - 1))
    last = snapshot.bars[-1]
    line: Line = [(f"step {last.step}", "bold")]
    total = last.prefill + last.decode + last.drafts
    took = f" {total} token{'' if total == 1 else 's'} in {1000 * snapshot.step_seconds:.0f} ms"
    add_if_fits(line, took, "text", width)
    parts: Line = [(f" {PREFILL} {last.prefill}", "prefill"), (f" {DECODE} {last.decode}", "decode")]
    if last.drafts:
        parts.append((f" {DRAFT} {last.drafts}", "draft"))
    if cell_len(line_text(line + parts)) <= width:
        line += parts
    lines.append(line)
    lines += _shares(shares, rows, columns, width)
    return lines


def _shares(shares: list[Share], rows: int, columns: int, width: int) -> list[Line]:
    """The tokens of each session in the latest step, in as many rows and columns as there are."""
    places = rows * columns
    cell = (width - 2 * (columns - 1)) // columns
    most = max((s.total for s in shares), default=0)
    drawn = [_share(share, most, cell) for share in shares[: places if len(shares) <= places else places - 1]]
    if len(shares) > places:
        rest = shares[places - 1 :]
        drawn.append([(fit(f"and {len(rest)} more: {sum(s.total for s in rest)}", cell), "dim")])
    lines: list[Line] = []
    for row in range(0, len(drawn), columns):
        line: Line = []
        for piece in drawn[row : row + columns]:
            line += ([("  ", "text")] if line else []) + piece
        lines.append(line)
    return lines


def _by_session(shares: tuple[Share, ...]) -> list[Share]:
    joined: dict[str, Share] = {}
    for share in shares:
        old = joined.get(share.session, Share(share.session, 0, 0))
        joined[share.session] = Share(
            share.session,
            old.prefill + share.prefill,
            old.decode + share.decode,
            drafts=old.drafts + share.drafts,
        )
    return list(joined.values())


def _share(share: Share, most: int, width: int) -> Line:
    """Name, bar and number of one session in exactly `width` cells."""
    name = min(10, width // 2)
    room = width - name - 1 - 5
    bars = [(DECODE, "decode", share.decode), (DRAFT, "draft", share.drafts), (PREFILL, "prefill", share.prefill)]
    line: Line = [(f"{fit(share.session, name)} ", "text")]
    for glyph, role, tokens in bars:
        length = min(room, cells(tokens, most, width - name - 1 - 5))
        room -= length
        line.append((glyph * length, role))
    return [*line, (f" {share.total:<4}" + " " * room, "text")]


def _columns(bars: tuple[StepBar, ...], width: int, height: int) -> list[Line]:
    """One column per step, the newest on the right: decode tokens below, drafts on them, prefill tokens on top."""
    most = max(bar.prefill + bar.decode + bar.drafts for bar in bars)
    columns = [_column(bar, most, height) for bar in bars]
    lines: list[Line] = []
    for row in range(height - 1, -1, -1):
        label = str(most) if row == height - 1 else "0" if row == 0 else ""
        line: Line = [(f"{label:>{AXIS - 1}}▏", "dim"), (" " * (width - AXIS - len(bars)), "text")]
        for column in columns:
            glyph, role = column[row] if row < len(column) else (" ", "text")
            if line[-1][1] == role:
                line[-1] = (line[-1][0] + glyph, role)
            else:
                line.append((glyph, role))
        lines.append(line)
    return lines


def _column(bar: StepBar, most: int, height: int) -> list[tuple[str, str]]:
    """Its cells from the bottom. Every kind stays visible, however small its part, as far as there are cells."""
    lengths = [cells(tokens, most, height) for tokens in (bar.decode, bar.drafts, bar.prefill)]
    while sum(lengths) > height:
        lengths[lengths.index(max(lengths))] -= 1
    kinds = ((DECODE, "decode"), (DRAFT, "draft"), (PREFILL, "prefill"))
    return [kind for kind, length in zip(kinds, lengths, strict=True) for _ in range(length)]
