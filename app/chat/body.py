"""What stands between a turn's head and its foot: the thought before an answer, text as Markdown, and a card for each
tool call, never their markup.

An answer is taken apart by the tools' own parser while it streams, so what is drawn as a call is exactly what would be
made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.strip import Strip

from app.chat import toolcard
from app.chat.markdown import MarkdownStream, render
from app.chat.thought import ThoughtLines
from app.chat.toolcard import CallFace
from app.paint import Styles
from inference.tools.calls import Call
from inference.tools.markup import AnswerParser, CallBegan, CallRead, Piece, Text, Thought

NO_FACE = CallFace()


@dataclass(slots=True)
class _Words:
    stream: MarkdownStream
    text: str = ""


@dataclass(slots=True)
class _Card:
    index: int
    call: Call | None = None


_Section = _Words | _Card | ThoughtLines


class Body:
    """The lines of one text at one width. Grows with `update`; a complete text is drawn by a new one, as a whole."""

    def __init__(self, styles: Styles, width: int, *, calls: bool) -> None:
        """Without `calls` the text is all words: what a user wrote calls nothing, and is no thought."""
        self.width = width
        self.lines: list[Strip] = []
        self.folds: list[range] = []
        """Lines of what can be opened: tool calls and a long thought."""
        self._styles = styles
        self._parser = AnswerParser() if calls else None
        self._seen = 0
        self._sections: list[_Section] = []
        self._faces: tuple[tuple[CallFace, ...], bool] = ((), False)

    def whole(self, text: str, faces: Sequence[CallFace], *, opened: bool = False) -> None:
        """Draw a complete text; if it is `opened`, with all of its thought."""
        parser = self._parser
        self._add([Text(text)] if parser is None else [*parser.feed(text), *parser.finish()])
        self._join([self._drawn(section, faces, ended=True, opened=opened) for section in self._sections])

    def update(self, text: str, faces: tuple[CallFace, ...], *, opened: bool = False) -> int:
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
                ended = section is not self._sections[-1]
                drawn.append(self._drawn(section, faces, ended=ended, opened=opened))
        same = known == len(self._sections) and (faces, opened) == self._faces and bool(tail)
        self._join(drawn)
        self._faces = faces, opened
        return start + settled if same else 0

    def _add(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            last = self._sections[-1] if self._sections else None
            match piece:
                case Thought(text):
                    if not isinstance(last, ThoughtLines):
                        last = ThoughtLines(self._styles, self.width)
                        self._sections.append(last)
                    last.add(text)
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

    def _drawn(self, section: _Section, faces: Sequence[CallFace], *, ended: bool, opened: bool) -> list[Strip]:
        if isinstance(section, _Words):
            return render(section.text, self._styles, self.width)
        if isinstance(section, ThoughtLines):
            return section.draw(ended=ended, opened=opened)
        face = faces[section.index] if section.index < len(faces) else NO_FACE
        return toolcard.draw(section.call, face, self._styles, self.width)

    def _join(self, parts: Sequence[list[Strip]]) -> None:
        """Put the sections below each other, with a blank line between; a thought of one line needs none."""
        self.lines, self.folds = [], []
        close = True
        for section, part in zip(self._sections, parts, strict=True):
            if not part:
                continue
            self.lines += part if close else [Strip([]), *part]
            is_thought = isinstance(section, ThoughtLines)
            close = is_thought and len(part) == 1
            if isinstance(section, _Card) or (isinstance(section, ThoughtLines) and not section.is_short):
                self.folds.append(range(len(self.lines) - len(part), len(self.lines)))
