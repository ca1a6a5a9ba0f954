"""What the panels are drawn with: bars, columns and small graphs made of characters; and the panel widget itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.geometry import Region
from textual.strip import Strip

from app.paint import Line, Painted
from app.panels.telemetry import Snapshot

PREFILL, DECODE, DRAFT = "▓", "▒", "▚"
USED, EMPTY = "■", "·"
_EIGHTHS = " ▁▂▃▄▅▆▇█"

Draw = Callable[[Snapshot, int, int], list[Line]]
"""A panel's contents for a width and a height in cells."""


def cells(value: float, most: float, width: int) -> int:
    """How many of `width` cells stand for `value`; at least one for anything above nothing."""
    if value <= 0 or most <= 0 or width <= 0:
        return 0
    return max(1, min(width, round(width * value / most)))


def number(value: float) -> str:
    """Three significant digits at most: 0.42, 8.5, 132, 12k."""
    if value >= 10_000:
        return f"{value / 1000:.0f}k"
    if value >= 100 or value == 0:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def graph(points: Sequence[float], width: int, height: int) -> list[str]:
    """The newest points as columns of eighths of a cell; the oldest on the left."""
    shown = list(points[-width:])
    shown = [0.0] * (width - len(shown)) + shown
    most = max(shown, default=0.0)
    levels = [0 if most <= 0 or p <= 0 else max(1, round(p / most * height * 8)) for p in shown]
    return ["".join(_EIGHTHS[max(0, min(8, level - row * 8))] for level in levels) for row in range(height - 1, -1, -1)]


class Panel(Painted):
    """A box with a title that shows one drawing and repaints only the lines that changed."""

    DEFAULT_CSS = """
    Panel {
        border: round $foreground 25%; padding: 0 1;
        border-title-color: $text-primary; border-title-style: bold; border-subtitle-color: $text-muted;
    }
    """

    def __init__(self, title: str, legend: str, draw: Draw, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.border_title, self.border_subtitle = title, legend
        self._draw = draw
        self._snapshot = Snapshot()
        self._lines: list[Line] = []
        self._drawn_for: tuple[int, int] | None = None

    def show(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        width, height = self.content_size
        if width <= 0 or height <= 0:
            return
        before, self._drawn_for = self._lines, (width, height)
        self._lines = self._draw(snapshot, width, height)[:height]
        changed = [
            y
            for y in range(max(len(before), len(self._lines)))
            if before[y : y + 1] != self._lines[y : y + 1]
        ]  # fmt: skip
        if changed:
            self.refresh(*[Region(0, y, width, 1) for y in changed])

    def render_line(self, y: int) -> Strip:
        width, height = self.content_size
        if self._drawn_for != (width, height):
            self._drawn_for = (width, height)
            self._lines = self._draw(self._snapshot, width, height)[:height]
        return self.strip_of(self._lines[y] if y < len(self._lines) else [], width)
