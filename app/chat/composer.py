"""The message being written: grows with its lines, sends with Enter, walks through what was sent before."""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.message import Message
from textual.widgets import TextArea


class Composer(TextArea):
    """Textual's own text area, so that input methods, the mouse and undo work as they do everywhere."""

    DEFAULT_CSS = """
    Composer {
        height: auto; min-height: 3; max-height: 10; padding: 0 1;
        border: round $foreground 30%; background: $background;
        border-title-color: $text-muted; border-subtitle-color: $text-muted;
        scrollbar-size-vertical: 1;
        &:focus { border: round $primary; border-title-color: $text-primary; }
    }
    """

    class Sent(Message):
        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, history: Callable[[], list[str]], *, id: str | None = None) -> None:
        super().__init__(
            id=id, soft_wrap=True, highlight_cursor_line=False, tab_behavior="focus", show_line_numbers=False,
            placeholder="Write a message",
        )  # fmt: skip
        self._history = history
        self._at: int | None = None
        """Which entry of the history is shown; None while the user's own text is."""
        self._own = ""

    def put(self, text: str) -> None:
        """Show a text with the cursor at its end."""
        self.load_text(text)
        self.move_cursor(self.document.end)
        self._at = None

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            if self.text.strip():
                self.post_message(self.Sent(self.text.strip("\n")))
            return
        if event.key in ("ctrl+j", "shift+enter"):
            event.stop()
            event.prevent_default()
            self.insert("\n")
            return
        if (event.key == "up" and self.cursor_at_first_line) or (event.key == "down" and self.cursor_at_last_line):
            if self._walk(-1 if event.key == "up" else 1):
                event.stop()
                event.prevent_default()
            return
        await super()._on_key(event)

    def _walk(self, step: int) -> bool:
        """Show the entry before or after; says whether there was one."""
        entries = self._history()
        at = len(entries) if self._at is None else self._at
        to = at + step
        if not 0 <= to <= len(entries) or (self._at is None and step > 0):
            return False
        if self._at is None:
            self._own = self.text
        self.put(self._own if to == len(entries) else entries[to])
        self._at = None if to == len(entries) else to
        return True
