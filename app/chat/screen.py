"""The one main screen: tabs, engine line, transcript, dock, composer and key bar, and what the keys do."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import DescendantFocus, Resize
from textual.reactive import var
from textual.screen import Screen
from textual.widgets import Static, TextArea

from app.chat import engineline
from app.chat.composer import Composer
from app.chat.dialogs import HelpScreen, RenameScreen, SessionsScreen
from app.chat.engineline import EngineLine
from app.chat.keybar import KeyBar
from app.chat.message import Face, face
from app.chat.meter import ContextMeter
from app.chat.settings import SettingsScreen
from app.chat.tabs import Tab, TabBar
from app.chat.transcript import Transcript
from app.keys import bindings
from app.panels.dock import Dock
from app.panels.switches import SwitchesScreen, shown
from app.panels.telemetry import Telemetry
from app.sessions.export import export
from app.sessions.session import Session, Turn, TurnState
from app.sessions.workspace import Changes, Workspace
from app.watch import Phase
from inference.protocol import SamplingParams

POLL = 1 / 20
"""Seconds between two looks at the engine's events."""
PANELS = 1 / 5
"""Seconds between two drawings of the panels."""
DOCK_COLUMNS = 110
"""From this width on the dock stands beside the chat; below it, F2 shows it in the chat's place."""
SMALL = (60, 16)
"""Below this many columns or rows the key bar says that the window is too small for panels and forms."""


class ChatScreen(Screen[None]):
    BINDINGS: ClassVar[list[BindingType]] = bindings("chat")
    AUTO_FOCUS = "#composer"

    dock_beside: var[bool] = var(True)
    dock_instead: var[bool] = var(False)

    def __init__(self, workspace: Workspace, model: str, clock: Callable[[], float]) -> None:
        super().__init__()
        self.workspace, self._clock = workspace, clock
        self._model = model
        self.telemetry = Telemetry()
        self._meter = ContextMeter(workspace.link, workspace.watch, clock)
        self._editing: Turn | None = None
        """The question that what stands in the composer will replace."""
        self._before_change: dict[str, Any] = {}
        """Options as they were, until the engine accepts a change."""
        self._last_change: tuple[str, float] | None = None
        self._said_problem = ""
        self._meter_shown: tuple[object, ...] = ()
        self._small = ""
        self._stale = False
        """The transcript is behind the session."""
        self._rest_until = 0.0
        self._panels_shown = 0.0

    def compose(self) -> ComposeResult:
        yield TabBar(id="tabs")
        yield EngineLine(id="engine")
        with Horizontal(id="body"):
            with Vertical(id="chat"):
                yield Transcript(self._face, id="transcript")
                yield Static("↓ more below: End follows the answer", id="more")
            yield Dock(id="dock")
        yield Composer(lambda: self.workspace.active.sent(), id="composer")
        yield KeyBar(id="keys")

    def on_mount(self) -> None:
        self._tabs = self.query_one(TabBar)
        self._engine_line = self.query_one(EngineLine)
        self._transcript = self.query_one(Transcript)
        self._dock = self.query_one(Dock)
        self._composer = self.query_one(Composer)
        self._keys = self.query_one(KeyBar)
        self._more = self.query_one("#more")
        self.dock_beside = self.workspace.store.setting("dock", "on") == "on"
        self._show_session()
        self.show_panels()
        for notice in self.workspace.store.notices:
            self.notify(notice, timeout=12, markup=False)
        self.set_interval(POLL, self.poll)
        self.set_interval(PANELS, self._refresh_panels)

    # --- what is on screen ------------------------------------------------------------------------------------------

    @property
    def model_name(self) -> str:
        model = self.workspace.watch.model
        name = model.name if model is not None else self._model
        return name.rstrip("/").rsplit("/", 1)[-1] or name

    def _face(self, turn: Turn, place: tuple[int, int]) -> Face:
        return face(turn, place, self.model_name, self._progress(turn) if turn.open else "")

    def _progress(self, turn: Turn) -> str:
        """How an answer under way is coming on."""
        answer = self.workspace.answer_of(turn)
        if answer is None:
            return ""
        if not answer.sent:
            return "waiting for the engine"
        if answer.first_token is None:
            return f"reading the prompt · {self._clock() - answer.asked:.0f} s"
        elapsed = self._clock() - answer.first_token
        speed = (turn.output_tokens - 1) / elapsed if elapsed > 0.5 else 0.0
        return f"writing · {turn.output_tokens} tokens" + (f" · {speed:.1f} tok/s" if speed else "") + " · Esc stops"

    def poll(self) -> None:
        """Take in what the engine sent and show what changed."""
        changes = self.workspace.poll()
        now = self._clock()
        for record in changes.records:
            self.telemetry.add(record, now)
        for finished in changes.finished:
            self.telemetry.finish(finished)
        for count in changes.counts:
            self._meter.counted(count)
        self._on_options(changes)
        if changes.engine:
            self._on_engine(changes)
        active = self.workspace.active
        self._stale |= active.id in changes.sessions or changes.engine or self.workspace.answering(active) is not None
        if self._stale and now >= self._rest_until:
            # Whatever an update costs, three quarters of the time stay free for the keyboard.
            self._transcript.sync()
            self._stale, self._rest_until = False, now + 4 * (self._clock() - now)
        if changes.finished or changes.engine:
            self._meter.changed()
        self._meter.tick(active, self._composer.text)
        self._show_tabs()
        self._show_meter()
        self._say_problem()
        for notice in changes.notices:
            self.notify(notice, markup=False)
        self._more.display = not self._transcript.follow

    def _on_engine(self, changes: Changes) -> None:
        watch = self.workspace.watch
        if watch.phase is Phase.READY and self.telemetry.snapshot(self._clock()).blocks.total != watch.num_kv_blocks:
            self.telemetry.engine_ready(watch.num_kv_blocks)
        if watch.phase in (Phase.DEAD, Phase.FAILED, Phase.LOADING):
            self.telemetry.engine_lost()
        self.show_panels()

    def _on_options(self, changes: Changes) -> None:
        screen = self.app.screen
        for event in changes.configured:
            if event.error:
                self.workspace.watch.request(**self._before_change)
                self.notify(event.error, severity="error", markup=False)
            if isinstance(screen, SwitchesScreen):
                screen.configured(event.error)
            self._before_change = {}

    def _refresh_panels(self) -> None:
        # An idle engine's graphs move once a second.
        if not self.telemetry.idle(self._clock()) or self._clock() - self._panels_shown >= 1.0:
            self.show_panels()

    def show_panels(self) -> None:
        now = self._panels_shown = self._clock()
        snapshot = self.telemetry.snapshot(now)
        self._dock.show(snapshot)
        self._engine_line.show(engineline.draw(self.workspace.watch, snapshot, self.model_name, now, self.size.width))

    def _show_tabs(self) -> None:
        def mark(session: Session) -> str:
            turn = self.workspace.answering(session)
            if turn is not None:
                return "answering" if turn.state is TurnState.STREAMING else "waiting"
            return "unseen" if session.id in self.workspace.unseen else ""

        self._tabs.show(tuple(Tab(s.id, s.name, mark(s)) for s in self.workspace.sessions), self.workspace.active.id)

    def _show_meter(self) -> None:
        session = self.workspace.active
        text, colour = self._meter.text(session, self.workspace.answering(session))
        state = (text, colour, session.name, self._editing is None)
        if state == self._meter_shown:
            return
        self._meter_shown = state
        content = Content.styled(text, colour) if colour else Content(text)
        self._composer.border_subtitle = content.markup
        editing = "Editing an earlier question: Enter asks it again, Esc leaves it"
        title = editing if self._editing else session.name
        self._composer.border_title = Content(title).markup

    def _show_session(self) -> None:
        """Put the active session on screen."""
        session = self.workspace.active
        self._editing = None
        self._composer.put(session.draft)
        self._transcript.show(session)
        self._meter.changed()
        self._show_tabs()
        self._show_meter()

    def _say_problem(self) -> None:
        problem = self.workspace.store.problem
        if problem != self._said_problem:
            if problem:
                self.notify(problem, severity="error", timeout=15, markup=False)
            elif self._said_problem:
                self.notify("Chats are being saved again.")
            self._said_problem = problem

    def on_resize(self, event: Resize) -> None:
        self._arrange()

    def watch_dock_beside(self) -> None:
        self._arrange()

    def watch_dock_instead(self) -> None:
        self._arrange()

    def _arrange(self) -> None:
        """Put chat and dock where the window has room for them."""
        if not self.is_mounted:
            return
        width, height = self.app.size
        wide = width >= DOCK_COLUMNS
        dock, chat = self.query_one(Dock), self.query_one("#chat")
        dock.display = self.dock_beside if wide else self.dock_instead
        chat.display = wide or not self.dock_instead
        dock.set_class(not wide, "instead")
        dock.set_class(wide and height >= 50, "tall")
        small = width < SMALL[0] or height < SMALL[1]
        self._small = f"small window ({width}x{height}): panels and forms need {SMALL[0]}x{SMALL[1]}" if small else ""
        self._look_at_focus()
        self.call_after_refresh(self.show_panels)

    def _look_at_focus(self) -> None:
        scope = "transcript" if isinstance(self.focused, Transcript) else "composer"
        self.query_one(KeyBar).look_at(scope, self._small)

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        self._look_at_focus()

    # --- the message ------------------------------------------------------------------------------------------------

    @on(TextArea.Changed, "#composer")
    def _draft_changed(self) -> None:
        self._meter.changed()
        session = self.workspace.active
        if self._editing is None and session.draft != self._composer.text:
            session.draft = self._composer.text
            self.workspace.save(session)

    def on_composer_sent(self, event: Composer.Sent) -> None:
        session = self.workspace.active
        if self._editing is not None:
            self.workspace.stop(session)
            self.workspace.edit(session, self._editing, event.text)
        elif self.workspace.answering(session) is not None:
            self.notify("This session is still being answered: Esc stops the answer. Your message stays here.")
            return
        else:
            self.workspace.send(session, event.text)
        self._editing = None
        self._composer.put("")
        self._transcript.action_bottom()
        self._transcript.sync()
        self._show_tabs()

    def action_stop(self) -> None:
        if self._editing is not None:
            self._editing = None
            self._composer.put(self.workspace.active.draft)
        elif not self.workspace.stop(self.workspace.active):
            # Nothing to stop: Esc leads back to the message.
            self._transcript.selected = None
            self._composer.focus()
        self._transcript.sync()

    def action_regenerate(self) -> None:
        answer = self.workspace.active.last("assistant")
        if answer is None:
            self.notify("There is no answer to regenerate yet.")
        else:
            self._regenerate(answer)

    def _regenerate(self, answer: Turn) -> None:
        session = self.workspace.active
        self.workspace.stop(session)
        self.workspace.regenerate(session, answer)
        self._transcript.action_bottom()
        self._transcript.sync()

    def action_edit(self) -> None:
        question = self.workspace.active.last("user")
        if question is None:
            self.notify("There is no question to edit yet.")
        else:
            self._edit(question)

    def _edit(self, question: Turn) -> None:
        self._editing = question
        self._composer.put(question.text)
        self._composer.focus()
        self._show_meter()

    def action_copy(self) -> None:
        answer = self.workspace.active.last("assistant")
        if answer is None or not answer.text:
            self.notify("There is no answer to copy yet.")
        else:
            self._copy(answer)

    def _copy(self, turn: Turn) -> None:
        self.app.copy_to_clipboard(turn.text)
        self.notify(f"Copied {len(turn.text)} characters.")

    def on_transcript_asked(self, event: Transcript.Asked) -> None:
        turn = event.turn
        match event.action:
            case "copy":
                self._copy(turn)
            case "edit" if turn.is_question:
                self._edit(turn)
            case "regenerate" if not turn.is_question:
                self._regenerate(turn)
            case "older" | "newer":
                self._show_version(turn, -1 if event.action == "older" else 1)
            case "edit":
                self.notify("Only a question can be edited: ↑ and ↓ select one.")
            case _:
                self.notify("Only an answer can be regenerated: ↑ and ↓ select one.")

    def _show_version(self, turn: Turn, step: int) -> None:
        session = self.workspace.active
        chosen = session.show_version(turn, step)
        if chosen is None:
            self.notify("There is no other version on that side.")
            return
        self.workspace.save(session)
        self._transcript.selected = chosen.id
        self._transcript.sync()
        self._meter.changed()

    # --- tabs -------------------------------------------------------------------------------------------------------

    def action_new_session(self) -> None:
        self.workspace.new_session()
        self._show_session()
        self._composer.focus()

    def action_switch(self, step: int) -> None:
        sessions = self.workspace.sessions
        self._go_to(sessions[(sessions.index(self.workspace.active) + step) % len(sessions)])

    def _go_to(self, session: Session) -> None:
        if session is not self.workspace.active:
            self.workspace.activate(session)
            self._show_session()

    def on_tab_bar_chosen(self, event: TabBar.Chosen) -> None:
        self._go_to(next(s for s in self.workspace.sessions if s.id == event.id))
        self._composer.focus()

    def on_tab_bar_wanted(self) -> None:
        self.action_new_session()

    def on_tab_bar_closed(self, event: TabBar.Closed) -> None:
        self._close(next(s for s in self.workspace.sessions if s.id == event.id))

    def action_close_session(self) -> None:
        self._close(self.workspace.active)

    def _close(self, session: Session) -> None:
        stopped = self.workspace.close(session)
        self._transcript.forget(session)
        self._show_session()
        also = " and stopped its answer" if stopped else ""
        self.notify(f"Closed “{session.name}”{also}. Ctrl+T brings it back.", markup=False)

    def action_reopen(self) -> None:
        if self.workspace.reopen() is None:
            self.notify("No tab was closed in this run: F9 lists all sessions.")
        self._show_session()

    def action_rename(self) -> None:
        session = self.workspace.active

        def rename(name: str | None) -> None:
            if name:
                self.workspace.rename(session, name)
                self._show_tabs()
                self._show_meter()

        self.app.push_screen(RenameScreen(session.name), rename)

    def action_sessions(self) -> None:
        def chosen(id: str | None) -> None:
            if id is None:
                return
            if self.workspace.open_stored(id) is None:
                self.notify("That session can't be opened: another window has it.")
            self._show_session()

        self.app.push_screen(SessionsScreen(self.workspace), chosen)

    # --- settings, panels and the rest ------------------------------------------------------------------------------

    def action_settings(self) -> None:
        session = self.workspace.active

        def save(result: tuple[SamplingParams, str] | None) -> None:
            if result is not None:
                self.workspace.set_params(session, *result)
                self._meter.changed()
                self.notify("Saved: from the next answer on.")

        self.app.push_screen(SettingsScreen(session), save)

    def action_dock(self) -> None:
        if self.app.size.width >= DOCK_COLUMNS:
            self.dock_beside = not self.dock_beside
            self.workspace.store.save_setting("dock", "on" if self.dock_beside else "off")
        elif not self.dock_instead and self.app.size.width < SMALL[0]:
            self.notify(f"The panels need {SMALL[0]} columns: this window has {self.app.size.width}.")
        else:
            self.dock_instead = not self.dock_instead

    def action_switches(self) -> None:
        self.app.push_screen(
            SwitchesScreen(self.workspace.watch, self._change_option, self.restart_engine, self._effect)
        )

    def _change_option(self, name: str, value: Any) -> None:
        watch = self.workspace.watch
        self._before_change = {name: getattr(watch.config, name)}
        watch.request(**{name: value})
        if watch.ready:
            self.workspace.link.configure({name: value})
            self._last_change = (f"{name} = {shown(value)}", self._clock())

    def _effect(self) -> str:
        """What the latest change did to the speed, as far as it can be said."""
        if self._last_change is None:
            return "Watch the Speed panel after a change: the numbers of before and after will stand here."
        what, when = self._last_change
        return self.telemetry.effect(what, when, self._clock())

    def restart_engine(self) -> None:
        self.workspace.restart_engine()
        self.notify("The engine starts again; answers under way are asked again.")
        self.show_panels()

    def action_help(self) -> None:
        self.app.push_screen(HelpScreen(dict(self.app._keymap)))

    def action_palette(self) -> None:
        self.app.action_command_palette()

    async def action_quit(self) -> None:
        await self.app.action_quit()

    def action_export(self) -> None:
        """Write the session on screen to a Markdown file in the working directory."""
        try:
            path = export(self.workspace.active, Path(os.getcwd()), datetime.now())
        except OSError as error:
            self.notify(f"Not exported: {error}", severity="error", markup=False)
        else:
            self.notify(f"Exported to {path}", timeout=10, markup=False)

    def theme_changed(self) -> None:
        self._transcript.restyle()
