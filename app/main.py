"""The terminal application: puts engine, store and screen together, and takes them apart again at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from app import paint, stepping, theme
from app.chat.screen import ChatScreen
from app.keys import KEYS, display, load_keymap
from app.link import EngineLink
from app.sessions.store import Store
from app.sessions.workspace import Workspace
from app.terminal import quiet_terminal, tell_tmux
from app.tools.use import ToolUse
from app.watch import EngineWatch
from inference.protocol import EngineConfig

CSS = """
#body { height: 1fr; }
#chat { width: 1fr; height: 1fr; }
#branches { height: 1fr; }
.branch { width: 1fr; height: 1fr; border: round $foreground 30%; border-title-color: $text-primary; }
#shared { height: auto; padding: 0 1; color: $text-muted; }
#more { height: 1; color: $text-warning; text-align: right; padding: 0 1; display: none; }
ModalScreen { align: center middle; background: $background 60%; }
.dialog {
    width: 96%; max-width: 104; height: auto; max-height: 90%; padding: 0 1;
    border: round $primary; background: $surface;
    border-title-color: $text-primary; border-title-style: bold; border-subtitle-color: $text-muted;
}
.dialog.small { width: 60; }
.dialog > Input { border: round $foreground 30%; background: $surface; padding: 0 1; height: 3; }
.dialog > Input:focus { border: round $primary; }
.dialog OptionList { height: auto; max-height: 24; border: none; }
.dialog #note { color: $text-warning; }
.dialog DataTable { height: auto; max-height: 16; }
.dialog #about { padding: 1 0 0 0; }
.dialog #value { border-left: thick $primary; margin: 1 0 0 0; }
.dialog #verdict { padding: 1 0; }
.dialog #effect { color: $text-muted; padding: 1 0 0 0; }
.form VerticalScroll { height: auto; max-height: 100%; }
.form Grid { grid-size: 3; grid-columns: 18 14 1fr; grid-rows: auto; height: auto; grid-gutter: 0 1; }
.form TextArea { height: 5; border: round $foreground 30%; }
.form TextArea:focus { border: round $primary; }
.form Input { background: $foreground 8%; }
.form Input:focus { background: $primary 30%; }
.form .heading { color: $text-primary; }
.form .hint { color: $text-muted; }
.form .error { color: $text-error; }
"""


class GlasschatApp(App[int]):
    TITLE = "glasschat"
    CSS = CSS + paint.CSS
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+q", "quit", "Quit", show=False, priority=True)]

    def __init__(
        self,
        link: EngineLink,
        store: Store,
        model: str,
        config: EngineConfig,
        session_names: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        tools: ToolUse | None = None,
    ) -> None:
        """`tools` are those of a session that is like no other; none without."""
        super().__init__()
        self._link = link
        self.workspace = Workspace(link, EngineWatch(link, config), store, clock, tools)
        self._names, self._model, self._clock = session_names, model, clock
        self.register_theme(theme.DARK)
        self.register_theme(theme.LIGHT)
        chosen = store.setting("theme", theme.DARK.name)
        self.theme = chosen if chosen in self.available_themes else theme.DARK.name
        keymap, self._keymap_note = load_keymap(store.folder)
        self.set_keymap(keymap)

    def on_mount(self) -> None:
        self.workspace.open(self._names)
        self.chat = ChatScreen(self.workspace, self._model, self._clock)
        self.push_screen(self.chat)
        self.theme_changed_signal.subscribe(self, lambda _: self._theme_changed())
        # The first frame comes before the engine: starting a process takes a moment.
        self.call_after_refresh(self.workspace.watch.start)
        if self._keymap_note:
            self.notify(self._keymap_note, severity="warning", timeout=10, markup=False)

    def _theme_changed(self) -> None:
        self.workspace.store.save_setting("theme", self.theme)
        self.chat.theme_changed()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette: everything that has a key, and what has none."""
        for key in KEYS:
            if key.palette:
                action = key.action
                yield SystemCommand(
                    f"{key.label} ({display(self._keymap.get(key.id, key.keys))})", key.help, self._runner(action)
                )
        yield SystemCommand(
            "Export to Markdown", "write this session to a file in the working directory", self.chat.action_export
        )
        yield SystemCommand(
            "Restart engine", "start the engine again; answers under way are asked again", self.chat.restart_engine
        )
        yield SystemCommand(
            "Explain the prefix cache",
            "what it had of this session's latest message, and the first token that differs",
            self.chat.action_explain_prefix,
        )
        yield SystemCommand(
            "Fork this chat", "a new tab that begins like this one and goes its own way", self.chat.action_fork
        )
        yield SystemCommand(
            "Race two branches",
            "this chat and a fork of it side by side, asked the same, with the blocks that they share",
            self.chat.action_race,
        )
        yield SystemCommand(
            "Tools", "all tools, what each does, and what was allowed in this session (/tools)", self.chat.action_tools
        )
        on = self.workspace.active.tools.on
        yield SystemCommand(
            "Tools off" if on else "Tools on",
            "let the model of this session call none" if on else "let the model of this session call tools",
            self.chat.action_toggle_tools,
        )
        yield SystemCommand(
            "Tokens: who wrote them",
            "answers token by token: drafted and accepted, or sampled by the model; T in the transcript",
            self.chat.action_tokens,
        )
        folds = self.workspace.active.tools.folds
        if folds:
            yield SystemCommand(
                "Undo the folding", "send results and messages in full again, also if they no longer fit",
                partial(self.chat.action_unfold, True),
            )  # fmt: skip
        elif folds.refused:
            yield SystemCommand(
                "Fold when it gets long", "shorten old results and messages for the model before they no longer fit",
                partial(self.chat.action_unfold, False),
            )  # fmt: skip
        recording = self.workspace.watch.recording
        yield SystemCommand(
            "End the recording" if recording else "Record the engine",
            f"now: {recording}" if recording else "to a file: for replay, what-if, and a trace for Perfetto",
            self.chat.action_record,
        )
        for title, explanation, command in stepping.commands(self.workspace.active.name):
            yield SystemCommand(title, explanation, partial(self.chat.run_engine, command))
        known = self.workspace.breakpoints
        for title, explanation, points in stepping.breakpoints(self.workspace.active.name, known):
            yield SystemCommand(title, explanation, partial(self.workspace.set_breakpoints, points))
        yield SystemCommand("Theme", "light, dark and ANSI themes", self.action_change_theme)

    def _runner(self, action: str) -> Callable[[], None]:
        def run() -> None:
            self.call_later(self.chat.run_action, action)

        return run

    def copy_to_clipboard(self, text: str) -> None:
        super().copy_to_clipboard(text)
        tell_tmux(text)


def run_app(
    model: str,
    config: EngineConfig,
    session_names: Sequence[str] = (),
    *,
    link: EngineLink | None = None,
    data: Path | None = None,
) -> int:
    """Run the terminal application until the user leaves it; returns the exit code of the process.

    `link` and `data` put another engine or another place for the chats in the place of the usual ones.
    """
    store = Store(data)
    if link is None:
        from inference.client import EngineClient

        link = EngineClient(model, config, log_path=store.folder / "engine.log")
    app = GlasschatApp(link, store, model, config, session_names, tools=ToolUse.at_first(model))
    try:
        with quiet_terminal(store.folder / "app.log"):
            app.run()
    finally:
        app.workspace.shut_down()
        link.close()
    if app.return_code:
        print(
            f"glasschat stopped because of a fault of its own; your chats are kept, and {store.folder / 'app.log'} "
            "says what happened",
            file=sys.stderr,
        )
    return app.return_code or 0
