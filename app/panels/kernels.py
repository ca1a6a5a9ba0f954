"""What computes each operation of the model, how fast and how exact our own kernel for it is here, and why it is used
or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import DataTable, Static

from app.paint import fit
from inference.protocol import KernelState

REASON = 36
"""Cells for a reason in the table; the whole of it stands below for the row of the cursor."""


class KernelsScreen(ModalScreen[None]):
    """The operations, one to a row."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("o", "dismiss(None)", "Back"),
    ]

    def __init__(self, kernels: Callable[[], Sequence[KernelState]]) -> None:
        """`kernels` says what is in force now."""
        super().__init__()
        self._kernels = kernels
        self._rows: Sequence[KernelState] = ()

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title = "Kernels: what computes each operation"
            box.border_subtitle = "Esc back"
            yield DataTable(cursor_type="row", zebra_stripes=True)
            yield Static(id="about")

    def on_mount(self) -> None:
        table = self.query_one(DataTable)
        for name, width in (("operation", 16), ("in force", 9), ("× MLX", 6), ("error", 6), ("reason", REASON)):
            table.add_column(name, width=width)
        self.refresh_kernels()
        self.set_interval(0.5, self.refresh_kernels)

    def refresh_kernels(self) -> None:
        """Show them as they now stand."""
        rows = self._kernels()
        if rows == self._rows:
            return
        self._rows, table = rows, self.query_one(DataTable)
        at = table.cursor_row
        table.clear()
        for row in rows:
            table.add_row(*map(Content, cells(row)))
        table.move_cursor(row=at)
        self._describe()

    def on_data_table_row_highlighted(self) -> None:
        self._describe()

    def _describe(self) -> None:
        at = self.query_one(DataTable).cursor_row
        if 0 <= at < len(self._rows):
            row = self._rows[at]
            about = Content.assemble((row.operation, "bold $text-primary"), f": {row.implementation}. {row.reason}")
            self.query_one("#about", Static).update(about)


def cells(row: KernelState) -> tuple[str, ...]:
    """An operation's row of the table: how many times as fast as MLX's ours is, and how far from the reference."""
    ratio = f"{row.ratio:.1f}" if row.ratio else "-"
    error = "-" if row.error is None else f"{row.error:.0e}" if row.error else "exact"
    return row.operation, row.implementation, ratio, error, fit(row.reason, REASON)
