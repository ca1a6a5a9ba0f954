"""Taking an answer apart while it streams: the thought that it may begin with, words, and tool calls in Qwen's format,
which Hermes had before.

For the thought see `thoughts`. A call is `<tool_call>`, a JSON object with "name" and "arguments", `</tool_call>`; text
may stand around it. The parser is one automaton over characters, so how the text was cut into deltas can't matter.

A marker opens a call if an object follows, or if it has a line to itself: then something was meant to be a call, and
the model hears what is wrong with it. Else it is a word, as in "the marker <tool_call> opens a call", and so is all in
code (`code_marks`): an example is no call. Markup of calls is never given out as text: what may be the beginning of a
marker, or a marker of which it isn't known yet whether it opens a call, is held back.

A closing marker inside a JSON string belongs to the string, so that a file which speaks of tool calls can be written.
If what stands around a string can't be JSON, a quote was forgotten or one too many: the call is broken, and ends at the
first closing marker behind the place. What was meant to be inside of it may hold more of them; so words behind a broken
call are held back until something else than a closing marker follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from inference.tools.calls import MAX_CALL_CHARS, Call, read_call
from inference.tools.code_marks import CodeMarks
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
_IN_STRING = re.compile(r'["\\]')
_BEHIND_BROKEN = re.compile(f"{CLOSE}|{OPEN}|{RESPONSE}")
_OBJECT = re.compile(r"\s*\{")
_ON_ITS_LINE = re.compile(rf"[^\S\n]*(?:\n|{'|'.join(map(re.escape, MARKERS))})")
"""What follows a marker that has a line to itself, or has another one directly behind it."""


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
    BROKEN = 3
    """Within a call that can't be JSON any more, up to its end."""
    SKIP = 4
    """Within a call that is too long, up to its end."""
    BEHIND = 5
    """Behind a broken call: words, or still a part of it."""
    DROPPED = 6
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
        """In a call: where its last string began."""
        self._gap = 0
        """In a call: where its last string ended."""
        self._consumed = 0
        self._calls = 0
        self._code = CodeMarks()
        self._spoken = False
        """Whether an opening marker was taken for a word; then a closing one that closes nothing is one as well."""

    def feed(self, delta: str) -> list[Piece]:
        """What the next part of the answer adds."""
        if self._mode is _Mode.DROPPED:
            return []
        return self._behind(*self._thought.feed(delta))

    def finish(self) -> list[Piece]:
        """What is left when the answer is complete: text held back, and a call that was never closed."""
        pieces: list[Piece] = [] if self._mode is _Mode.DROPPED else self._behind(*self._thought.finish())
        while self._last(pieces):
            while self._step(pieces):
                pass
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
            case _Mode.BROKEN:
                return self._broken(pieces)
            case _Mode.SKIP:
                return self._skip()
            case _Mode.BEHIND:
                return self._behind_broken()
        return False

    def _last(self, pieces: list[Piece]) -> bool:
        """What is left at the end of the answer; True if there may be more behind it."""
        match self._mode:
            case _Mode.BEHIND:
                self._mode, self._at = _Mode.TEXT, 0
                return True
            case _Mode.JSON | _Mode.STRING if self._swallowed():
                self._close(self._rest.index(CLOSE, self._string), pieces)
                self._take(len(CLOSE))
                return True
            case _Mode.JSON | _Mode.STRING | _Mode.BROKEN:
                self._read(self._rest, pieces, closed=False)
            case _Mode.TEXT if self._rest.startswith(OPEN) and not self._code.inside and self._code.blank:
                self._begin(pieces)
                self._read("", pieces, closed=False)
            case _Mode.TEXT if self._rest:
                pieces.append(Text(self._rest))
        return False

    def _swallowed(self) -> bool:
        """Whether a quote was forgotten, so that the marker which closes the call only seems to be in a string."""
        behind = "" if self._mode is _Mode.STRING else self._rest[self._gap :].strip()
        goes_on = self._mode is _Mode.JSON and behind[:1] in ("", ",", ":", "]", "}")
        return not goes_on and CLOSE in self._rest[self._string :]

    def _text(self, pieces: list[Piece]) -> bool:
        found = _IN_TEXT.search(self._rest)
        self._words(found.start() if found else len(self._rest) - held_back(self._rest, MARKERS), pieces)
        if found is None:
            return False
        marker = found[0]
        if self._code.inside or (marker == CLOSE and self._spoken):
            self._words(len(marker), pieces)
        elif marker == OPEN:
            return self._open(pieces)
        elif marker == RESPONSE:
            pieces.append(MadeUp(self._thought.before + self._consumed))
            self._mode, self._rest = _Mode.DROPPED, ""
            return False
        else:
            self._take(len(marker))  # it closes nothing
        return True

    def _open(self, pieces: list[Piece]) -> bool:
        """What an opening marker is; False if that isn't known yet."""
        if _OBJECT.match(self._rest, len(OPEN)) or (self._code.blank and _ON_ITS_LINE.match(self._rest, len(OPEN))):
            self._take(len(OPEN))
            self._begin(pieces)
            return True
        behind = self._rest[len(OPEN) :].lstrip()
        if not behind or (self._code.blank and any(marker.startswith(behind) for marker in MARKERS)):
            return False
        self._spoken = True
        self._words(len(OPEN), pieces)
        return True

    def _json(self, pieces: list[Piece]) -> bool:
        found = _IN_JSON.search(self._rest, self._at)
        self._at = found.start() if found else max(self._at, len(self._rest) - held_back(self._rest, (OPEN, CLOSE)))
        if self._at > MAX_CALL_CHARS:
            return self._give_up(pieces)
        if found is None:
            return False
        if found[0] != '"':
            self._close(found.start(), pieces)
            if found[0] == CLOSE:
                self._take(len(CLOSE))  # an opening one is looked at again: the call before was never closed
        elif _leads_to_string(self._rest[self._gap : found.start()], first=self._gap == 0):
            self._mode, self._string, self._at = _Mode.STRING, found.start(), found.end()
        else:
            self._mode, self._at = _Mode.BROKEN, self._string
        return True

    def _in_string(self, pieces: list[Piece]) -> bool:
        found = _IN_STRING.search(self._rest, self._at)
        self._at = found.start() if found else len(self._rest)
        if self._at > MAX_CALL_CHARS:
            return self._give_up(pieces)
        if found is None:
            return False
        if found[0] == '"':
            self._mode, self._gap, self._at = _Mode.JSON, found.end(), found.end()
        elif found.end() == len(self._rest):
            return False  # what it escapes is still to come
        else:
            self._at = found.end() + 1
        return True

    def _broken(self, pieces: list[Piece]) -> bool:
        end = self._rest.find(CLOSE, self._at)
        self._at = end if end >= 0 else max(self._at, len(self._rest) - held_back(self._rest, (CLOSE,)))
        if self._at > MAX_CALL_CHARS:
            return self._give_up(pieces)
        if end < 0:
            return False
        self._close(end, pieces)
        self._take(len(CLOSE))
        return True

    def _skip(self) -> bool:
        end = self._rest.find(CLOSE)
        if end < 0:
            self._take(len(self._rest) - held_back(self._rest, (CLOSE,)))
            return False
        self._take(end + len(CLOSE))
        self._mode = _Mode.BEHIND
        return True

    def _behind_broken(self) -> bool:
        found = _BEHIND_BROKEN.search(self._rest, self._at)
        if found is None:
            self._at = max(self._at, len(self._rest) - held_back(self._rest, (CLOSE, OPEN, RESPONSE)))
            return False
        if found[0] == CLOSE:
            self._take(found.end())
        else:
            self._mode, self._at = _Mode.TEXT, 0
        return True

    def _begin(self, pieces: list[Piece]) -> None:
        pieces.append(CallBegan(self._calls))
        self._mode = _Mode.JSON
        self._at = self._string = self._gap = 0

    def _close(self, end: int, pieces: list[Piece]) -> None:
        """The call ends here, before a marker."""
        body = self._rest[:end]
        self._take(end)
        self._read(body, pieces, closed=True)

    def _give_up(self, pieces: list[Piece]) -> bool:
        """The call is too long: say so, and look only for its end."""
        self._read(self._rest, pieces, closed=True)
        self._take(MAX_CALL_CHARS)
        self._mode = _Mode.SKIP
        return True

    def _read(self, body: str, pieces: list[Piece], *, closed: bool) -> None:
        index = self._calls
        self._calls += 1
        call = read_call(body, index)
        self._mode = _Mode.BEHIND if call.error else _Mode.TEXT
        self._code = CodeMarks()
        if index >= MAX_CALLS:
            call = Call(index, error=f"more than {MAX_CALLS} calls stand in one answer: make them in several rounds")
        elif call.error and not closed:
            call = Call(index, error=CUT_OFF)
        pieces.append(CallRead(call))

    def _words(self, count: int, pieces: list[Piece]) -> None:
        """So many characters are text."""
        if count:
            pieces.append(Text(self._rest[:count]))
            self._code.feed(self._rest[:count])
            self._take(count)

    def _take(self, count: int) -> None:
        self._rest = self._rest[count:]
        self._consumed += count
        self._at = 0


def _leads_to_string(between: str, *, first: bool) -> bool:
    """Whether a string of JSON can follow this, which stands behind another string or, as the `first`, before all."""
    text = between.strip()
    return text[-1:] in ("{", "[", ",", ":") and (first or text[0] in ",:]}")


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
