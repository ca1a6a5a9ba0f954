"""From sampled tokens to text that can be shown: whole characters only, and never a part of a stop string.

The text of an output is the bytes of its tokens read as UTF-8, with U+FFFD for bytes that can't be part of any
character. A character whose last bytes have not come yet is not text yet; if they never come it never is.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """The text of one output as it grows. How the bytes are cut into tokens never changes what comes out."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = tuple(stop)
        self._longest = max(map(len, self._stop), default=0)
        self._held = ""
        self.stopped = False
        """A stop string has come; the output ends before it, and nothing more is taken."""

    def push(self, data: bytes) -> str:
        """Take the bytes of the next token and return the text that is certain now."""
        if self.stopped:
            return ""
        text = self._held + self._decoder.decode(data)
        end = self._first_stop(text)
        if end is not None:
            self.stopped = True
            self._held = ""
            return text[:end]
        keep = self._possible_start(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The output ends without a stop string: return what was held back for one."""
        text, self._held = self._held, ""
        return text

    def _first_stop(self, text: str) -> int | None:
        """Where the text has to end: the start of the stop string that is complete first.

        First complete, not first begun: that is known as soon as it happens, whatever would have come after. Of two
        that end together the longer counts, so nothing of either is shown.
        """
        found = [(start + len(s), start) for s in self._stop if (start := text.find(s)) >= 0]
        return min(found)[1] if found else None

    def _possible_start(self, text: str) -> int:
        """Length of the longest end of the text with which a stop string may begin."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            tail = text[-length:]
            if any(s.startswith(tail) for s in self._stop):
                return length
        return 0
