"""A tool call in the transcript: name, arguments, what became of it, and its result, bounded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.segment import Segment
from rich.text import Text
from textual.strip import Strip

from app.chat.blocks import READABLE, wrap
from app.paint import Styles
from inference.tools.calls import Call
from inference.tools.definition import Effect, visible
from inference.tools.receipts import CallState, Decision, Receipt

SHOWN = 4
"""Lines of a result that are always shown."""
OPENED = 400
"""Lines that an opened card shows at most: more belongs into an editor."""
ARGUMENT_LINES = 2

_STATES = {
    CallState.WAITING: ("? waits for your yes", "warn"),
    CallState.READY: ("… comes next", "dim"),
    CallState.RUNNING: ("▶ running", "primary"),
    CallState.DONE: ("✓ done", "good"),
    CallState.FAILED: ("✗ failed", "bad"),
    CallState.REFUSED: ("✗ not made", "bad"),
    CallState.DENIED: ("✗ you said no", "warn"),
    CallState.CANCELLED: ("■ stopped", "warn"),
    CallState.INTERRUPTED: ("! interrupted: it may have taken effect or not", "bad"),
}


@dataclass(frozen=True, slots=True)
class CallFace:
    """What is known of a call beside its text. Two equal ones look the same."""

    receipt: Receipt | None = None
    missing: str = ""
    """Why there is no receipt."""
    seconds: int = 0
    """For how long it has been running."""
    folded: str = ""
    """What is left out of it in the prompts by now, as a sentence."""
    opened: bool = False
    whole: str = ""
    """If it is opened: all of its result."""


def draw(call: Call | None, face: CallFace, styles: Styles, width: int) -> list[Strip]:
    """The card's lines. `call` is None while it is being written."""
    bar = Segment("▏ ", styles("accent"))
    return [Strip([bar, *line]) for line in _lines(call, face, styles, min(width, READABLE) - 2)]


def _lines(call: Call | None, face: CallFace, styles: Styles, width: int) -> list[list[Segment]]:
    if call is None:
        return wrap(Text("⚙ a tool call is being written …", styles("dim")), width)
    receipt = face.receipt
    state, role = _state(face)
    head = Text.assemble(("⚙ ", styles("dim")), (visible(call.name) or "…", styles("accent bold")), "  ")
    arguments = [(visible(str(name)), _written(value)) for name, value in call.arguments.items()]
    inline = "  ".join(f"{name}: {value}" for name, value in arguments)
    fits = "\n" not in inline and cell_len(f"{head.plain}{inline}  {state}") <= width
    if inline and fits:
        head.append(f"{inline}  ")
    head.append(state, styles(role))
    lines = wrap(head, width)
    if not fits:
        for name, value in arguments:
            lines += _argument(name, value, styles, width, face.opened)
    text = face.whole if face.opened and face.whole else receipt.result if receipt is not None else call.error
    if text and (receipt is None or receipt.state.finished):
        lines += _result(text, receipt, face.opened, styles, width)
    if face.folded:
        lines += wrap(Text(f"  folded: {face.folded}", styles("dim")), width)
    return lines


def _state(face: CallFace) -> tuple[str, str]:
    receipt = face.receipt
    if receipt is None:
        return face.missing, "dim"
    text, role = _STATES[receipt.state]
    if receipt.state is CallState.RUNNING and face.seconds:
        text += f" · {face.seconds} s · Esc stops"
    elif receipt.began is not None and receipt.ended is not None:
        text += f" · {_seconds(receipt.ended - receipt.began)}"
    if receipt.state in (CallState.DONE, CallState.FAILED) and receipt.decision is not None:
        text += " · allowed for this session" if receipt.decision is Decision.SESSION else " · allowed once"
    return text, role


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value >= 0.1 else f"{max(0.0, value) * 1000:.0f} ms"


def _written(value: Any) -> str:
    return visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _argument(name: str, value: str, styles: Styles, width: int, opened: bool) -> list[list[Segment]]:
    lines = wrap(Text.assemble((f"{name}: ", styles("dim")), value), width - 2)
    if not opened and len(lines) > ARGUMENT_LINES:
        more = len(lines) - ARGUMENT_LINES
        lines = lines[:ARGUMENT_LINES] + wrap(Text(f"… {more} more line{'s' * (more > 1)}", styles("dim")), width - 2)
    return [[Segment("  "), *line] for line in lines]


def _result(text: str, receipt: Receipt | None, opened: bool, styles: Styles, width: int) -> list[list[Segment]]:
    failed = receipt is not None and receipt.state is not CallState.DONE
    changed = receipt is not None and receipt.effect is Effect.CHANGES
    source = text.rstrip("\n").split("\n")
    total = len(source)
    if changed and not opened:
        # Of a diff, what has changed says most.
        source = source[:1] + [line for line in source[1:] if diff_role(line) in ("good", "bad")]
    shown = source[: OPENED if opened else SHOWN]
    lines: list[list[Segment]] = []
    for number, line in enumerate(shown):
        role = "bad" if failed and not number else diff_role(line) if changed else "text"
        drawn = wrap(Text(visible(line.expandtabs(4)), styles(role)), width - 4)
        room = len(drawn) if opened else SHOWN - len(lines)
        if len(drawn) > room:
            drawn = [*drawn[: max(1, room - 1)], [Segment("…", styles("dim"))]]
        for row in drawn or [[]]:
            lines.append([Segment("  → " if not lines else "    ", styles("dim")), *row])
        if not opened and len(lines) >= SHOWN:
            shown = source[: number + 1]
            break
    if (more := total - len(shown)) > 0:
        hint = "" if opened else " · Enter on the selected message opens it"
        lines += wrap(Text(f"    … {more} more line{'s' * (more > 1)}{hint}", styles("dim")), width)
    return lines


def diff_role(line: str) -> str:
    """How a line of a unified diff is coloured."""
    if line.startswith(("+++", "---", "@@")):
        return "dim"
    return "good" if line.startswith("+") else "bad" if line.startswith("-") else "text"
