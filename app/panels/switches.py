"""The switches: every engine option as asked for and as in force, and why they differ; each can be changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Resize
from textual.screen import ModalScreen
from textual.suggester import SuggestFromList
from textual.widgets import DataTable, Input, Static

from app.commands.options import parse
from app.paint import fit
from app.panels.kernels import REASON, KernelsScreen
from app.watch import EngineWatch
from inference.errors import ConfigError
from inference.live_experiment import refusal
from inference.protocol import EngineConfig, KernelState, in_words

WIDE = 108
"""Columns from which the table has room for the reasons."""
LEAST_ROWS, BESIDES = 8, 15
"""Rows of the table where the window is low, and rows of the window that are for all but the table."""
KERNELS = "kernels"
"""The option that has a list of its own."""


@dataclass(frozen=True, slots=True)
class Option:
    """One row."""

    name: str
    requested: str
    effective: str
    reason: str
    live: bool
    help: str
    choices: tuple[str, ...] = ()


def options(watch: EngineWatch) -> list[Option]:
    """Every field of `EngineConfig`: what is asked for, and what the engine last said about it."""
    states = {state.name: state for state in watch.options}
    rows = []
    for f in fields(EngineConfig):
        requested = in_words(getattr(watch.config, f.name))
        state = states.get(f.name)
        live = state.live if state is not None else bool(f.metadata["live"])
        if state is None:
            effective, reason = "-", "known when the engine is ready"
        else:
            effective, reason = state.effective, state.reason
            if watch.tried == f.name:
                reason = "being measured: this value and another in turn"
            elif requested != state.requested:
                reason = "the engine has not taken it over yet"
        about, choices = str(f.metadata["help"]), tuple(f.metadata["choices"])
        rows.append(Option(f.name, requested, effective, reason, live, about, choices))
    return rows


class SwitchesScreen(ModalScreen[None]):
    """The table of options. `change` asks for a new value; `restart` starts the engine with what is asked for."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back"),
        Binding("f8", "dismiss(None)", "Back"),
        Binding("f5", "restart", "Restart the engine"),
        Binding("m", "measure", "Measure a change"),
        Binding("l", "measure_live", "Measure with your chats"),
        Binding("o", "operations", "Each operation of kernels"),
        Binding("up", "choose(-1)", "Another choice"),
        Binding("down", "choose(1)", "Another choice"),
    ]

    def __init__(
        self,
        watch: EngineWatch,
        change: Callable[[str, Any], None],
        restart: Callable[[], None],
        effect: Callable[[], str],
        measure: Callable[[str, Any, bool], str],
        measured: Mapping[str, str],
        reopen: Callable[[], bool],
    ) -> None:
        """`measure` compares a value with the present one, with the chats' steps or on work of its own, or says why it
        can't; `measured` says what it found; `reopen` shows a measurement that goes on, if there is one."""
        super().__init__()
        self._watch, self._change, self._restart, self._effect = watch, change, restart, effect
        self._measure, self._measured, self._reopen = measure, measured, reopen
        self._purpose = "set"
        """What is to be done with the value that is typed: "set" it, "measure" it, or that "live"."""
        self._rows: list[Option] = []
        self._editing = ""
        self._error = ""

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title = "Switches: the engine's options"
            box.border_subtitle = "Enter change · M measure · L on your chats · F5 restart · Esc back"
            yield DataTable(cursor_type="row", zebra_stripes=True)
            yield Static(id="about")
            yield Input(id="value", compact=True)
            yield Static(id="effect")

    def on_mount(self) -> None:
        table = self.query_one(DataTable)
        table.add_column("option", key="option", width=24)
        table.add_column("requested", key="requested", width=10)
        table.add_column("effective", key="effective", width=10)
        table.add_column("when", key="when", width=8)
        self._columns = ["requested", "effective", "when"]
        if self.app.size.width >= WIDE:
            # Else the reason stands only below the table, for the row of the cursor.
            table.add_column("reason", key="reason", width=REASON)
            self._columns.append("reason")
        self.query_one("#value", Input).display = False
        self.refresh_options()
        self.set_interval(0.5, self.refresh_options)

    def on_resize(self, event: Resize) -> None:
        self.query_one(DataTable).styles.max_height = max(LEAST_ROWS, event.size.height - BESIDES)

    def on_screen_resume(self) -> None:
        # What was measured meanwhile stands here at once.
        if self._rows:
            self.refresh_options()

    def refresh_options(self) -> None:
        """Show the options as they now stand."""
        rows = options(self._watch)
        table = self.query_one(DataTable)
        if rows != self._rows:
            for index, row in enumerate(rows):
                cells = (
                    row.name,
                    row.requested,
                    row.effective,
                    "live" if row.live else "restart",
                    fit(row.reason, REASON),
                )
                if not self._rows:
                    table.add_row(*map(Content, cells[: len(self._columns) + 1]), key=row.name)
                    continue
                for column, value in zip(self._columns, cells[1:], strict=False):
                    if rows[index] != self._rows[index]:
                        table.update_cell(row.name, column, Content(value))
            self._rows = rows
        self._describe()

    def on_data_table_row_highlighted(self) -> None:
        self._error = ""
        self._describe()

    def _current(self) -> Option | None:
        index = self.query_one(DataTable).cursor_row
        return self._rows[index] if 0 <= index < len(self._rows) else None

    def _describe(self) -> None:
        row = self._current()
        if row is None:
            return
        about: list[str | tuple[str, str]] = [(row.name, "bold $text-primary"), f": {row.help}. "]
        about.append("Changes at the next step." if row.live else "Changes when the engine restarts.")
        if row.name in self._watch.since:
            about.append(f" In force since step {self._watch.since[row.name]}.")
        if row.name == KERNELS:
            about.append(" O shows each operation.")
        if row.reason:
            about += ["\n", (row.reason, "$text-warning")]
        if row.name in self._measured:
            about += ["\n", (f"Measured here: {self._measured[row.name]}", "$text-success")]
        if self._error:
            about += ["\n", (f"✗ {self._error}", "$text-error")]
        self.query_one("#about", Static).update(Content.assemble(*about))
        self.query_one("#effect", Static).update(Content(self._effect()))

    def action_operations(self) -> None:
        """What computes each, on the row of the option that says so."""
        row = self._current()
        if row is not None and row.name == KERNELS:
            self.app.push_screen(KernelsScreen(self._kernels))

    def _kernels(self) -> tuple[KernelState, ...]:
        return next((state.kernels for state in self._watch.options if state.name == KERNELS), ())

    def on_data_table_row_selected(self) -> None:
        self._ask("set")

    def action_measure(self) -> None:
        """What would another value do?"""
        self._ask("measure")

    def action_measure_live(self) -> None:
        """What would it do to the steps of the chats? Or how far that measurement is, if it goes on."""
        row = self._current()
        if row is None or self._reopen():
            return
        self._error = refusal(row.name)
        if not self._error:
            self._ask("live")
        self._describe()

    def _ask(self, purpose: str) -> None:
        """For the other value of the row, if there are more than two."""
        row = self._current()
        if row is None:
            return
        self._purpose = purpose
        if row.requested in ("on", "off"):
            self._apply(row.name, "off" if row.requested == "on" else "on")
            return
        self._editing = row.name
        field = self.query_one("#value", Input)
        field.display, field.value = True, row.requested
        field.placeholder = row.help
        # The right arrow completes what is typed, up and down go through all choices.
        field.suggester = SuggestFromList(row.choices) if row.choices else None
        field.focus()

    def action_choose(self, step: int) -> None:
        """The next of the choices into the field, for an option that has some."""
        field, row = self.query_one("#value", Input), self._current()
        if row is not None and row.choices and field.has_focus:
            at = row.choices.index(field.value) if field.value in row.choices else -step
            field.value = row.choices[(at + step) % len(row.choices)]
            field.cursor_position = len(field.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if self._apply(self._editing, event.value):
            self._leave_field()

    def _apply(self, name: str, text: str) -> bool:
        try:
            value = parse(name, text)
            self._error = ""
            if self._purpose == "set":
                self._change(name, value)
            else:
                self._error = self._measure(name, value, self._purpose == "live")
        except ConfigError as error:
            self._error = str(error)
        self.refresh_options()
        return not self._error

    def configured(self, error: str) -> None:
        """The engine has answered a change, with a sentence if it refused it."""
        self._error = error
        self.refresh_options()

    def _leave_field(self) -> None:
        self.query_one("#value", Input).display = False
        self.query_one(DataTable).focus()

    def action_back(self) -> None:
        """Out of the field, or out of the screen."""
        if self.query_one("#value", Input).display:
            self._error = ""
            self._leave_field()
            self._describe()
        else:
            self.dismiss(None)

    def action_restart(self) -> None:
        self._restart()
        self.refresh_options()
