"""An answer in a terminal or a pipe as it comes: its words to standard output, and what the model thought before them,
dim, to standard error. The thought is shown only where both are a terminal: no pipe and no log gets it."""

from __future__ import annotations

import sys

DIM, PLAIN = "\x1b[2m", "\x1b[0m"


class Printer:
    """One answer's."""

    def __init__(self) -> None:
        self._shows_thought = sys.stdout.isatty() and sys.stderr.isatty()
        self._thinking = False
        self._last = ""

    @property
    def began(self) -> bool:
        """Whether some of the answer's words were printed."""
        return bool(self._last)

    def thought(self, text: str) -> None:
        if text and self._shows_thought:
            sign = "" if self._thinking else "∴ "
            print(f"{DIM}{sign}{text}{PLAIN}", end="", file=sys.stderr, flush=True)
            self._thinking = True

    def words(self, text: str) -> None:
        if text:
            self._end_thought()
            print(text, end="", flush=True)
            self._last = text

    def end(self) -> None:
        """The answer is complete: end its line."""
        self._end_thought()
        if self.began and not self._last.endswith("\n"):
            print(flush=True)

    def _end_thought(self) -> None:
        if self._thinking:
            print(file=sys.stderr, flush=True)
            self._thinking = False
