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
    """Shows a measurement while it runs. Leaving it stops it, unless it measures what the chats ask for."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back"),
        Binding("x", "stop", "Stop"),
        Binding("k", "keep", "Keep the new value"),
    ]

    def __init__(self, measurement: Measurement, keep: Callable[[str, Any], None], paused: Callable[[], bool]) -> None:
        super().__init__()
        self._measurement, self._keep, self._paused = measurement, keep, paused

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title = f"Before and after: {self._measurement.option}"
            live = "X stop · Esc back, it goes on"
            box.border_subtitle = f"K keep the new value · {live if self._measurement.live else 'Esc stop, back'}"
            yield Static(id="windows")
            yield Static(id="verdict")
            yield Static(id="about")

    def on_mount(self) -> None:
        about = f"A window is {self._measurement.experiment.about}. "
        if self._measurement.live:
            about += (
                "A coin decides which value each pair of windows begins with, so that a load that changes favours "
                "neither. Go back and chat: answers are computed under either value meanwhile. It is put back "
                "afterwards."
            )
        else:
            about += (
                "Windows of both kinds alternate in pairs (ABBA BAAB …), so that drift falls out. Your chats go on "
                "meanwhile; the option is put back afterwards."
            )
        self.query_one("#about", Static).update(Content.styled(about, "$text-muted"))
        self.refresh_card()
        self.set_interval(0.25, self.refresh_card)

    def refresh_card(self) -> None:
        self.query_one("#windows", Static).update(self._windows())
        self.query_one("#verdict", Static).update(self._verdict())

    def _windows(self) -> Content:
        measurement, experiment = self._measurement, self._measurement.experiment
        done, total = experiment.windows_done, len(experiment.windows)
        state = f"{done} of {total} windows" if measurement.running else f"{done} windows, {measurement.progress}"
        bar = "━" * cells(done, total, BAR)
        parts: list[str | tuple[str, str]] = [(bar.ljust(BAR, "·"), "$text-primary"), f"  {state}\n"]
        values = in_words(measurement.before), in_words(measurement.after)
        for name, after in (("A", False), ("B", True)):
            value = values[after].ljust(max(map(len, values)))
            found = experiment.side(after=after)
            parts += [(f"{name}  {value}", "bold"), f"   {found}\n"] if found else [f"{name}  {value}\n"]
        return Content.assemble(*parts).rstrip()

    def _verdict(self) -> Content:
        measurement = self._measurement
        if measurement.progress is Progress.FAILED:
            return Content.styled(f"✗ {measurement.problem}", "$text-error")
        if measurement.running and self._paused():
            return Content.styled("The engine is paused: F5 lets it go on.", "$text-warning")
        verdict = measurement.verdict
        if verdict is None:
            waits = ": it takes the steps of your answers" if measurement.live else ""
            return Content.styled(f"The first pair is being measured{waits}.", "$text-muted")
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

    def action_stop(self) -> None:
        self._measurement.stop()
        self.refresh_card()

    def action_back(self) -> None:
        if not self._measurement.live:
            self._measurement.stop()
        self.dismiss(None)
