"""Speculative decoding as it stands: who drafts, how far ahead and why, how often that is right, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from rich.cells import cell_len

from app.paint import Line, add_if_fits, line_text
from app.panels.draw import cells, graph
from app.panels.telemetry import Drafting, Snapshot
from inference.protocol import OptionState, Speculation

TITLE = "Drafts"
LEGEND = "one column per second"

_WHO = {"draft": "the draft model", "ngram": "the text itself"}
_CELL = 18
"""Cells for one place of a draft with its bar, at least."""
_EXPLAINED = (
    "One step of the model verifies several guesses at once: those before the first wrong one are kept, and one more "
    "token comes from the model itself. The text is the same as without drafts."
)


def draw(snapshot: Snapshot, options: Sequence[OptionState], width: int, height: int) -> list[Line]:
    """`options`: as the engine says that they stand."""
    states = {state.name: state for state in options}
    speculation, draft = states.get("speculation"), states.get("draft")
    if speculation is None:
        return _text("Known when the engine is ready.", "dim", width)[:height]
    if speculation.effective == "off":
        lines = [*_text("Nobody drafts.", "bold", width), *_text(_why_off(speculation), "text", width)]
        return _explained(lines, width, height)
    named = f"{_WHO[speculation.effective]}, {draft.effective}," if draft else _WHO[speculation.effective]
    who = named if speculation.effective == "draft" else _WHO[speculation.effective]
    decided = snapshot.drafting.decided
    if decided is None:
        lines = _text(f"{_sentence(who)} drafts as soon as an answer is being written.", "text", width)
        return _explained(lines, width, height)
    lines = [*_decision(decided, width), *_places(decided, width)]
    lines += _measured(snapshot, snapshot.drafting, decided, width, 3 if height > 16 else 1)
    return _explained(lines, width, height)


def _why_off(speculation: OptionState) -> str:
    if speculation.requested == "off":
        return "speculation is switched off: F8 changes that."
    return f"{speculation.reason}."


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _text(text: str, role: str, width: int) -> list[Line]:
    return [[(line, role)] for line in wrap(text, width)]


def _explained(lines: list[Line], width: int, height: int) -> list[Line]:
    """With what it is about below, where there is room for all of that."""
    about = _text(_EXPLAINED, "dim", width)
    return [*lines, [], *about] if len(lines) + 1 + len(about) <= height else lines[:height]


def _decision(decided: Speculation, width: int) -> list[Line]:
    who = _WHO.get(decided.method, decided.method)
    what = f"{_sentence(who)} guesses {decided.depth} ahead" if decided.depth else "No drafts now"
    head, even = _text(what, "bold", width), _break_even(decided)
    if cell_len(line_text(head[-1])) + 3 + len(even) <= width:
        head[-1].append((f" · {even}", "text"))
    else:
        head.append([(even, "text")])
    return [*head, *_text(f"{_sentence(decided.reason)}.", "dim", width)[:2]]


def _break_even(decided: Speculation) -> str:
    if decided.break_even is None:
        return "break-even not measured"
    return f"break-even at {decided.break_even or 'none'}"


def _places(decided: Speculation, width: int) -> list[Line]:
    """How often the guess at each place is right, if those before it are."""
    rates = decided.acceptance
    columns = max(1, min(len(rates), (width + 2) // (_CELL + 2)))
    rows = -(-len(rates) // columns)
    room = (width - 2 * (columns - 1)) // columns - 8
    about = "right, by place, if all before it are:"
    lines: list[Line] = [[(about if len(about) <= width else "right, by place:", "dim")]]
    for row in range(rows):
        line: Line = []
        for place in range(row, len(rates), rows):
            bar = cells(rates[place], 1.0, room)
            line += [("  ", "text")] if line else []
            # The places that are drafted now stand out.
            role = "draft" if place < decided.depth else "empty"
            line += [(f"{place + 1:>2} ", "dim"), ("■" * bar, role), ("·" * (room - bar), "empty")]
            line.append((f"{100 * rates[place]:4.0f}%", "text"))
        lines.append(line)
    return lines


def _measured(snapshot: Snapshot, drafting: Drafting, decided: Speculation, width: int, tall: int) -> list[Line]:
    lines: list[Line] = []
    now = f"{drafting.accepted.now:3.0f} %" if drafting.verifications else "  -  "
    label = f"accepted {now} "
    curve = graph((100.0, *drafting.accepted.points), min(60, width - len(label)) + 1, tall)
    for row, text in enumerate(curve):
        lines.append([(label if row == tall - 1 else " " * len(label), "text"), (text[1:], "draft")])
    if drafting.verifications:
        line: Line = [
            (f"{drafting.tokens / drafting.verifications:.1f}", "bold"),
            (" tokens per verification", "text"),
        ]
        if decided.depth:
            add_if_fits(line, f", {decided.tokens_per_verification:.1f} expected", "text", width)
    else:
        line = [("no verification in the last 2 s"[:width], "dim")]
    lines.append(line)
    phases = snapshot.phases
    if not phases.total:
        return [*lines, line]
    share = 100 * phases.draft / phases.total
    line = [(f"{share:.0f} %", "bold"), (" of the time is drafting", "text")]
    add_if_fits(line, f" ({1000 * phases.draft:.1f} ms a step)", "dim", width)
    return [*lines, line]
