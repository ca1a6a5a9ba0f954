"""Whether a place in Markdown stands in code: between backticks of one line, or in a fence. What stands there is shown
and means nothing else, so an example of a tool call is no call."""

from __future__ import annotations

import re

_RUNS = re.compile(r"`+|~+|\n|[^`~\n]+")


class CodeMarks:
    """Feed it text as it comes; how it was cut can't matter.

    As CommonMark has it, but for two things that models do: code between single backticks ends with its line, so that
    one stray backtick changes no more than that; and a fence may open behind words.
    """

    def __init__(self) -> None:
        self.blank = True
        """Whether there is only white space so far in this line."""
        self._fence = ""
        """What opened the fence that stands open."""
        self._span = ""
        """What opened the code that stands open in this line."""
        self._run = ""
        """Backticks or tildes at the end; more of them may come."""
        self._closing = False
        """Whether this line is the end of the fence, if nothing else comes in it."""

    def feed(self, text: str) -> None:
        for piece in _RUNS.findall(text):
            if self._run and piece[0] == self._run[0]:
                self._run += piece
                continue
            self._settle()
            if piece[0] in "`~":
                self._run = piece
            elif piece == "\n":
                self._end_line()
            elif not piece.isspace():
                self.blank = self._closing = False

    @property
    def inside(self) -> bool:
        """Whether what comes next is code; it is to begin with another character than the text ended with."""
        self._settle()
        return bool(self._fence or self._span)

    def _settle(self) -> None:
        run, self._run = self._run, ""
        if not run:
            return
        if self._fence:
            self._closing = self.blank and run.startswith(self._fence)
        elif run[0] == "`":
            self._span = run if not self._span else "" if run == self._span else self._span
        elif self.blank and len(run) >= 3:
            self._fence = run
        self.blank = False

    def _end_line(self) -> None:
        if self._closing:
            self._fence = ""
        elif not self._fence and len(self._span) >= 3:
            self._fence = self._span
        self._span = ""
        self.blank, self._closing = True, False
