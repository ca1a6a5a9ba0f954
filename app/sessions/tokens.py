"""Which part of an answer's text each of its tokens gave, and whether it was drafted. Kept only while the app runs."""

from __future__ import annotations

from array import array
from collections.abc import Sequence


class Tokens:
    """A token's text reaches from the end of the one before it to its own end; it may be empty.

    Text that was held back, because a stop string might have begun or a character was not complete, belongs to the
    token with which it came.
    """

    begin: int
    """Where the first one's text begins: what comes before, the chat template wrote."""

    def __init__(self) -> None:
        self.begin = 0
        self._ends = array("L")
        self._drafted = bytearray()

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, count: int, end: int, *, drafted: bool) -> None:
        """So many tokens came, and with the first of them the text as far as `end`.

        With none, the text is the last one's; before the first one, nobody's.
        """
        if not count and self._ends:
            self._ends[-1] = end
        elif not count:
            self.begin = end
        for _ in range(count):
            self._ends.append(end)
            self._drafted.append(drafted)

    def copy(self) -> Tokens:
        copy = Tokens()
        copy.begin, copy._ends, copy._drafted = self.begin, self._ends[:], self._drafted[:]
        return copy

    @property
    def ends(self) -> Sequence[int]:
        return self._ends

    @property
    def drafted(self) -> Sequence[int]:
        """1 for each token that was drafted and accepted, 0 for one that was sampled as ever."""
        return self._drafted

    def known(self, text: str) -> bool:
        """Whether they are all the tokens of a text."""
        return bool(self._ends) and self._ends[-1] == len(text)
