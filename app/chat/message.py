"""One turn as lines on screen: a head, the text, and what is known about the answer below it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.cells import cell_len
from rich.segment import Segment
from textual.strip import Strip

from app.chat.blocks import READABLE
from app.chat.body import Body
from app.chat.toolcard import CallFace
from app.paint import Line, Styles
from app.sessions.export import statistics
from app.sessions.session import Turn, TurnState

NOTHING: tuple[int, bool, tuple[CallFace, ...], bool] = (-1, False, (), False)


@dataclass(frozen=True, slots=True)
class Face:
    """What stands around a turn's text. Two equal faces and texts look the same."""

    head: tuple[tuple[str, str], ...]
    foot: tuple[tuple[tuple[str, str], ...], ...]
    calls: tuple[CallFace, ...] = ()
    """Of the tool calls in the text, in their order."""
    opened: bool = False
    """All of a long thought is shown."""


def face(
    turn: Turn,
    place: tuple[int, int],
    model: str,
    progress: str,
    calls: tuple[CallFace, ...] = (),
    *,
    opened: bool = False,
) -> Face:
    """Head and foot of a turn, which is version `place[0]` of `place[1]`; `progress`: how an answer is coming on."""
    head: Line = [("You", "you")] if turn.is_question else [(model, "model")]
    version, versions = place
    if versions > 1:
        head.append((f" · version {version} of {versions} (← →)", "dim"))
    foot: list[tuple[tuple[str, str], ...]] = []
    if turn.open:
        foot.append(((progress, "dim"),))
    elif stats := statistics(turn):
        role = "bad" if turn.reason == "error" or turn.state is TurnState.INTERRUPTED else "dim"
        foot.append(((stats, role),))
    if turn.note:
        foot.append(((turn.note, "warn"),))
    return Face(tuple(head), tuple(foot), calls, opened)


class MessageView:
    """The lines of one turn at one width, drawn when they are first needed and kept until they change."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.face = Face((), ())
        self.lines: list[Strip] = []
        self.fresh = False
        """The lines are right for the turn as it is now and for the width last asked for."""
        self._body: Body | None = None
        self._shown = NOTHING
        """Length of the text that is drawn, whether it was drawn as a whole, the calls as they were, and whether it was
        opened."""
        self._width = 0

    @property
    def height(self) -> int:
        return len(self.lines)

    def can_open(self, line: int) -> bool:
        """Whether a line is part of a tool call or of a thought that shows more, or less, when it is opened."""
        return self._body is not None and any(line - 1 in fold for fold in self._body.folds)

    def look_at(self, face: Face) -> None:
        """Note whether the turn looks different now."""
        if face != self.face or self._shown[:2] != (len(self.turn.text), not self.turn.open):
            self.face, self.fresh = face, False

    def estimate(self, width: int) -> int:
        """About how many lines there will be, for a view that has not been drawn yet."""
        if self._width and self.lines:
            return max(2, len(self.lines) * self._width // max(1, width))
        text = self.turn.text
        return 3 + text.count("\n") + len(text) // max(1, min(width, READABLE))

    def draw(self, styles: Styles, width: int) -> int:
        """Bring the lines up to date; returns the first line that may look different now."""
        text, whole, calls, opened = self.turn.text, not self.turn.open, self.face.calls, self.face.opened
        body, changed = self._body, 0
        if body is None or body.width != width or self._shown[1] or whole:
            if whole and body is not None and body.width == width and self._shown == (len(text), True, calls, opened):
                changed = len(body.lines) + 1
            else:
                body = self._body = Body(styles, width, calls=not self.turn.is_question)
                if whole:
                    body.whole(text, calls, opened=opened)
                else:
                    body.update(text, calls, opened=opened)
        else:
            changed = body.update(text, calls, opened=opened) + 1
        foot = [strip for line in self.face.foot for strip in small_print(line, styles, width)]
        head = Strip([Segment(t, styles(role)) for t, role in self.face.head])
        if not self.lines or head != self.lines[0]:
            changed = 0
        self.lines = [head, *body.lines, *foot, Strip([])]
        self._shown, self._width, self.fresh = (len(text), whole, calls, opened), width, True
        return changed

    def restyle(self) -> None:
        """Forget what was drawn: the width or the colours changed."""
        self._body, self._shown, self.fresh = None, NOTHING, False


def small_print(line: Iterable[tuple[str, str]], styles: Styles, width: int) -> list[Strip]:
    """A line below an answer, broken between words where it is too long."""
    rows: list[list[Segment]] = [[]]
    room = width
    for text, role in line:
        for word in text.split(" "):
            length = cell_len(word) + 1
            if length > room and rows[-1]:
                rows.append([])
                room = width
            rows[-1].append(Segment(f"{word} ", styles(role)))
            room -= length
    return [Strip(row) for row in rows]
