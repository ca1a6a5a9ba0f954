"""Before and after: the card that says what changing an option does, measured here and now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from app.measure import Measurement, Progress
from app.panels.draw import cells
from inference.experiment import CHANCE
from inference.protocol import in_words

BAR = 28


class ExperimentScreen(ModalScreen[None]):
    """Shows a measurement while it runs. Leaving it stops it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Stop, back"),
        Binding("k", "keep", "Keep the new value"),
    ]

    def __init__(self, measurement: Measurement, keep: Callable[[str, Any], None], paused: Callable[[], bool]) -> None:
        super().__init__()
        self._measurement, self._keep, self._paused = measurement, keep, paused

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title = f"Before and after: {self._measurement.option}"
            box.border_subtitle = "K keep the new value · Esc stop, back"
            yield Static(id="windows")
            yield Static(id="verdict")
            yield Static(id="about")

    def on_mount(self) -> None:
        self.query_one("#about", Static).update(
            Content.styled(
                f"A window is {self._measurement.experiment.load.about}. Windows of both kinds alternate in pairs "
                "(ABBA BAAB …), so that drift falls out. Your chats go on meanwhile; the option is put back "
                "afterwards.",
                "$text-muted",
            )
        )
        self.refresh_card()
        self.set_interval(0.25, self.refresh_card)

    def refresh_card(self) -> None:
        self.query_one("#windows", Static).update(self._windows())
        self.query_one("#verdict", Static).update(self._verdict())

    def _windows(self) -> Content:
        measurement, experiment = self._measurement, self._measurement.experiment
        done, total = len(experiment.seconds), len(experiment.windows)
        state = f"{done} of {total} windows" if measurement.running else f"{done} windows, {measurement.progress}"
        bar = "━" * cells(done, total, BAR)
        parts: list[str | tuple[str, str]] = [(bar.ljust(BAR, "·"), "$text-primary"), f"  {state}\n"]
        values = in_words(measurement.before), in_words(measurement.after)
        for name, after in (("A", False), ("B", True)):
            value = values[after].ljust(max(map(len, values)))
            counted = [w for w in experiment.windows if w.after is after and w.counted]
            windows = [w for w in counted if w.number in experiment.seconds]
            times = [experiment.seconds[w.number] for w in windows]
            if not times:
                parts.append(f"{name}  {value}\n")
                continue
            middle = sorted(times)[len(times) // 2]
            speed = f"{experiment.speed(windows):.0f} tok/s"
            spread = f"{min(times) * 1e3:.0f} to {max(times) * 1e3:.0f}"
            parts += [(f"{name}  {value}", "bold"), f"   {middle * 1e3:.0f} ms a window ({spread})   {speed}\n"]
        return Content.assemble(*parts).rstrip()

    def _verdict(self) -> Content:
        measurement = self._measurement
        if measurement.progress is Progress.FAILED:
            return Content.styled(f"✗ {measurement.problem}", "$text-error")
        if measurement.running and self._paused():
            return Content.styled("The engine is paused: F5 lets it go on.", "$text-warning")
        verdict = measurement.verdict
        if verdict is None:
            return Content.styled("The first pair is being measured.", "$text-muted")
        role = "$text-muted" if not verdict.significant else "$text-success" if verdict.ratio < 1 else "$text-warning"
        rest = (
            f"   B takes {verdict.ratio:.2f} times as long as A ({verdict.low:.2f} to {verdict.high:.2f} mostly)\n"
            f"Without an effect they would differ as much in {verdict.chance:.1%} of cases; below {CHANCE:.0%} counts."
        )
        return Content.assemble((verdict.sentence(), f"bold {role}"), rest)

    def action_keep(self) -> None:
        """The new value, from now on."""
        measurement = self._measurement
        measurement.stop()
        self._keep(measurement.option, measurement.after)
        self.dismiss(None)

    def action_back(self) -> None:
        self._measurement.stop()
        self.dismiss(None)
