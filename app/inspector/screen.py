"""The inspector: the whole window for the engine. The pool block by block, who got what and why, times, events."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.events import Click, Resize
from textual.screen import Screen
from textual.strip import Strip
from textual.widgets import Static

from app.chat import engineline
from app.chat.engineline import EngineLine
from app.inspector import blocks, phases, queue
from app.inspector.blocks import CACHED, FREE, BlockMap
from app.inspector.log import LEGEND as LOG_LEGEND
from app.inspector.log import TITLE as LOG_TITLE
from app.inspector.log import EventLog
from app.inspector.story import Story
from app.paint import Line, Painted
from app.panels import batch, drafts, speed
from app.panels.draw import Panel
from app.panels.telemetry import Snapshot
from app.watch import EngineWatch
from inference.protocol import Resume

PERIOD = 1 / 5
"""Seconds between two drawings."""
WIDE = 110
"""Columns from which all panels stand side by side."""


class Map(Painted, can_focus=True):
    """The block map, with a cursor that the arrow keys and the mouse move."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", "Block"),
        Binding("right", "move(1)", "Block"),
        Binding("up", "row(-1)", "Row"),
        Binding("down", "row(1)", "Row"),
        Binding("pageup", "page(-1)", "Page"),
        Binding("pagedown", "page(1)", "Page"),
    ]
    DEFAULT_CSS = """
    Map {
        border: round $foreground 25%; padding: 0 1;
        border-title-color: $text-primary; border-title-style: bold; border-subtitle-color: $text-muted;
        &:focus { border: round $primary; }
    }
    """

    def __init__(self, map: BlockMap, moved: Callable[[], None]) -> None:
        super().__init__()
        self.border_title = "KV blocks"
        self.border_subtitle = f"a its own  A shared  {CACHED} cached  {FREE} free"
        self._map, self._moved = map, moved
        self.cursor = 0
        self.only = ""
        """The session whose blocks are shown; empty for all."""
        self._first_row = 0
        self._lines: list[Line] = []

    def show(self) -> None:
        """Draw the map as it is now."""
        width, height = self.content_size
        if width <= 0 or height <= 0:
            return
        row = self.cursor // blocks.per_row(width)
        self._first_row = min(max(self._first_row, row - height + 1), row)
        cursor = self.cursor if self.has_focus else -1
        lines = blocks.draw(self._map, cursor, self._first_row, width, height, self.only)
        if lines != self._lines:
            self._lines = lines
            self.refresh()

    def render_line(self, y: int) -> Strip:
        return self.strip_of(self._lines[y] if y < len(self._lines) else [], self.content_size.width)

    def action_move(self, step: int) -> None:
        self._go(self.cursor + step)

    def action_row(self, step: int) -> None:
        self._go(self.cursor + step * blocks.per_row(self.content_size.width))

    def action_page(self, step: int) -> None:
        self._go(self.cursor + step * blocks.per_row(self.content_size.width) * self.content_size.height)

    def on_click(self, event: Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or offset.x < blocks.NUMBER:
            return
        across, place = blocks.per_row(self.content_size.width), offset.x - blocks.NUMBER
        column = place // (blocks.GROUP + 1) * blocks.GROUP + place % (blocks.GROUP + 1)
        if column < across and place % (blocks.GROUP + 1) < blocks.GROUP:
            self._go((self._first_row + offset.y) * across + column)

    def _go(self, block: int) -> None:
        self.cursor = max(0, min(block, self._map.total - 1))
        self.show()
        self._moved()


class InspectorScreen(Screen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f3", "dismiss(None)", "Back"),
        Binding("f5", "pause", "Pause"),
        Binding("f6", "step", "Step"),
        Binding("f8", "switches", "Switches"),
        Binding("s", "session(1)", "Session"),
        Binding("a", "all", "All sessions"),
        Binding("b", "breakpoint", "Breakpoint"),
        Binding("d", "drafts", "Drafts"),
    ]
    AUTO_FOCUS = "Map"
    CSS = """
    InspectorScreen #panels { height: 1fr; }
    InspectorScreen #left { width: 1fr; }
    InspectorScreen #right { width: 56; }
    InspectorScreen Map, InspectorScreen #queue, InspectorScreen #log { height: 1fr; }
    InspectorScreen #block { height: 10; }
    InspectorScreen #drafts { height: 11; }
    InspectorScreen .drafts Map, InspectorScreen .drafts #block { display: none; }
    InspectorScreen .drafts #drafts { height: 1fr; }
    InspectorScreen #phases { height: 8; }
    InspectorScreen #batch { height: 10; }
    InspectorScreen #speed { height: 6; }
    InspectorScreen .one #speed { display: none; }
    InspectorScreen .narrow #right { width: 36; }
    InspectorScreen .narrow #block { height: 8; }
    InspectorScreen .narrow #log, InspectorScreen .narrow #batch, InspectorScreen .narrow #speed { display: none; }
    InspectorScreen .narrow #drafts { display: none; }
    InspectorScreen .narrow.drafts #drafts { display: block; }
    InspectorScreen #hint { height: 1; padding: 0 1; color: $text-muted; }
    """

    def __init__(
        self,
        watch: EngineWatch,
        snapshot: Callable[[float], Snapshot],
        map: BlockMap,
        log: EventLog,
        story: Story,
        *,
        model: str,
        clock: Callable[[], float],
        pause: Callable[[], None],
        run: Callable[[Resume], None],
        change_breakpoint: Callable[[str], str],
        switches: Callable[[], None],
    ) -> None:
        """`change_breakpoint` gives a session its next breakpoint, and says which one that is."""
        super().__init__()
        self._watch, self._snapshot, self._map, self._log, self._story = watch, snapshot, map, log, story
        self._model, self._clock, self._pause, self._run = model, clock, pause, run
        self._change_breakpoint, self._switches = change_breakpoint, switches

    def compose(self) -> ComposeResult:
        yield EngineLine(id="engine")
        with Horizontal(id="panels"):
            with Vertical(id="left"):
                yield Map(self._map, self.show)
                yield Panel("Block", "under the cursor", self._describe, id="block")
                yield Panel(drafts.TITLE, drafts.LEGEND, self._drafts, id="drafts")
            with Vertical(id="right"):
                yield Panel(queue.TITLE, queue.LEGEND, self._requests, id="queue")
                yield Panel(batch.TITLE, batch.LEGEND, batch.draw, id="batch")
                yield Panel(speed.TITLE, speed.LEGEND, speed.draw, id="speed")
                yield Panel(phases.TITLE, phases.LEGEND, phases.draw, id="phases")
                yield Panel(LOG_TITLE, LOG_LEGEND, self._log.draw, id="log")
        yield Static(
            "Arrows block  S session  A all  B break  D drafts  F5 pause F6 step F8 switch",
            id="hint",
        )

    def on_mount(self) -> None:
        self._block_map = self.query_one(Map)
        self._panels = list(self.query(Panel))
        self._line = self.query_one(EngineLine)
        self._arrange()
        self.set_interval(PERIOD, self.show)

    def on_resize(self, event: Resize) -> None:
        self._arrange()

    def _arrange(self) -> None:
        self.query_one("#panels").set_class(self.app.size.width < WIDE, "narrow")
        self.call_after_refresh(self.show)

    def show(self) -> None:
        """Draw everything as it is now."""
        now = self._clock()
        snapshot = self._snapshot(now)
        self._block_map.show()
        for panel in self._panels:
            if panel.display:
                panel.show(snapshot)
        self._line.show(engineline.draw(self._watch, snapshot, self._model, now, self.size.width))

    def _describe(self, snapshot: object, width: int, height: int) -> list[Line]:
        return blocks.describe(self._map, self._block_map.cursor, width, height)

    def _drafts(self, snapshot: Snapshot, width: int, height: int) -> list[Line]:
        return drafts.draw(snapshot, self._watch.options, width, height)

    def _requests(self, snapshot: Snapshot, width: int, height: int) -> list[Line]:
        """All live requests, or all about one session's."""
        if self._block_map.only:
            return self._story.draw(self._block_map.only, self._map, width, height)
        return queue.draw(snapshot, width, height)

    def action_session(self, step: int) -> None:
        """From session to session: its request, its blocks, its steps; after the last one all again."""
        sessions = ["", *self._story.sessions]
        at = sessions.index(self._block_map.only) if self._block_map.only in sessions else 0
        self._look_at(sessions[(at + step) % len(sessions)])

    def action_all(self) -> None:
        self._look_at("")

    def _look_at(self, session: str) -> None:
        self._block_map.only = session
        # Its steps need the room.
        self.query_one("#panels").set_class(bool(session), "one")
        panel = self.query_one("#queue", Panel)
        panel.border_title = "Request, blocks, steps" if session else queue.TITLE
        panel.border_subtitle = "the latest step first" if session else queue.LEGEND
        self.call_after_refresh(self.show)

    def action_breakpoint(self) -> None:
        """The next one for the session that is looked at: scheduled, preempted, ended, none."""
        session = self._block_map.only
        self.notify(
            self._change_breakpoint(session) if session else "S chooses the session to pause for.", markup=False
        )

    def action_drafts(self) -> None:
        """Speculative decoding in the place of the blocks, and the blocks back."""
        panels = self.query_one("#panels")
        panels.toggle_class("drafts")
        if not panels.has_class("drafts"):
            self._block_map.focus()
        self.call_after_refresh(self.show)

    def action_pause(self) -> None:
        self._pause()

    def action_step(self) -> None:
        self._run(Resume(steps=1))

    def action_switches(self) -> None:
        self._switches()
