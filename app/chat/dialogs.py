"""Small dialogs: a new name for a session, the list of all sessions, and the help."""

from __future__ import annotations

import time
from textwrap import wrap
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from app.keys import help_rows
from app.sessions.session import Session
from app.sessions.store import Listed
from app.sessions.workspace import Workspace

KEY_WIDTH = 19
MARKS = [
    ("▶ … ● on a tab", "the session is being answered; waits; has an answer you have not seen"),
    ("⚙ ? on a tab", "a tool runs; a tool asks for your yes before it changes or runs something"),
    ("∴ in an answer", "what the model thought before it answered; a long thought is folded"),
    ("▓ ▒ in Batch", "prefill tokens (prompts being read) and decode tokens (answers being written)"),
    ("■ · in KV cache", "used and free blocks of the pool that all sessions share"),
    ("comp. in Requests", "tokens of prompt and answer whose keys and values are in the cache"),
    ("under an answer", "tokens, TTFT (time to first token), tokens per second, how it finished"),
    ("context", "tokens that the next request will hold, of the most the model can take"),
]


class RenameScreen(ModalScreen[str | None]):
    """Asks for a new name; gives None if the old one stays."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Cancel")]

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name_now = name

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog small") as box:
            box.border_title = "Rename this session"
            box.border_subtitle = "Enter rename · Esc keep"
            yield Input(self._name_now, max_length=80, select_on_focus=True)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(" ".join(event.value.split()) or None)


class SessionsScreen(ModalScreen[str | None]):
    """All sessions ever: searches names and texts, opens one, deletes closed ones. Gives the id of the one to open."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("down", "move(1)", "Down"),
        Binding("up", "move(-1)", "Up"),
        Binding("delete", "delete", "Delete", priority=True),
    ]

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._workspace = workspace
        self._listed: list[Listed] = []
        self._condemned = ""
        """The session that a second Delete removes."""

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title = "Sessions"
            box.border_subtitle = "Enter open · Delete delete · Esc back"
            yield Input(placeholder="search names and texts")
            yield OptionList()
            yield Static(id="note")

    def on_mount(self) -> None:
        self._fill("")

    def on_input_changed(self, event: Input.Changed) -> None:
        self._fill(event.value)

    def _fill(self, words: str) -> None:
        self._condemned = ""
        known = {s.id: s for s in self._workspace.sessions}
        found = self._workspace.store.search(words)
        stored = {listed.id for listed in found}
        # What was opened this very moment may not be written yet.
        fresh = [s for s in known.values() if s.id not in stored and _matches(s, words)]
        self._listed = [Listed(s.id, s.name, time.time(), len(s.turns), True, False) for s in fresh] + found
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([Option(self._line(listed, known), id=listed.id) for listed in self._listed])
        options.highlighted = 0 if self._listed else None
        note = self._workspace.store.problem or ("" if self._listed else "Nothing found.")
        self.query_one("#note", Static).update(Content(note))

    def _line(self, listed: Listed, known: dict[str, Session]) -> Content:
        session = known.get(listed.id)
        name = session.name if session is not None else listed.name
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(listed.updated))
        where = "in another window" if listed.elsewhere else "open" if session is not None else "closed"
        turns = f"{listed.turns} message{'' if listed.turns == 1 else 's'}"
        return Content.assemble(f"{name}  ", (f"{where} · {turns} · {when}", "$text-muted"))

    def action_move(self, step: int) -> None:
        options = self.query_one(OptionList)
        if self._listed:
            options.highlighted = ((options.highlighted or 0) + step) % len(self._listed)

    def _highlighted(self) -> Listed | None:
        index = self.query_one(OptionList).highlighted
        return self._listed[index] if index is not None and index < len(self._listed) else None

    def on_input_submitted(self) -> None:
        if (listed := self._highlighted()) is not None:
            self._open(listed)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self._open(self._listed[event.option_index])

    def _open(self, listed: Listed) -> None:
        if listed.elsewhere:
            self.query_one("#note", Static).update("That session is open in another glasschat window.")
        else:
            self.dismiss(listed.id)

    def action_delete(self) -> None:
        listed = self._highlighted()
        if listed is None:
            return
        note = self.query_one("#note", Static)
        if listed.elsewhere or any(s.id == listed.id for s in self._workspace.sessions):
            note.update("An open session can't be deleted: close its tab first (F4).")
        elif self._condemned != listed.id:
            self._condemned = listed.id
            note.update(Content(f"Press Delete again to delete “{listed.name}” for ever."))
        else:
            self._workspace.forget(listed.id)
            self._listed = [x for x in self._listed if x.id != listed.id]
            self.query_one(OptionList).remove_option(listed.id)
            note.update(Content(f"“{listed.name}” is deleted."))


def _matches(session: Session, words: str) -> bool:
    wanted = words.strip().lower()
    return wanted in session.name.lower() or any(wanted in t.text.lower() for t in session.turns.values())


class HelpScreen(ModalScreen[None]):
    """Every key, and what the marks on the screen mean."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,f1,q", "dismiss(None)", "Back")]

    def __init__(self, keymap: dict[str, str]) -> None:
        super().__init__()
        self._keymap = keymap

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog") as box:
            box.border_title = "Help"
            box.border_subtitle = "↑ ↓ scroll · Esc back"
            yield Static()

    def on_resize(self) -> None:
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        text = self.query_one(Static)
        text.update(self._text(max(40, self.query_one(VerticalScroll).size.width - 2)))

    def _text(self, width: int) -> Content:
        parts: list[Content | str | tuple[str, str]] = []
        for heading, rows in [*help_rows(self._keymap), ("Marks", MARKS)]:
            parts.append((f"{heading}\n", "bold $text-primary"))
            for key, sentence in rows:
                first, *more = wrap(sentence, width - KEY_WIDTH - 2)
                parts += [(f"  {key:<{KEY_WIDTH}}", "bold $text-accent"), f"{first}\n"]
                parts += [" " * (KEY_WIDTH + 2) + f"{line}\n" for line in more]
            parts.append("\n")
        return Content.assemble(*parts)
