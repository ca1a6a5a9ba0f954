"""Taking an answer apart while it streams: the thought that it may begin with, words, and tool calls in Qwen's format,
which Hermes had before.

For the thought see `thoughts`. A call is `<tool_call>`, a JSON object with "name" and "arguments", `</tool_call>`; text
may stand around it. The parser is one automaton over characters, so how the text was cut into deltas can't matter.

Markup is never given out as text: what may be the beginning of a marker is held back until it is known. A closing
marker inside a JSON string belongs to the string, so that a file which speaks of tool calls can be written. JSON allows
no line break within a string; where one stands there all the same, a quote was forgotten, and a marker that seemed to
be inside the string closes the call after all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from inference.tools.calls import MAX_CALL_CHARS, Call, read_call
from inference.tools.thoughts import ThoughtReader, held_back

OPEN, CLOSE = "<tool_call>", "</tool_call>"
RESPONSE, RESPONSE_END = "<tool_response>", "</tool_response>"
MARKERS = (OPEN, CLOSE, RESPONSE, RESPONSE_END)
MAX_CALLS = 16
"""In one answer; those beyond are refused."""

CUT_OFF = "the call was cut off before its end: write it again, completely"
MADE_UP = "The answer was cut where the model began to make up a tool's result."

_IN_TEXT = re.compile("|".join(map(re.escape, MARKERS)))
_IN_JSON = re.compile(f'"|{CLOSE}|{OPEN}')
_IN_STRING = re.compile(r'["\\\n]')


@dataclass(frozen=True, slots=True)
class Text:
    """Text to show, without markup."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """More of the thought before the answer. Comes before all other pieces."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegan:
    """A call is being written; until its `CallRead` there is nothing to show but that."""

    index: int


@dataclass(frozen=True, slots=True)
class CallRead:
    """A call is complete, or as complete as it will be."""

    call: Call


@dataclass(frozen=True, slots=True)
class MadeUp:
    """The model writes a tool's result itself. All from here on is dropped; the generation may be stopped."""

    at: int
    """How many characters of the answer came before."""


Piece = Thought | Text | CallBegan | CallRead | MadeUp


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, taken apart."""

    text: str
    """What a reader sees, but for the thought."""
    calls: tuple[Call, ...]
    kept: str
    """The answer as the model wrote it, up to where it began to make up results. It goes back into the next prompt as
    it is: then the prompt begins with the very tokens whose keys and values are cached."""
    made_up: bool = False
    thought: str = ""
    """What the model wrote for itself first; empty if there is nothing of the kind."""


class _Mode(Enum):
    TEXT = 0
    JSON = 1
    STRING = 2
    """Within a string of a call's JSON."""
    SKIP = 3
    """Within a call that is too long, up to its end."""
    DROPPED = 4
    """After the beginning of a made-up result: nothing counts any more."""


class AnswerParser:
    """Feed it deltas as they come, then `finish`. The pieces are the same for every cutting, if neighbouring `Text`s
    are joined, and neighbouring `Thought`s."""

    def __init__(self) -> None:
        self._thought = ThoughtReader()
        self._mode = _Mode.TEXT
        self._rest = ""
        """Not yet used: in text, what may become a marker; in a call, its body so far."""
        self._at = 0
        """In a call: how far `_rest` has been looked through."""
        self._string = 0
        """In a string: where it began."""
        self._consumed = 0
        self._calls = 0

    def feed(self, delta: str) -> list[Piece]:
        """What the next part of the answer adds."""
        if self._mode is _Mode.DROPPED:
            return []
        return self._behind(*self._thought.feed(delta))

    def finish(self) -> list[Piece]:
        """What is left when the answer is complete: text held back, and a call that was never closed."""
        pieces: list[Piece] = [] if self._mode is _Mode.DROPPED else self._behind(*self._thought.finish())
        while self._mode is _Mode.STRING and CLOSE in self._rest[self._string :]:
            self._close_in_string(pieces)
            while self._step(pieces):
                pass
        if self._mode is _Mode.TEXT and self._rest:
            pieces.append(Text(self._rest))
        elif self._mode in (_Mode.JSON, _Mode.STRING):
            self._read(self._rest, pieces, closed=False)
        self._mode, self._rest = _Mode.DROPPED, ""
        return pieces

    def _behind(self, thought: str, rest: str) -> list[Piece]:
        """Pieces of the thought, and of what is behind it."""
        pieces: list[Piece] = [Thought(thought)] if thought else []
        self._rest += rest
        while self._step(pieces):
            pass
        return pieces

    def _step(self, pieces: list[Piece]) -> bool:
        """Go on as far as is certain in one mode; False if that needs more text."""
        match self._mode:
            case _Mode.TEXT:
                return self._text(pieces)
            case _Mode.JSON:
                return self._json(pieces)
            case _Mode.STRING:
                return self._in_string(pieces)
            case _Mode.SKIP:
                return self._skip()
        return False

    def _text(self, pieces: list[Piece]) -> bool:
        found = _IN_TEXT.search(self._rest)
        shown = found.start() if found else len(self._rest) - held_back(self._rest, MARKERS)
        if shown:
            pieces.append(Text(self._rest[:shown]))
        if found is None:
            self._take(shown)
            return False
        if found[0] == RESPONSE:
            pieces.append(MadeUp(self._thought.before + self._consumed + shown))
            self._mode, self._rest = _Mode.DROPPED, ""
            return False
        self._take(found.end())
        if found[0] == OPEN:
            self._begin(pieces)
        return True  # a closing marker that closes nothing is dropped

    def _json(self, pieces: list[Piece]) -> bool:
        found = _IN_JSON.search(self._rest, self._at)
        self._at = found.start() if found else max(self._at, len(self._rest) - held_back(self._rest, (OPEN, CLOSE)))
        if self._at > MAX_CALL_CHARS:
            return self._give_up(pieces)
        if found is None:
            return False
        if found[0] == '"':
            self._mode, self._string, self._at = _Mode.STRING, found.end(), found.end()
            return True
        self._read(self._rest[: found.start()], pieces, closed=True)
        self._take(found.end())
        if found[0] == OPEN:  # the one before was never closed
            self._begin(pieces)
        return True

    def _in_string(self, pieces: list[Piece]) -> bool:
        found = _IN_STRING.search(self._rest, self._at)
        self._at = found.start() if found else len(self._rest)
        if self._at > MAX_CALL_CHARS:
            return self._give_up(pieces)
        if found is None:
            return False
        if found[0] == "\\":
            if found.end() == len(self._rest):
                return False  # what it escapes is still to come
            # A line break can't be escaped either: it is looked at again.
            self._at = found.end() + (self._rest[found.end()] != "\n")
        elif found[0] == '"':
            self._mode, self._at = _Mode.JSON, found.end()
        elif CLOSE in self._rest[self._string : found.start()]:
            self._close_in_string(pieces)
        else:
            self._mode, self._at = _Mode.JSON, found.end()
        return True

    def _skip(self) -> bool:
        end = self._rest.find(CLOSE)
        if end < 0:
            self._take(len(self._rest) - held_back(self._rest, (CLOSE,)))
            return False
        self._take(end + len(CLOSE))
        self._mode = _Mode.TEXT
        return True

    def _begin(self, pieces: list[Piece]) -> None:
        pieces.append(CallBegan(self._calls))
        self._mode, self._at = _Mode.JSON, 0

    def _close_in_string(self, pieces: list[Piece]) -> None:
        end = self._rest.index(CLOSE, self._string)
        self._read(self._rest[:end], pieces, closed=True)
        self._take(end + len(CLOSE))

    def _give_up(self, pieces: list[Piece]) -> bool:
        """The call is too long: say so, and look only for its end."""
        self._read(self._rest, pieces, closed=True)
        self._take(MAX_CALL_CHARS)
        self._mode = _Mode.SKIP
        return True

    def _read(self, body: str, pieces: list[Piece], *, closed: bool) -> None:
        index = self._calls
        self._calls += 1
        self._mode = _Mode.TEXT
        if index >= MAX_CALLS:
            call = Call(index, error=f"more than {MAX_CALLS} calls stand in one answer: make them in several rounds")
        else:
            call = read_call(body, index)
            if call.error and not closed:
                call = Call(index, error=CUT_OFF)
        pieces.append(CallRead(call))

    def _take(self, count: int) -> None:
        self._rest = self._rest[count:]
        self._consumed += count
        self._at = 0


def parse_answer(text: str) -> Answer:
    """A complete answer, taken apart."""
    parser = AnswerParser()
    pieces = [*parser.feed(text), *parser.finish()]
    made_up = next((piece.at for piece in pieces if isinstance(piece, MadeUp)), None)
    return Answer(
        "".join(piece.text for piece in pieces if isinstance(piece, Text)).strip(),
        tuple(piece.call for piece in pieces if isinstance(piece, CallRead)),
        text[:made_up].rstrip() if made_up is not None else text,
        made_up is not None,
        "".join(piece.text for piece in pieces if isinstance(piece, Thought)),
    )


_CONTROL = re.compile(r"<(?=\|[^<>|\s]{1,40}\|>|/?tool_(?:call|response)>|/?tools>)")


def quote_markers(text: str) -> str:
    """The text with a space in every control marker, so that no file can speak to the model as user or system.

    Tokenizers make one token of `<|im_end|>` wherever it stands, also in what a tool has read.
    """
    return _CONTROL.sub("< ", text)
