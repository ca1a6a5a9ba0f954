"""Markdown that is drawn while it is still being written.

What can no longer change is *settled*: drawn once and kept as strips. Only the tail, from the start of the last block,
is parsed and drawn again with each piece of text, so the cost of an update does not grow with the answer. Once the
answer is complete it is drawn once more as a whole, which also resolves what only a whole text can: links defined
further down, and colours of a token that spans a piece of a long code block.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from textual.strip import Strip

from app.chat.blocks import BlockRenderer, Lines, closing, list_start
from app.paint import Styles

LONG_LIST = 600
"""Characters after which the finished items of an open list are settled."""
LONG_CODE = 48
"""Lines after which the first half of an open code block is settled."""

# Escape sequences and other controls must not reach the terminal, nor may direction overrides reorder the screen.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """The text without control characters; tabs and newlines stay."""
    return _CONTROLS.sub("", text)


@cache
def parser() -> MarkdownIt:
    """CommonMark with tables and strikethrough; HTML is shown as it is written."""
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def strips(lines: Lines) -> list[Strip]:
    return [Strip(line) for line in lines]


def render(source: str, styles: Styles, width: int) -> list[Strip]:
    """A whole text at once."""
    return strips(BlockRenderer(styles, width).render(parser().parse(clean(source))))


class MarkdownStream:
    """One text that grows, as strips for one width."""

    def __init__(self, styles: Styles, width: int) -> None:
        self.width = width
        self.settled: list[Strip] = []
        self.tail: list[Strip] = []
        self._renderer = BlockRenderer(styles, width)
        self._seen = 0
        self._source = ""
        self._start = 0
        """Where in the source the tail begins."""
        self._complete = 0
        """End of the last complete line that was looked at."""
        self._env: dict[str, Any] = {}
        self._number: int | None = None
        """If the tail goes on a list: the number of its first item (any number for bullets)."""
        self._open_fence = False
        """The tail goes on a code block; its source repeats the opening line."""
        self._fence_line = ""

    @property
    def lines(self) -> list[Strip]:
        return self.settled + self.tail

    def update(self, source: str) -> None:
        """Draw the text as it now stands. It begins with what was given before."""
        self._source += clean(source[self._seen :])
        self._seen = len(source)
        # An incomplete line may still turn into another kind of block, so it settles nothing.
        complete = self._source.rfind("\n") + 1
        if complete > self._complete:
            self._complete = complete
            self._settle(complete)
        tail = self._source[self._start :]
        self.tail = self._draw(self._parse(tail)) if tail.strip() else []

    def _parse(self, tail: str) -> list[Token]:
        return parser().parse(self._fence_line + tail, self._env)

    def _draw(self, tokens: list[Token]) -> list[Strip]:
        """Strips of the next piece, with the blank line that parts it from what stands above."""
        goes_on = self._number is not None or self._open_fence
        lines = self._renderer.render(tokens, first_number=self._number, bare_fence=self._open_fence)
        return strips([[], *lines] if self.settled and lines and not goes_on else lines)

    def _settle(self, complete: int) -> None:
        """Move what can't change any more from the tail to the settled strips."""
        source = self._source[self._start : complete]
        tokens = self._parse(source)
        starts = [i for i, t in enumerate(tokens) if t.level == 0 and t.nesting >= 0]
        if not starts:
            return
        last = starts[-1]
        if last > 0:
            self._take(tokens[:last], _line_of(tokens[last]), source)
            self._number, self._open_fence, self._fence_line = None, False, ""
            source = self._source[self._start : complete]
            tokens = self._parse(source)
        if tokens[0].type.endswith("list_open") and len(source) > LONG_LIST:
            self._settle_items(tokens, source)
        elif tokens[0].type == "fence" and source.count("\n") > LONG_CODE:
            self._settle_code(tokens[0], source)

    def _take(self, tokens: list[Token], line: int, source: str) -> None:
        """Settle these tokens; the tail begins at `line` of what was parsed."""
        self.settled += self._draw(tokens)
        if self._fence_line:
            line -= 1
        self._start += _offset_of_line(source, line)

    def _settle_items(self, tokens: list[Token], source: str) -> None:
        """Settle all but the last item of a list that is still open."""
        items = [i for i, t in enumerate(tokens) if t.type == "list_item_open" and t.level == 1]
        if len(items) < 2:
            return
        end = closing(tokens, 0)
        first = self._number if self._number is not None else list_start(tokens[0])
        self._take([*tokens[: items[-1]], tokens[end]], _line_of(tokens[items[-1]]), source)
        self._number = first + len(items) - 1

    def _settle_code(self, fence: Token, source: str) -> None:
        """Settle the first half of a code block that is still open."""
        half = LONG_CODE // 2
        content = fence.content.splitlines(keepends=True)
        if fence.map is None or fence.map[1] - fence.map[0] > len(content) + 1:
            # It has its closing line.
            return
        head = Token("fence", "code", 0, content="".join(content[:half]), info=fence.info, markup=fence.markup)
        self.settled += self._draw([head])
        if self._fence_line:
            self._start += _offset_of_line(source, half)
        else:
            opening = _offset_of_line(source, fence.map[0])
            self._fence_line = source[opening : _offset_of_line(source, fence.map[0] + 1)]
            self._start += opening + _offset_of_line(source[opening:], half + 1)
        self._open_fence, self._number = True, None


def _line_of(token: Token) -> int:
    return token.map[0] if token.map else 0


def _offset_of_line(source: str, line: int) -> int:
    at = 0
    for _ in range(line):
        at = source.index("\n", at) + 1
    return at
