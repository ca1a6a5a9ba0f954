"""What is on the main screen and how it is kept up to date: tabs, engine line, transcript, dock, composer, key bar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import DescendantFocus, Resize
from textual.reactive import var
from textual.screen import Screen
from textual.widgets import Static

from app.chat import engineline
from app.chat.approval import ApprovalCard
from app.chat.callfaces import call_faces, with_fold
from app.chat.composer import Composer
from app.chat.engineline import EngineLine
from app.chat.keybar import KeyBar
from app.chat.message import Face, face
from app.chat.meter import ContextMeter
from app.chat.tabs import Tab, TabBar
from app.chat.transcript import Transcript
from app.inspector.blocks import BlockMap
from app.inspector.log import EventLog
from app.inspector.story import Story
from app.panels.dock import Dock
from app.panels.switches import SwitchesScreen
from app.panels.telemetry import RequestView, Snapshot, Telemetry
from app.sessions.session import Session, Turn, TurnState
from app.sessions.workspace import Changes, Workspace
from app.watch import Phase

POLL = 1 / 20
"""Seconds between two looks at the engine's events."""
PANELS = 1 / 5
"""Seconds between two drawings of the panels."""
DOCK_COLUMNS = 110
"""From this width on the dock stands beside the chat; below it, F2 shows it in the chat's place."""
SMALL = (60, 16)
"""Below this many columns or rows the key bar says that the window is too small for panels and forms."""


class ChatView(Screen[None]):
    """The screen without its keys."""

    AUTO_FOCUS = "#composer"

    dock_beside: var[bool] = var(True)
    dock_instead: var[bool] = var(False)

    def __init__(self, workspace: Workspace, model: str, clock: Callable[[], float]) -> None:
        super().__init__()
        self.workspace, self._clock = workspace, clock
        self._model = model
        self.telemetry = Telemetry()
        self.block_map, self.event_log, self.story = BlockMap(), EventLog(), Story()
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
        self._opened: set[str] = set()
        """Turns whose thought is shown as a whole, and whose tool calls with all that they had and gave."""
        self._panels_shown = 0.0

    def compose(self) -> ComposeResult:
        yield TabBar(id="tabs")
        yield EngineLine(id="engine")
        with Horizontal(id="body"):
            with Vertical(id="chat"):
                yield Transcript(self._face, id="transcript")
                yield Static("↓ more below: End follows the answer", id="more")
                yield ApprovalCard(id="approval")
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
        self._approval = self.query_one(ApprovalCard)
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
        calls = call_faces(self.workspace, turn, self._opened)
        progress = self._progress(turn) if turn.open else ""
        plain = face(turn, place, self.model_name, progress, calls, opened=turn.id in self._opened)
        return with_fold(plain, self.workspace, turn, self._opened)

    def open_turn(self, turn: Turn) -> None:
        """Show all of a turn's thought and tool calls, or less again."""
        self._opened ^= {turn.id}
        self._transcript.sync()

    def _progress(self, turn: Turn) -> str:
        """How an answer under way is coming on."""
        answer = self.workspace.answer_of(turn)
        if answer is None:
            return ""
        if not answer.sent:
            if not self.workspace.watch.ready:
                return "waiting for the engine"
            return self.workspace.compactor.doing(answer.session) or "waiting for the tools to be loaded"
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
            self.block_map.add(record)
            self.event_log.add(record)
            self.story.add(record)
        for event in changes.events:
            self.event_log.on_event(event)
        for finished in changes.finished:
            self.telemetry.finish(finished)
        for count in changes.counts:
            self._meter.counted(count)
        self._on_options(changes)
        if changes.engine:
            self._on_engine(changes)
        active = self.workspace.active
        self._stale |= active.id in changes.sessions or changes.engine or self.workspace.busy(active)
        if self._stale and now >= self._rest_until:
            # Whatever an update costs, three quarters of the time stay free for the keyboard.
            self._transcript.sync()
            self._stale, self._rest_until = False, now + 4 * (self._clock() - now)
        if changes.finished or changes.engine:
            self._meter.changed()
        self._meter.tick(active, self._composer.text)
        self._show_tabs()
        self._show_approval()
        self._show_meter()
        self._say_problem()
        for notice in changes.notices:
            self.notify(notice, markup=False)
        self._more.display = not self._transcript.follow

    def _on_engine(self, changes: Changes) -> None:
        watch = self.workspace.watch
        if watch.phase is Phase.READY and self.telemetry.snapshot(self._clock()).blocks.total != watch.num_kv_blocks:
            self.telemetry.engine_ready(watch.num_kv_blocks)
            self.block_map.engine_ready(watch.num_kv_blocks)
            self.story.forget()
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
        snapshot = self.snapshot(now)
        self._dock.show(snapshot)
        self._engine_line.show(engineline.draw(self.workspace.watch, snapshot, self.model_name, now, self.size.width))

    def snapshot(self, now: float) -> Snapshot:
        """What the steps told, and what waits without the engine's knowing or without a step."""
        paused = self.workspace.watch.paused
        why = "the engine is paused (F5)" if paused else "the next step"
        sent = [
            RequestView(a.command.request_id, a.session.name, "WAIT", a.turn.prompt_tokens, 0, 0, 0, why=why)
            for a in self.workspace.sent()
        ]
        resting = tuple((e.session.name, e.why()) for e in self.workspace.exchanges.all())
        measurement = self.workspace.measurement
        measuring = measurement.standing if measurement is not None and measurement.live and measurement.running else ""
        plain = replace(self.telemetry.snapshot(now), resting=resting, measuring=measuring, paused=paused)
        return plain.joined_by(sent)

    def _show_tabs(self) -> None:
        def mark(session: Session) -> str:
            turn = self.workspace.answering(session)
            if turn is not None:
                return "answering" if turn.state is TurnState.STREAMING else "waiting"
            if (exchange := self.workspace.exchanges.of(session)) is not None:
                return "asking" if exchange.asking is not None else "calling"
            return "unseen" if session.id in self.workspace.unseen else ""

        self._tabs.show(tuple(Tab(s.id, s.name, mark(s)) for s in self.workspace.sessions), self.workspace.active.id)

    def _show_approval(self) -> None:
        """The card of the session on screen, if a call of it waits for the user."""
        exchange = self.workspace.exchanges.of(self.workspace.active)
        asking = exchange.asking if exchange is not None else None
        had_focus = self.focused is self._approval
        height = self.query_one("#chat").size.height
        room = max(min(8, height), height - 4)
        if not self._approval.show(asking, room):
            return
        # Who is typing goes on typing: an Enter that was meant for the message must not answer.
        if asking is not None and not self._composer.text:
            self._approval.focus()
        elif asking is None and had_focus:
            self._composer.focus()

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
        self._meter.changed(wait=0)
        self._show_approval()
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
        self._small = f"small window ({width}x{height}): panels need {SMALL[0]}x{SMALL[1]}" if small else ""
        self._look_at_focus()
        self.call_after_refresh(self.show_panels)

    def _look_at_focus(self) -> None:
        focused = self.focused
        scope = "transcript" if isinstance(focused, Transcript) else "composer"
        if isinstance(focused, ApprovalCard):
            scope = "approval"
        self.query_one(KeyBar).look_at(scope, self._small)

    async def on_unmount(self) -> None:
        await self.workspace.close_tools()

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        self._look_at_focus()
