"""The card on which a tool asks before it changes or runs something, in the transcript's place for the next message.

It shows exactly what would happen: the diff, the argument list or the arguments, wrapped and never cut, to be scrolled
where they are long. It is part of its session's chat and no dialog, so every other tab goes on. The choice that stands
at first is no, and no key but Enter on another one says yes.
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
from app.paint import Painted, fit
from app.tools.exchanges import Asking
from inference.tools.receipts import Decision

CHOICES = (
    (Decision.NO, "No"),
    (Decision.ONCE, "Yes, once"),
    (Decision.SESSION, "Yes, this session"),
    (Decision.NEVER, "Never"),
)
MOST_ROWS = 18
"""Of what is shown; the rest is scrolled to."""
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
            self.border_title = f"{asking.receipt.tool} {_WHAT.get(preview.kind, _WHAT['arguments'])}"
        self._height = height
        self._arrange()
        return other

    def on_resize(self) -> None:
        self._arrange()

    def _arrange(self) -> None:
        width = max(20, self.content_size.width)
        if self.asking is None or not self.content_size.width:
            self.styles.height = 6
            return
        self._lines = self._text(width)
        rows = max(1, min(len(self._lines), MOST_ROWS, self._height - self._around()))
        self._rows = rows
        self._first = max(0, min(self._first, len(self._lines) - rows))
        self.styles.height = rows + self._around()
        more = len(self._lines) - rows
        self.border_subtitle = "← → choose · Enter · Esc no" + (f" · ↑ ↓ {more} more lines" if more > 0 else "")
        self.refresh()

    def _around(self) -> int:
        """Rows beside the text: the border, warnings, choices and what the choice means."""
        assert self.asking is not None
        return 2 + len(self.asking.preview.warnings) + 3

    def _text(self, width: int) -> list[Strip]:
        assert self.asking is not None
        preview = self.asking.preview
        found: list[Strip] = []
        for line in preview.text.rstrip("\n").split("\n"):
            role = diff_role(line) if preview.kind == "diff" else "text"
            text = Text(line.expandtabs(4), self.style_of(role))
            first, *rest = wrap(text, width - 2) or [[]]
            found += [Strip(first), *(Strip([Segment("↪ ", self.style_of("dim")), *row]) for row in rest)]
        return found

    def render_line(self, y: int) -> Strip:
        width, base = self.content_size.width, self.rich_style
        if self.asking is None or not self._lines:
            return Strip.blank(width, base)
        warnings = self.asking.preview.warnings
        if y < len(warnings):
            return self.strip_of([(fit(f"! {warnings[y]}", width), "bad")], width)
        y -= len(warnings)
        if y < self._rows:
            strip = self._lines[self._first + y]
            return strip.apply_style(base).adjust_cell_length(width, base)
        y -= 1  # a blank row
        if y < self._rows:
            return Strip.blank(width, base)
        if y == self._rows:
            return self.strip_of([(text, role) for _, text, role in self._choices()], width)
        return self.strip_of([(fit(self._meaning(), width), "dim")], width)

    def _choices(self) -> list[tuple[int, str, str]]:
        """Column, text and role of each choice."""
        found, column = [], 0
        for number, (_, label) in enumerate(CHOICES):
            chosen = number == self.choice
            text = f"▸{label} " if chosen else f" {label} "
            found.append((column, text, "tab-active" if chosen else "text"))
            column += cell_len(text) + 1
            found.append((column - 1, " ", "text"))
        return found

    def _meaning(self) -> str:
        assert self.asking is not None
        scope = self.asking.preview.scope
        match CHOICES[self.choice][0]:
            case Decision.NO:
                return "the model is told that you said no"
            case Decision.ONCE:
                return "exactly what stands above, this time"
            case Decision.SESSION:
                return f"without asking in this session: {scope}"
            case _:
                return f"no, without asking in this session: {scope}"

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
        x, y = event.x - 2, event.y - 1  # without border and padding
        if y != len(self.asking.preview.warnings) + self._rows + 1:
            return
        spots = [spot for spot in self._choices() if spot[1].strip()]
        for number, (column, text, _) in enumerate(spots):
            if column <= x < column + cell_len(text):
                if number == self.choice:
                    self.action_answer()
                self.choice = number
