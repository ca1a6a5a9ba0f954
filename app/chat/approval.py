"""The card on which a tool asks before it changes or runs something, in the transcript's place for the next message.

It shows exactly what would happen: warnings, and the diff, the argument list or the arguments, wrapped and never cut,
to be scrolled where they are long. Below that the choices stand, however much there is to scroll. It is part of its
session's chat and no dialog, so every other tab goes on. The choice that stands at first is no, and no key but Enter on
another one says yes.
"""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message
from textual.reactive import var
from textual.strip import Strip

from app.chat.blocks import wrap
from app.chat.toolcard import diff_role
from app.paint import Line, Painted, fit
from app.tools.exchanges import Asking
from inference.tools.definition import visible
from inference.tools.receipts import Decision

CHOICES = (
    (Decision.NO, "No"),
    (Decision.ONCE, "Yes, once"),
    (Decision.SESSION, "Yes, this session"),
    (Decision.NEVER, "Never"),
)
MOST_ROWS = 18
"""Of what is shown; the rest is scrolled to."""
COUNTED = 3
"""More warnings than these are announced by their number, as what they warn of stands below them."""
BORDER = 2
IN_SESSION = "without asking in this session: "
NOT_IN_SESSION = f"no, {IN_SESSION}"
WHOLE_SCOPE = "“This session” and “Never” are about "
_WHAT = {"diff": "wants to change a file", "command": "wants to run a program", "arguments": "asks before it runs"}


class ApprovalCard(Painted, can_focus=True):
    """Hidden unless a call of the session on screen waits."""

    DEFAULT_CSS = """
    ApprovalCard {
        height: auto; display: none; border: round $warning; padding: 0 1;
        border-title-color: $text-warning; border-title-style: bold; border-subtitle-color: $text-muted;
    }
    ApprovalCard:focus { border: heavy $warning; }
    """
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "choose(-1)", "Left"),
        Binding("right", "choose(1)", "Right"),
        Binding("up", "scroll_text(-1)", "Up"),
        Binding("down", "scroll_text(1)", "Down"),
        Binding("pageup", "page_text(-1)", "Page up"),
        Binding("pagedown", "page_text(1)", "Page down"),
        Binding("enter", "answer", "Answer"),
        Binding("escape", "refuse", "No", priority=True),
    ]

    choice: var[int] = var(0)

    class Answered(Message):
        def __init__(self, asking: Asking, decision: Decision) -> None:
            super().__init__()
            self.asking, self.decision = asking, decision

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.asking: Asking | None = None
        self._lines: list[Strip] = []
        self._first = 0
        """The line at the top."""
        self._rows = 1
        self._height = 0
        """The most rows that it may take."""

    def show(self, asking: Asking | None, height: int) -> bool:
        """Show the call that waits, in at most `height` rows, or nothing; says whether this is another one."""
        if asking is self.asking and height == self._height:
            return False
        other = asking is not self.asking
        self.asking = asking
        self.display = asking is not None
        if asking is None:
            return other
        if other:
            self.choice, self._first = 0, 0
            preview = asking.preview
            self.border_subtitle = "← → choose · Enter · Esc no"
            self.border_title = f"{asking.receipt.tool} {_WHAT.get(preview.kind, _WHAT['arguments'])}"
        self._height = height
        self._arrange()
        return other

    def on_resize(self) -> None:
        self._arrange()

    def _arrange(self) -> None:
        width = self.content_size.width
        if self.asking is None or not width:
            self.styles.height = 6
            return
        self._lines = self._warnings(width) + self._text(width)
        below = len(self._below(width))
        self._rows = max(1, min(len(self._lines), MOST_ROWS, self._height - BORDER - below))
        self._first = max(0, min(self._first, len(self._lines) - self._rows))
        self.styles.height = self._rows + below + BORDER
        self.refresh()

    def _warnings(self, width: int) -> list[Strip]:
        assert self.asking is not None
        warnings = self.asking.preview.warnings
        rows: list[Strip] = []
        if len(warnings) > COUNTED:
            count = f"{len(warnings)} warnings. What it would do stands below them."
            rows += self._wrapped(count, "bad bold", width)
        for warning in warnings:
            rows += self._wrapped(warning, "bad", width, "! ", "  ")
        return [*rows, Strip([])] if rows else []

    def _text(self, width: int) -> list[Strip]:
        assert self.asking is not None
        preview = self.asking.preview
        found: list[Strip] = []
        for line in preview.text.rstrip("\n").split("\n"):
            role = diff_role(line) if preview.kind == "diff" else "text"
            found += self._wrapped(line.expandtabs(4), role, width, "", "↪ ")
        if cell_len(NOT_IN_SESSION + preview.scope) > width:  # below the choices it is cut
            found += [Strip([]), *self._wrapped(WHOLE_SCOPE + preview.scope, "dim", width)]
        return found

    def _wrapped(self, text: str, role: str, width: int, first: str = "", further: str = "") -> list[Strip]:
        """The text in rows: the first one begins with `first`, the others with `further`."""
        style, dim = self.style_of(role), self.style_of("dim")
        rows = wrap(Text(visible(text), style), width - max(cell_len(first), cell_len(further))) or [[]]
        marks = [Segment(first, style), *[Segment(further, dim)] * (len(rows) - 1)]
        return [Strip([mark, *row]) for mark, row in zip(marks, rows, strict=True)]

    def render_line(self, y: int) -> Strip:
        width, base = self.content_size.width, self.rich_style
        if self.asking is None or not self._lines:
            return Strip.blank(width, base)
        if y < self._rows:
            strip = self._lines[self._first + y]
            return strip.apply_style(base).adjust_cell_length(width, base)
        below = self._below(width)
        y -= self._rows
        return self.strip_of(below[y], width) if y < len(below) else Strip.blank(width, base)

    # --- below the text ---------------------------------------------------------------------------------------------

    def _below(self, width: int) -> list[Line]:
        """A rule, the choices, and what the chosen one means; in a low window the choices alone."""
        choices: list[Line] = []
        for row in self._choices(width):
            line: Line = []
            for number, _, text in row:
                line += [(text, "tab-active" if number == self.choice else "text"), (" ", "text")]
            choices.append(line)
        spare = self._spare(width)
        rule: list[Line] = [[(self._rule(width), "dim")]] if spare > 0 else []
        meaning: list[Line] = [[(fit(self._meaning(), width), "dim")]] if spare > 1 else []
        return rule + choices + meaning

    def _spare(self, width: int) -> int:
        """Rows that there are beside the choices and one row of text."""
        return self._height - BORDER - 1 - len(self._choices(width))

    def _rule(self, width: int) -> str:
        """What parts the text from the choices, and says how much of it is out of sight."""
        above, below = self._first, len(self._lines) - self._rows - self._first
        counts = " · ".join(f"{arrow} {count}" for arrow, count in (("↑", above), ("↓", below)) if count > 0)
        return (f"── {counts} more lines " if counts else "").ljust(width, "─")

    def _choices(self, width: int) -> list[list[tuple[int, int, str]]]:
        """Number, column and text of each choice, in as many rows as they need."""
        rows: list[list[tuple[int, int, str]]] = [[]]
        column = 0
        for number, (_, label) in enumerate(CHOICES):
            text = f"▸{label} " if number == self.choice else f" {label} "
            if column and column + cell_len(text) > width:
                rows.append([])
                column = 0
            rows[-1].append((number, column, text))
            column += cell_len(text) + 1
        return rows

    def _meaning(self) -> str:
        assert self.asking is not None
        scope = self.asking.preview.scope
        match CHOICES[self.choice][0]:
            case Decision.NO:
                return "the model is told that you said no"
            case Decision.ONCE:
                return "exactly what stands above, this time"
            case Decision.SESSION:
                return IN_SESSION + scope
            case _:
                return NOT_IN_SESSION + scope

    def watch_choice(self) -> None:
        self.refresh()

    def action_choose(self, step: int) -> None:
        self.choice = max(0, min(self.choice + step, len(CHOICES) - 1))

    def action_scroll_text(self, step: int) -> None:
        self._first = max(0, min(self._first + step, len(self._lines) - self._rows))
        self.refresh()

    def action_page_text(self, direction: int) -> None:
        self.action_scroll_text(direction * max(1, self._rows - 1))

    def action_answer(self) -> None:
        self._say(CHOICES[self.choice][0])

    def action_refuse(self) -> None:
        self._say(Decision.NO)

    def _say(self, decision: Decision) -> None:
        if self.asking is not None:
            self.post_message(self.Answered(self.asking, decision))

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        self.action_scroll_text(-1)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        self.action_scroll_text(1)

    def on_click(self, event: Click) -> None:
        """A click chooses; a second one on the chosen word answers."""
        if self.asking is None:
            return
        width = self.content_size.width
        x, y = event.x - 2, event.y - 1 - self._rows - (self._spare(width) > 0)  # from the first choice's place
        rows = self._choices(width)
        for number, column, text in rows[y] if 0 <= y < len(rows) else ():
            if column <= x < column + cell_len(text):
                if number == self.choice:
                    self.action_answer()
                self.choice = number
