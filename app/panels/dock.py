"""The dock: the four panels, in one column beside the chat or in two columns in its place."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container

from app.panels import batch, kv, requests, speed
from app.panels.draw import Panel
from app.panels.telemetry import Snapshot


class Dock(Container):
    DEFAULT_CSS = """
    Dock {
        width: 52; height: 1fr; layout: grid;
        grid-size: 1 4; grid-rows: 8 1fr 1fr 9; grid-columns: 1fr;
        &.instead { width: 1fr; grid-size: 2 2; grid-rows: 1fr 1fr; grid-columns: 1fr 34; }
        &.tall { grid-rows: 10 1fr 1fr 15; }
    }
    """

    def compose(self) -> ComposeResult:
        yield Panel(kv.TITLE, kv.LEGEND, kv.draw, id="kv")
        yield Panel(batch.TITLE, batch.LEGEND, batch.draw, id="batch")
        yield Panel(requests.TITLE, requests.LEGEND, requests.draw, id="requests")
        yield Panel(speed.TITLE, speed.LEGEND, speed.draw, id="speed")

    def on_mount(self) -> None:
        self._panels = list(self.query(Panel))

    def show(self, snapshot: Snapshot) -> None:
        if self.display:
            for panel in self._panels:
                panel.show(snapshot)
