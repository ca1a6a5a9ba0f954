"""The main screen: what its keys, its tabs and its messages do."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.binding import BindingType
from textual.widgets import TextArea

from app.chat.approval import ApprovalCard
from app.chat.composer import Composer
from app.chat.dialogs import HelpScreen, RenameScreen, SessionsScreen
from app.chat.race import RaceScreen
from app.chat.settings import Settings, SettingsScreen
from app.chat.tabs import TabBar
from app.chat.toollist import ToolsScreen
from app.chat.transcript import Transcript
from app.chat.view import DOCK_COLUMNS, SMALL, ChatView
from app.inspector.screen import InspectorScreen
from app.keys import bindings
from app.measure import Measurement
from app.panels.experiment import ExperimentScreen
from app.panels.switches import SwitchesScreen
from app.sessions.export import export
from app.sessions.session import Session, Turn
from app.stepping import next_breakpoint
from app.tools.messages import taken_apart
from inference.protocol import Resume, in_words


class ChatScreen(ChatView):
    BINDINGS: ClassVar[list[BindingType]] = bindings("chat")

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
        elif event.text.strip() == "/tools":
            self._composer.put("")
            self.action_tools()
            return
        elif self.workspace.answering(session) is not None:
            self.notify("This session is still being answered: Esc stops the answer. Your message stays here.")
            return
        elif self.workspace.busy(session):
            self.notify("A tool runs, or asks for your yes: Esc stops it, or says no. Your message stays here.")
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
        elif self._approval.asking is not None:
            self._approval.action_refuse()
        elif not self.workspace.stop(self.workspace.active):
            # Nothing to stop: Esc leads back to the message.
            self._transcript.selected = None
            self._composer.focus()
        self._transcript.sync()

    def on_approval_card_answered(self, event: ApprovalCard.Answered) -> None:
        self.workspace.exchanges.decide(event.asking, event.decision)
        self._composer.focus()

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

    def action_fork(self) -> None:
        """A second tab that begins like this one."""
        self._fork(None)

    def _fork(self, until: Turn | None) -> None:
        fork = self.workspace.fork(self.workspace.active, until)
        self.workspace.activate(fork)
        self._show_session()
        self.notify(
            f"{fork.name} begins like the tab before it: its prompts share blocks with that one's.", markup=False
        )

    def action_tokens(self) -> None:
        """Who wrote each token of the answers, or their text again."""
        self._transcript.action_tokens()

    def action_race(self) -> None:
        """This session and a fork of it, side by side."""
        session = self.workspace.active
        if self.workspace.answering(session) is not None:
            self.notify("This session is being answered: race when it is done, or stop it with Esc.")
            return
        fork = self.workspace.fork(session)
        self._show_tabs()
        self.app.push_screen(RaceScreen(self.workspace, session, fork, self._face, self.open_turn, self.block_map))

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
        text = turn.text if turn.is_question else self._words_of(turn.text)
        self.app.copy_to_clipboard(text)
        self.notify(f"Copied {len(text)} characters.")

    @staticmethod
    def _words_of(text: str) -> str:
        """What one wants of an answer: its words, or its thought where it came no further, or its calls as they are."""
        answer = taken_apart(text)
        return answer.text or ("" if answer.calls else answer.thought) or text

    def on_transcript_asked(self, event: Transcript.Asked) -> None:
        turn = event.turn
        match event.action:
            case "copy":
                self._copy(turn)
            case "edit" if turn.is_question:
                self._edit(turn)
            case "regenerate" if not turn.is_question:
                self._regenerate(turn)
            case "fork":
                self._fork(turn)
            case "open":
                self.open_turn(turn)
                self._transcript.reveal(turn)
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

        def save(result: Settings | None) -> None:
            if result is not None:
                self.workspace.set_params(session, result.params, result.system_prompt, result.priority)
                self.workspace.set_tools(session, result.tools, result.directory)
                self._meter.changed()
                self._transcript.sync()
                self.notify("Saved: from the next answer on.")

        self.app.push_screen(SettingsScreen(session, self.workspace.kit.default_directory), save)

    def action_tools(self) -> None:
        """All tools, what each does to the world, and what was allowed in this session."""
        self.app.push_screen(ToolsScreen(self.workspace, self.workspace.active))

    def action_toggle_tools(self) -> None:
        session = self.workspace.active
        self.workspace.set_tools(session, not session.tools.on, session.tools.directory)
        self._meter.changed()
        self._transcript.sync()
        where = f"on; files are looked for below {self.workspace.kit.directory(session)}" if session.tools.on else "off"
        self.notify(f"Tools are {where}. From the next message on.", markup=False)

    def action_unfold(self, refused: bool) -> None:
        self.workspace.unfold(self.workspace.active, refused=refused)
        self._meter.changed()
        self._transcript.sync()
        self.notify("Sent in full from the next message on." if refused else "Folded again when it gets long.")

    def action_dock(self) -> None:
        if self.app.size.width >= DOCK_COLUMNS:
            self.dock_beside = not self.dock_beside
            self.workspace.store.save_setting("dock", "on" if self.dock_beside else "off")
        elif not self.dock_instead and self.app.size.width < SMALL[0]:
            self.notify(f"The panels need {SMALL[0]} columns: this window has {self.app.size.width}.")
        else:
            self.dock_instead = not self.dock_instead

    def action_inspector(self) -> None:
        self.app.push_screen(
            InspectorScreen(
                self.workspace.watch,
                self.snapshot,
                self.block_map,
                self.event_log,
                self.story,
                model=self.model_name,
                clock=self._clock,
                pause=self.action_pause,
                run=self.run_engine,
                change_breakpoint=self._change_breakpoint,
                switches=self.action_switches,
            )
        )

    def action_switches(self) -> None:
        self.app.push_screen(
            SwitchesScreen(
                self.workspace.watch,
                self._change_option,
                self.restart_engine,
                self._effect,
                self._measure,
                self.workspace.measured,
                self._reopen_measurement,
            )
        )

    def _measure(self, name: str, value: Any, live: bool) -> str:
        """Compare a value of an option with the present one; or why that can't be done, as a sentence."""
        measurement = self.workspace.measure(name, value, live=live)
        if isinstance(measurement, str):
            return measurement
        self._show_measurement(measurement)
        return ""

    def _show_measurement(self, measurement: Measurement) -> None:
        self.app.push_screen(ExperimentScreen(measurement, self._change_option, lambda: self.workspace.watch.paused))

    def _reopen_measurement(self) -> bool:
        """Show the measurement that goes on, if there is one."""
        measurement = self.workspace.measurement
        if measurement is None or not measurement.running:
            return False
        self._show_measurement(measurement)
        return True

    def _change_option(self, name: str, value: Any) -> None:
        watch = self.workspace.watch
        self.workspace.give_up_measuring(name)
        self._before_change = {name: getattr(watch.config, name)}
        watch.request(**{name: value})
        if watch.ready:
            self.workspace.link.configure({name: value})
            self._last_change = (f"{name} = {in_words(value)}", self._clock())

    def _effect(self) -> str:
        """What the latest change did to the speed, as far as it can be said."""
        if self._last_change is None:
            return "After a change its numbers of before and after stand here; M measures one."
        what, when = self._last_change
        return self.telemetry.effect(what, when, self._clock())

    def action_pause(self) -> None:
        link, watch = self.workspace.link, self.workspace.watch
        if watch.ready and watch.paused:
            link.resume(Resume())
        elif watch.ready:
            link.pause()

    def action_step(self) -> None:
        self.run_engine(Resume(steps=1))

    def run_engine(self, command: Resume) -> None:
        """Let the engine go on as told; where it pauses, the engine line says so."""
        if self.workspace.watch.ready:
            self.workspace.link.resume(command)

    def _change_breakpoint(self, session: str) -> str:
        """Give a session its next breakpoint, in the order of the palette; says which one it then has."""
        points = next_breakpoint(session, self.workspace.breakpoints)
        self.workspace.set_breakpoints(points)
        own = [str(point) for point in points if point.session == session]
        return f"The engine pauses whenever {own[0]}." if own else f"No breakpoint for {session}."

    def action_record(self) -> None:
        """Begin a recording of the engine in the working directory, or end the one that runs."""
        watch = self.workspace.watch
        if not watch.ready:
            self.notify("The engine is not ready yet: record when it is.")
            return
        name = f"glasschat-{datetime.now():%Y%m%d-%H%M%S}.jsonl"
        self.workspace.link.record("" if watch.recording else str(Path(os.getcwd()) / name))

    def action_explain_prefix(self) -> None:
        """What the prefix cache had of this session's latest message, and why not more."""
        if self.workspace.watch.ready:
            self.workspace.link.explain_prefix(self.workspace.active.name)

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
