"""The bottom line: the keys that matter where the focus is, as many as fit; each can be clicked."""

from __future__ import annotations

from rich.cells import cell_len
from textual.events import Click
from textual.strip import Strip

from app.keys import KEYS, Key, display
from app.paint import Line, Painted


class KeyBar(Painted):
    DEFAULT_CSS = "KeyBar { height: 1; dock: bottom; background: $surface; }"

    ALLOW_SELECT = False

    scope = "composer"
    """Where the focus is: the composer or the transcript."""
    warning = ""
    """Stands before the keys when the window is too small."""

    def look_at(self, scope: str, warning: str) -> None:
        if (scope, warning) != (self.scope, self.warning):
            self.scope, self.warning = scope, warning
            self.refresh()

    def _shown(self) -> list[tuple[int, str, Key]]:
        """What fits, as column, text and key: chosen by importance, shown in the order of the table."""
        keymap = {binding.id: binding.key for _, binding in self.screen._bindings if binding.id}
        keymap |= self.app._keymap
        wanted = [k for k in KEYS if k.bar and k.scope in ("chat", self.scope)]
        room = self.size.width - 1 - (cell_len(self.warning) + 2 if self.warning else 0)
        chosen: set[str] = set()
        texts = {k.id: f"{display(keymap.get(k.id, k.keys))} {k.label}" for k in wanted}
        for key in sorted(wanted, key=lambda k: (k.scope == "chat", k.bar) if self.scope == "transcript" else (k.bar,)):
            room -= cell_len(texts[key.id]) + 2
            if room < 0:
                break
            chosen.add(key.id)
        column = 1 + (cell_len(self.warning) + 2 if self.warning else 0)
        shown = []
        for key in wanted:
            if key.id in chosen:
                shown.append((column, texts[key.id], key))
                column += cell_len(texts[key.id]) + 2
        return shown

    def render_line(self, y: int) -> Strip:
        line: Line = [(" ", "text")]
        if self.warning:
            line.append((f"{self.warning}  ", "warn"))
        for _, text, key in self._shown():
            label = key.label
            line += [(text.removesuffix(label), "accent bold"), (f"{label}  ", "dim")]
        return self.strip_of(line, self.size.width)

    async def on_click(self, event: Click) -> None:
        for column, text, key in self._shown():
            if column <= event.x < column + cell_len(text) and key.bound:
                await self.screen.run_action(key.action)
