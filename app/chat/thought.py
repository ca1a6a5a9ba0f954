"""The thought before an answer: one line where it has one, else folded to a line that says how long it is.

While a long one is written its last rows are shown. Opened, it is there as a whole, as it was written. It only ever
grows at its end, and full rows are kept, so that the cost of an update does not grow with the thought.
"""

from __future__ import annotations

import re
from itertools import islice

from rich.cells import cell_len
from rich.segment import Segment
from textual.strip import Strip

from app.chat.blocks import READABLE
from app.chat.markdown import clean
from app.chat.rows import row_end
from app.paint import Styles, fit

SIGN, BAR = "∴ ", "▏ "
TAIL = 2
"""Rows that are shown of a long thought while it is written."""

_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Characters of writing without spaces: each counts as a word."""
_WORD = re.compile(rf"[{_ALONE}]|(?<![^\s{_ALONE}])[^\s{_ALONE}]")
"""The first character of every word."""


class ThoughtLines:
    """One thought at one width."""

    def __init__(self, styles: Styles, width: int) -> None:
        self._styles = styles
        self._width = max(8, min(width, READABLE) - len(SIGN))
        self._text = ""
        self._words = 0
        self._rows: list[Strip] = []
        """Those that can no longer change; the next one begins at `_next`."""
        self._next = 0
        self._drawn: tuple[tuple[int, bool, bool], list[Strip]] = ((-1, False, False), [])

    def add(self, text: str) -> None:
        """More of it."""
        before = len(self._text)
        self._text += clean(text).replace("\t", "    ")
        self._words += sum(1 for _ in _WORD.finditer(self._text, before))

    @property
    def is_short(self) -> bool:
        """Whether all of it is one row: there is nothing to open."""
        return len(self._text) <= 4 * self._width and "\n" not in self._text and cell_len(self._text) <= self._width

    def draw(self, *, ended: bool, opened: bool) -> list[Strip]:
        """Its lines. `ended`: nothing is added any more."""
        as_asked = (len(self._text), ended, opened)
        if self._drawn[0] != as_asked:
            self._drawn = (as_asked, self._lines(ended, opened))
        return self._drawn[1]

    def _lines(self, ended: bool, opened: bool) -> list[Strip]:
        if self.is_short:
            return [self._line(SIGN, self._text, "dim italic")]
        head = f"{'thought' if ended else 'thinking'} · {self._words:,} word{'s' * (self._words != 1)}"
        hint = " · Enter on the selected message opens it"
        if not opened and cell_len(head + hint) <= self._width:
            head += hint
        first = self._line(SIGN, fit(head, self._width).rstrip(), "dim")
        if opened:
            return [first, *self._all_rows()]
        if ended:
            return [first]
        written = (row for row in reversed(self._all_rows()) if row.cell_length > len(BAR))
        return [first, *list(islice(written, TAIL))[::-1]]

    def _all_rows(self) -> list[Strip]:
        rest = []
        while self._next < len(self._text):
            end, complete = row_end(self._text, self._next, self._width, cell_len)
            row = self._line(BAR, self._text[self._next : end].rstrip(), "dim italic")
            if not complete:
                rest.append(row)
                break
            self._rows.append(row)
            self._next = end
        return [*self._rows, *rest]

    def _line(self, sign: str, text: str, role: str) -> Strip:
        return Strip([Segment(sign, self._styles("dim")), Segment(text, self._styles(role))])
