"""The line under the tabs: what the engine is doing, in a few numbers."""

from __future__ import annotations

from textual.strip import Strip

from app.paint import Line, Painted, fit, line_text
from app.panels.draw import number
from app.panels.telemetry import Snapshot
from app.watch import EngineWatch, Phase

_MARKS = {
    Phase.LOADING: ("◌", "warn"),
    Phase.READY: ("●", "good"),
    Phase.SILENT: ("!", "warn bold"),
    Phase.DEAD: ("✗", "bad bold"),
    Phase.FAILED: ("✗", "bad bold"),
}


def draw(watch: EngineWatch, snapshot: Snapshot, model: str, now: float, width: int) -> Line:
    """The most telling pieces that fit, the least important left out first."""
    mark, role = _MARKS[watch.phase]
    state = "running" if watch.phase is Phase.READY and not snapshot.idle else str(watch.phase)
    if watch.phase is Phase.READY and watch.paused:
        mark, role, state = "‖", "warn bold", "paused"
    line: Line = [(f" {mark} {state}", role), (f"  {model}", "bold")]
    if watch.ready and (points := watch.breakpoints):
        line.append((f"  ◆ pauses if {points[0]}" if len(points) == 1 else f"  ◆ {len(points)} breakpoints", "warn"))
    if sentence := watch.sentence(now):
        used = len(line_text(line)) + 2
        line.append((f"  {fit(sentence, max(0, width - used)).rstrip()}", role.split()[0]))
    if not watch.ready:
        return line
    pieces = [("  ● recording", "bad")] if watch.recording else []
    pieces += [
        (f"  {number(snapshot.decode.now)} tok/s", "text"),
        (f"  KV {snapshot.kv_percent:.0f} %", "text"),
        (f"  {snapshot.running} running", "text"),
        (f" {snapshot.waiting} waiting", "text"),
        (f"  step {snapshot.step}", "dim"),
    ]
    if snapshot.measuring:
        pieces.insert(0, (f"  {snapshot.measuring}", "primary"))
    if snapshot.resting:
        pieces.insert(0, (f"  {len(snapshot.resting)} waiting for a tool", "warn"))
    for text, piece_role in pieces:
        if len(line_text(line)) + len(text) <= width:
            line.append((text, piece_role))
    return line


class EngineLine(Painted):
    DEFAULT_CSS = "EngineLine { height: 1; background: $surface; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._line: Line = []

    def show(self, line: Line) -> None:
        if line != self._line:
            self._line = line
            self.refresh()

    def render_line(self, y: int) -> Strip:
        return self.strip_of(self._line, self.size.width)
