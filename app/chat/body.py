"""What stands between a turn's head and its foot: text as Markdown, and a card for each tool call, never its markup.

An answer is taken apart by the tools' own parser while it streams, so what is drawn as a call is exactly what would be
made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.strip import Strip

from app.chat import toolcard
from app.chat.markdown import MarkdownStream, render
from app.chat.toolcard import CallFace
from app.paint import Styles
from inference.tools.calls import Call
from inference.tools.markup import AnswerParser, CallBegan, CallRead, Piece, Text

NO_FACE = CallFace()


@dataclass(slots=True)
class _Words:
    stream: MarkdownStream
    text: str = ""


@dataclass(slots=True)
class _Card:
    index: int
    call: Call | None = None


class Body:
    """The lines of one text at one width. Grows with `update`; a complete text is drawn by a new one, as a whole."""

    def __init__(self, styles: Styles, width: int, *, calls: bool) -> None:
        """Without `calls` the text is all words: what a user wrote calls nothing."""
        self.width = width
        self.lines: list[Strip] = []
        self._styles = styles
        self._parser = AnswerParser() if calls else None
        self._seen = 0
        self._sections: list[_Words | _Card] = []
        self._faces: tuple[CallFace, ...] = ()

    def whole(self, text: str, faces: Sequence[CallFace]) -> None:
        """Draw a complete text."""
        parser = self._parser
        self._add([Text(text)] if parser is None else [*parser.feed(text), *parser.finish()])
        self._join([self._drawn(section, faces) for section in self._sections])

    def update(self, text: str, faces: tuple[CallFace, ...]) -> int:
        """Draw the text as it now stands; returns the first line that may look different."""
        before, known = self._sections[-1:], len(self._sections)
        settled = len(before[0].stream.settled) if before and isinstance(before[0], _Words) else 0
        tail = len(before[0].stream.lines) if before and isinstance(before[0], _Words) else 0
        start = len(self.lines) - tail
        new = text[self._seen :]
        self._add([Text(new)] if self._parser is None else self._parser.feed(new))
        self._seen = len(text)
        drawn = []
        for section in self._sections:
            if isinstance(section, _Words):
                section.stream.update(section.text)
                drawn.append(section.stream.lines)
            else:
                drawn.append(self._drawn(section, faces))
        same = known == len(self._sections) and faces == self._faces and bool(tail)
        self._join(drawn)
        self._faces = faces
        return start + settled if same else 0

    def _add(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            last = self._sections[-1] if self._sections else None
            match piece:
                case Text(text):
                    if not isinstance(last, _Words):
                        last = _Words(MarkdownStream(self._styles, self.width))
                        self._sections.append(last)
                    last.text += text
                case CallBegan(index):
                    self._sections.append(_Card(index))
                case CallRead(call):
                    assert isinstance(last, _Card)
                    last.call = call
                case _:
                    pass

    def _drawn(self, section: _Words | _Card, faces: Sequence[CallFace]) -> list[Strip]:
        if isinstance(section, _Words):
            return render(section.text, self._styles, self.width)
        face = faces[section.index] if section.index < len(faces) else NO_FACE
        return toolcard.draw(section.call, face, self._styles, self.width)

    def _join(self, parts: Sequence[list[Strip]]) -> None:
        self.lines = []
        for part in parts:
            if part:
                self.lines += [Strip([]), *part] if self.lines else part
