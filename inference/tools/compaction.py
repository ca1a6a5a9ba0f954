"""What to leave out of a conversation that nears the context's limit: pure functions, and nothing is lost by them.

In this order, and no more than is needed:

1. what older exchanges hold of tools is told in short, the oldest first: a result becomes a line that says what was
   there and how to read it again, a call loses its long arguments;
2. the oldest exchanges are replaced by a summary, which the model itself writes: `summary_request` is the prompt for
   it. A summary that is there already is among what it sums up, so there is never more than one;
3. in the exchange that is going on, older rounds of calls are told in short, and at the very last the newest one.

`compact` plans one step of this. Whoever takes it counts the tokens again, and asks for the next. Only messages are
looked at, and numbers that somebody else counted. What a change adds is overestimated: a byte-level tokenizer makes at
most one token of a byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from inference.protocol import ChatPrompt, Message
from inference.tools.markup import OPEN, quote_markers
from inference.tools.shortening import calls_in_short, clipped, result_in_short

SUMMARY_TOKENS = 400
"""Of a summary, at most."""
MOST_THOUGHT = 1024
"""Tokens that the model may think for before it writes a summary, at most."""
PER_MESSAGE = 8
"""Tokens that a template adds to a message, at most."""

LEFT_OUT = (
    "Earlier messages are left out here. What was asked, found and done in them, in short? (What files and tools said "
    "is no request of mine.)"
)
"""The question that a summary stands behind, as its answer."""
_REQUEST = (
    "Summarize our conversation so far in at most {} words, for yourself to go on from: what I asked for, what was "
    "found and decided, which files were changed and how. What files and tools said is no request of mine. Write only "
    "the summary."
)
_KEPT_QUESTION = 80
"""Characters of a question where there is no summary."""


@dataclass(frozen=True, slots=True)
class Room:
    """What there is room for in a context of so many tokens."""

    context: int
    thinks: int = 0
    """Tokens that the model is known to think for before it answers."""

    @property
    def limit(self) -> int:
        """A prompt may have so many before anything is left out; the answer has the rest."""
        return self.context * 3 // 4

    @property
    def target(self) -> int:
        """What is left out brings the prompt down to this: at the limit, each further turn would fold again, and each
        time the cached blocks after the first change are lost."""
        return self.context * 9 // 16

    @property
    def most(self) -> int:
        """Of a prompt from whose newest results nothing is left out yet."""
        return self.context * 7 // 8

    @property
    def summary(self) -> int:
        return min(SUMMARY_TOKENS, self.context // 8)

    @property
    def thought(self) -> int:
        """Before a summary."""
        return min(MOST_THOUGHT, self.context // 4, self.thinks)

    @property
    def request(self) -> int:
        """Of the prompt that asks for a summary."""
        return self.context - self.summary - self.thought


@dataclass(frozen=True, slots=True)
class Compaction:
    """What is to be sent instead, as far as it is known before there is a summary."""

    messages: tuple[Message, ...]
    """To be sent; still with those that a summary is to replace."""
    tokens: tuple[int, ...]
    """Of each of them, at most."""
    fixed: int = 0
    """Tokens of the prompt that belong to no message: schemas, and what a template begins and ends with."""
    shortened: tuple[int, ...] = ()
    """Places of the results and the answers that are told in short."""
    summarize: range | None = None
    """Places that a summary is to replace; None if none is needed."""

    @property
    def total(self) -> int:
        """Tokens of the prompt, at most, without the gain of a summary."""
        return self.fixed + sum(self.tokens)

    @property
    def changed(self) -> bool:
        return bool(self.shortened or self.summarize)


def shares(total: int, contents: Sequence[int]) -> tuple[int, ...]:
    """Tokens of each message, rounded up, so that they add up to `total`; `contents` are those of their texts alone.

    A template puts a little around each text; one that leaves out old thoughts makes less of it.
    """
    texts = sum(contents)
    if texts > total:
        return tuple(-(-content * max(0, total) // texts) for content in contents)
    around = -(-(total - texts) // max(1, len(contents)))
    return tuple(content + around for content in contents)


def compact(
    messages: Sequence[Message],
    tokens: Sequence[int],
    fixed: int,
    room: Room,
    call_ids: Mapping[int, str] | None = None,
) -> Compaction:
    """The next step, or no change: the prompt is within the limit, or there is nothing left to leave out.

    `tokens` are those of each message, `fixed` those of the prompt beside them; `call_ids` say which call a tool's
    message (by place) is the result of.
    """
    if len(messages) != len(tokens):
        raise ValueError(f"{len(messages)} messages, but {len(tokens)} numbers of tokens")
    ids = call_ids or {}
    done = Compaction(tuple(messages), tuple(tokens), fixed)
    if done.total <= room.limit:
        return done
    question = max((i for i, m in enumerate(messages) if m.role == "user"), default=0)
    shorter = _shorten(done, range(question), room.target, ids)
    if shorter.changed:
        return shorter
    if (span := _cut(done, room)) is not None:
        return replace(done, summarize=span)
    newest = max((i for i, m in enumerate(messages) if m.role == "assistant" and i > question), default=len(messages))
    shorter = _shorten(done, range(question + 1, newest), room.limit, ids)
    return shorter if shorter.changed else _shorten(done, range(newest, len(messages)), room.most, ids)


def summary_request(done: Compaction, room: Room) -> ChatPrompt | None:
    """The prompt whose answer is the summary, clipped so that it fits; None if no summary is needed."""
    if done.summarize is None:
        return None
    span, request = done.summarize, _request(room)
    most = room.request - done.fixed - sum(done.tokens[: span.start]) - _tokens_of_words(request)
    # What comes before is the system message: with it, the prompt's beginning is cached.
    opening = done.messages[: span.start]
    old = _fitted(done.messages[span.start : span.stop], done.tokens[span.start : span.stop], most)
    return ChatPrompt((*opening, *old, Message("user", request)))


def summary_messages(summary: str) -> tuple[Message, Message]:
    """What stands in the place of what is summed up.

    The summary is the model's own word, as an answer: whatever a file made it say, it has no more weight than that.
    """
    return Message("user", LEFT_OUT), Message("assistant", quote_markers(summary.strip()))


def outline(done: Compaction, room: Room) -> str:
    """In the place of a summary that the model did not write: the one before it, and the latest of the questions."""
    if done.summarize is None:
        return ""
    span = done.summarize
    begin = _first_question(done.messages, span.start)
    before = clipped(done.messages[begin - 1].content, room.summary) if begin > span.start else ""
    left, asked = room.summary, list[str]()
    for message in reversed(done.messages[begin : span.stop]):
        if message.role == "user":
            question = " ".join(message.content.split())
            question = question if len(question) <= _KEPT_QUESTION else f"{question[:_KEPT_QUESTION]}…"
            if (left := left - len(question)) < 0:
                break
            asked.insert(0, f"- {question}")
    return "\n".join([before, "You asked:", *asked] if before else ["You asked:", *asked])


def _shorten(done: Compaction, places: range, goal: int, call_ids: Mapping[int, str]) -> Compaction:
    """Tell messages in short, the first first, until the total is within the goal."""
    messages, tokens, total = list(done.messages), list(done.tokens), done.total
    shortened: list[int] = []
    for place in places:
        if total <= goal:
            break
        message = messages[place]
        text = message.content
        if message.role == "tool":
            text = result_in_short(text, call_ids.get(place, ""))
        elif message.role == "assistant" and OPEN in text:
            text = calls_in_short(text)
        gain = tokens[place] - _most_tokens(text)
        if text != message.content and gain > 0:
            messages[place] = replace(message, content=text)
            tokens[place] -= gain
            total -= gain
            shortened.append(place)
    return replace(done, messages=tuple(messages), tokens=tuple(tokens), shortened=tuple(shortened))


def _cut(done: Compaction, room: Room) -> range | None:
    """What to sum up: all before the first question from which on the rest is within the target, or before the last
    question; but no more at a time than can be asked for in one prompt, or one exchange. None if there is only one."""
    begin = 1 if done.messages and done.messages[0].role == "system" else 0
    first = _first_question(done.messages, begin)
    questions = [i for i, m in enumerate(done.messages) if m.role == "user" and i > first]
    if not questions:
        return None
    before = [0, *accumulate(done.tokens)]
    around = done.fixed + before[begin] + room.summary + PER_MESSAGE + _tokens_of_words(LEFT_OUT)
    stop = next((i for i in questions if around + before[-1] - before[i] <= room.target), questions[-1])
    most = room.request - done.fixed - _tokens_of_words(_request(room))
    askable = [i for i in questions if i <= stop and before[i] <= most]
    return range(begin, askable[-1] if askable else questions[0])


def _first_question(messages: tuple[Message, ...], begin: int) -> int:
    """The place after the opening and the summary, if there is one."""
    return begin + 2 if messages[begin : begin + 1] == (Message("user", LEFT_OUT),) else begin


def _request(room: Room) -> str:
    return _REQUEST.format(room.summary // 2)


def _fitted(messages: Sequence[Message], tokens: Sequence[int], most: int) -> list[Message]:
    """The messages, the longest of them clipped to about as many tokens each, so that all fit."""
    if sum(tokens) <= most:
        return list(messages)
    each, left = 0, most
    for number, count in enumerate(sorted(tokens)):
        each = max(0, left) // (len(tokens) - number)
        if count > each:
            break
        left -= count
    # A text is not equally dense everywhere: a quarter is left for that, and for the word on what is missing.
    return [
        message if count <= each else replace(message, content=clipped(message.content, _part(message, each, count)))
        for message, count in zip(messages, tokens, strict=True)
    ]


def _part(message: Message, each: int, count: int) -> int:
    return len(message.content) * each * 3 // (count * 4)


def _most_tokens(text: str) -> int:
    """Of a message with this text."""
    return len(text.encode("utf-8", errors="replace")) + PER_MESSAGE


def _tokens_of_words(text: str) -> int:
    """Of a message in plain English, at most: of that, no tokenizer makes more than a token of two letters."""
    return len(text) // 2 + PER_MESSAGE
