"""The tab bar: one line, one tab per session, with a mark on those that answer or have answered."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message
from textual.strip import Strip

from app.paint import Line, Painted, fit

NAME_WIDTH = 24
MARKS = {"answering": "▶", "waiting": "…", "asking": "?", "calling": "⚙", "unseen": "●", "": ""}
"""What stands before a tab's name; told apart by shape, not by colour alone."""


@dataclass(frozen=True, slots=True)
class Tab:
    id: str
    name: str
    mark: str = ""
    """answering, waiting, asking (a tool asks for a yes), calling (a tool runs), unseen or nothing."""


class TabBar(Painted):
    DEFAULT_CSS = "TabBar { height: 1; background: $surface; }"

    ALLOW_SELECT = False

    class Chosen(Message):
        def __init__(self, id: str) -> None:
            super().__init__()
            self.id = id

    class Closed(Message):
        def __init__(self, id: str) -> None:
            super().__init__()
            self.id = id

    class Wanted(Message):
        """A new tab is wanted."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.tabs: tuple[Tab, ...] = ()
        self.active = ""
        self._first = 0
        """The leftmost tab on screen."""

    def show(self, tabs: tuple[Tab, ...], active: str) -> None:
        if (tabs, active) != (self.tabs, self.active):
            self.tabs, self.active = tabs, active
            self.refresh()

    def _label(self, number: int, tab: Tab) -> str:
        mark = MARKS[tab.mark]
        name = tab.name if cell_len(tab.name) <= NAME_WIDTH else fit(tab.name, NAME_WIDTH).rstrip()
        close = " ×" if tab.id == self.active else ""
        return f" {number} {mark + ' ' if mark else ''}{name}{close} "

    def _layout(self) -> list[tuple[int, str, Tab]]:
        """Column, text and tab of what is on screen, such that the active tab is there."""
        labels = [self._label(number, tab) for number, tab in enumerate(self.tabs, 1)]
        widths = [cell_len(label) for label in labels]
        room = self.size.width - 3 - 4
        active = next((i for i, tab in enumerate(self.tabs) if tab.id == self.active), 0)
        first = min(self._first, active)
        while first < active and sum(widths[first : active + 1]) > room:
            first += 1
        # Room left over on the right shows more of what is on the left.
        while first > 0 and sum(widths[first - 1 :]) <= room:
            first -= 1
        self._first = first
        column = 2
        shown: list[tuple[int, str, Tab]] = []
        for label, width, tab in zip(labels[first:], widths[first:], self.tabs[first:], strict=True):
            if column + width > room + 2 and shown:
                break
            shown.append((column, label, tab))
            column += width
        return shown

    def render_line(self, y: int) -> Strip:
        shown = self._layout()
        line: Line = [("‹ " if self._first else "  ", "tab-button")]
        for _, label, tab in shown:
            role = "tab-active" if tab.id == self.active else "tab"
            line.append((label, f"{role} accent" if tab.mark and tab.id != self.active else role))
        line.append(("›" if self._first + len(shown) < len(self.tabs) else " ", "tab-button"))
        line.append((" + ", "tab-button"))
        return self.strip_of(line, self.size.width)

    def on_click(self, event: Click) -> None:
        shown = self._layout()
        for column, label, tab in shown:
            if column <= event.x < column + cell_len(label):
                on_cross = tab.id == self.active and event.x >= column + cell_len(label) - 2
                self.post_message(self.Closed(tab.id) if on_cross or event.button == 2 else self.Chosen(tab.id))
                return
        end = shown[-1][0] + cell_len(shown[-1][1]) if shown else 0
        if event.x < 2:
            self._step(-1)
        elif event.x == end:
            self._step(1)
        elif event.x > end:
            self.post_message(self.Wanted())

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        self._step(-1)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        self._step(1)

    def _step(self, step: int) -> None:
        """Go to the neighbouring tab, which also scrolls the bar."""
        index = next((i for i, tab in enumerate(self.tabs) if tab.id == self.active), 0) + step
        if 0 <= index < len(self.tabs):
            self.post_message(self.Chosen(self.tabs[index].id))
