"""An answer's text token by token: who wrote each one, the draft model (or the text's own words) or the model itself.

The text is shown as it is, without Markdown, so that no token is hidden. It only ever grows at its end, so only the
last line is drawn again with each piece of text.
"""

from __future__ import annotations

from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from textual.strip import Strip

from app.chat.blocks import READABLE
from app.chat.markdown import clean
from app.chat.message import Face, MessageView, small_print
from app.chat.rows import row_end
from app.paint import Line, Styles
from app.sessions.session import Turn
from app.sessions.tokens import Tokens

NEWLINE, TAB, CONTROL = "⏎", "→   ", "·"
UNKNOWN = "Its tokens are not known: who wrote which is remembered only while glasschat runs."


@lru_cache(maxsize=4096)
def _shown(character: str) -> tuple[str, int]:
    """What stands for a character, and its cells. Every one is seen, or a token could be nowhere."""
    shown = {"\n": NEWLINE, "\t": TAB}.get(character) or clean(character) or CONTROL
    return shown, cell_len(shown)


def _cells(character: str) -> int:
    return _shown(character)[1]


class TokenText:
    """The lines of one text at one width. Neighbouring tokens differ in shade, drafted and sampled ones in colour."""

    def __init__(self, styles: Styles, width: int) -> None:
        self.width = width
        self.lines: list[Strip] = []
        self._room = max(2, min(width, READABLE)) - 1
        """Without the last cell, where the mark of a line's end has its place."""
        self._roles = [
            [styles(f"token-{kind}{shade}") for shade in ("", " token-other")] for kind in ("sampled", "drafted")
        ]
        self._given = styles("dim")
        self._settled = 0
        """Lines that can no longer change; the next one begins here:"""
        self._at = 0
        self._token = 0
        self._shade = 0

    def update(self, text: str, tokens: Tokens) -> int:
        """Draw a text that goes on from the one before, with its tokens; returns the first line that may be new."""
        first = self._settled
        del self.lines[first:]
        at, token, shade = self._at, self._token, self._shade
        while at < len(text):
            end, complete = row_end(text, at, self._room, _cells)
            segments: list[Segment] = []
            while at < end:
                while tokens.ends[token] <= at:
                    token += 1
                    shade ^= tokens.ends[token] > at
                given = at < tokens.begin
                upto = min(end, tokens.begin if given else tokens.ends[token])
                piece = "".join(_shown(c)[0] for c in text[at:upto])
                segments.append(Segment(piece, self._given if given else self._roles[tokens.drafted[token]][shade]))
                at = upto
            self.lines.append(Strip(segments))
            if complete:
                self._settled += 1
                self._at, self._token, self._shade = at, token, shade
        return first


def legend(tokens: Tokens) -> Line:
    """What the colours mean, with how many tokens there are of each."""
    drafted = sum(tokens.drafted)
    count = f"{len(tokens)} token{'s' * (len(tokens) != 1)}"
    if tokens.begin:
        count += " · the grey beginning is the chat template's"
    return [
        (f"{drafted} drafted and accepted", "token-drafted"),
        (f" {len(tokens) - drafted} sampled by the model", "token-sampled"),
        (f" · {count}", "dim"),
    ]


class TokenView(MessageView):
    """The lines of an answer by token; as ever, with a word about it, where its tokens are not known."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(turn)
        self._by_token: TokenText | None = None
        self._seen = (0, 0, False)

    @property
    def _now(self) -> tuple[int, int, bool]:
        return len(self.turn.text), len(self.turn.tokens), self.turn.open

    def can_open(self, line: int) -> bool:
        return not self.turn.tokens.known(self.turn.text) and super().can_open(line)

    def look_at(self, face: Face) -> None:
        if not self.turn.tokens.known(self.turn.text):
            super().look_at(face)
        elif face != self.face or self._seen != self._now:
            self.face, self.fresh = face, False

    def draw(self, styles: Styles, width: int) -> int:
        turn = self.turn
        self._seen = self._now
        if not turn.tokens.known(turn.text):
            changed = super().draw(styles, width)
            if turn.text:
                self.lines[-1:-1] = small_print([(UNKNOWN, "warn")], styles, width)
            return changed
        before = self.lines[:1]
        if self._by_token is None or self._by_token.width != width:
            self._by_token, before = TokenText(styles, width), []
        changed = self._by_token.update(turn.text, turn.tokens) + 1
        head = Strip([Segment(text, styles(role)) for text, role in self.face.head])
        foot = [legend(turn.tokens), *self.face.foot]
        below = [strip for line in foot for strip in small_print(line, styles, width)]
        self.lines = [head, *self._by_token.lines, *below, Strip([])]
        self._width, self.fresh = width, True
        return changed if before == [head] else 0

    def restyle(self) -> None:
        super().restyle()
        self._by_token = None
