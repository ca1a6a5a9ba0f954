"""What to leave out of a conversation that nears the context's limit: a pure function, and nothing is lost.

First the results of older tool calls are folded, the oldest first: each becomes a line that says what was there and how
to read it again. The exchange that is going on keeps its results. If that is not enough, the oldest turns are to be
replaced by a summary, which the model itself writes: `summary_request` is the prompt for it. The original messages stay
with the `Compaction`, so that it can be shown and undone.

Only messages are looked at, and numbers that somebody else counted. What a change adds is overestimated: a byte-level
tokenizer makes at most one token of a byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from inference.protocol import ChatPrompt, Message
from inference.tools.calls import digest
from inference.tools.results import STORED_OVER

SUMMARY_TOKENS = 400
"""Room that is left for a summary, which `SamplingParams.max_tokens` must hold it to."""
PER_MESSAGE = 8
"""Tokens that a template adds to a message, at most."""

SUMMARY_HEADING = "Summary of the conversation before:"
_REQUEST = (
    "Summarize our conversation so far in at most 200 words, for yourself to go on from: what I asked for, what was "
    "found and decided, which files were changed and how. Write only the summary."
)


@dataclass(frozen=True, slots=True)
class Compaction:
    """What is to be sent instead, and what it replaces."""

    original: tuple[Message, ...]
    messages: tuple[Message, ...]
    """To be sent; with a summary missing, still with the messages that it is to replace."""
    tokens: tuple[int, ...]
    """Of each of `messages`, at most."""
    folded: tuple[int, ...] = ()
    """Places in `original` of the results that were folded."""
    summarize: range | None = None
    """Places, in `original` and in `messages`, that a summary is to replace; None if none is needed."""
    summary: str = ""
    fits: bool = True
    """Whether this is (with the summary, will be) within the target."""

    @property
    def total(self) -> int:
        """Tokens of `messages`, at most."""
        return sum(self.tokens)

    @property
    def changed(self) -> bool:
        return bool(self.folded or self.summarize)

    def described(self) -> str:
        """What was done, in a sentence for the reader; empty if nothing was."""
        parts = []
        if self.folded:
            parts.append(f"{len(self.folded)} older tool result{'s' if len(self.folded) > 1 else ''} folded")
        if self.summarize:
            parts.append(f"{len(self.summarize)} older messages {'' if self.summary else 'to be '}summarized")
        return " and ".join(parts)


def compact(
    messages: Sequence[Message],
    tokens: Sequence[int],
    limit: int,
    target: int | None = None,
    call_ids: Mapping[int, str] | None = None,
) -> Compaction:
    """Nothing while the conversation has at most `limit` tokens, else enough to bring it to `target`.

    The target lies below the limit (three quarters of it, if not given), or every further turn would compact again,
    and each time the cached blocks after the first change are lost. `tokens` are those of each message; `call_ids` say
    which call a tool's message (by place) is the result of.
    """
    if len(messages) != len(tokens):
        raise ValueError(f"{len(messages)} messages, but {len(tokens)} numbers of tokens")
    target = limit * 3 // 4 if target is None else target
    done = Compaction(tuple(messages), tuple(messages), tuple(tokens))
    if done.total <= limit:
        return done
    last_question = max((i for i, m in enumerate(messages) if m.role == "user"), default=0)
    for place, message in enumerate(messages[:last_question]):
        if done.total <= target:
            return done
        if message.role == "tool" and len(message.content) > STORED_OVER:
            done = _fold(done, place, (call_ids or {}).get(place, ""))
    return done if done.total <= target else _cut(done, target)


def summary_request(compaction: Compaction) -> ChatPrompt | None:
    """The prompt whose answer is the summary; None if none is needed."""
    if compaction.summarize is None:
        return None
    span = compaction.summarize
    # What comes before is the system message: with it, the prompt's beginning is cached.
    return ChatPrompt((*compaction.messages[: span.stop], Message("user", _REQUEST)))


def with_summary(compaction: Compaction, summary: str) -> Compaction:
    """The summary in the place of what it summarizes: at the end of the system message, where every template has room.

    `messages` and `original` no longer have the same places after it.
    """
    span = compaction.summarize
    if span is None:
        return compaction
    messages, tokens = compaction.messages, compaction.tokens
    text = f"{SUMMARY_HEADING}\n{summary.strip()}"
    if span.start:
        opening = replace(messages[0], content=f"{messages[0].content}\n\n{text}")
        cost = tokens[0] + _most_tokens(f"\n\n{text}")
    else:
        opening, cost = Message("system", text), _most_tokens(text) + PER_MESSAGE
    return replace(
        compaction,
        messages=(opening, *messages[span.stop :]),
        tokens=(cost, *tokens[span.stop :]),
        summary=summary.strip(),
    )


def _fold(done: Compaction, place: int, call_id: str) -> Compaction:
    message = done.messages[place]
    again = f'; read_result(call_id="{call_id}") shows it' if call_id else ""
    text = (
        f"[an older result of {len(message.content):,} characters was left out "
        f"(sha256 {digest(message.content)[:12]}){again}]"
    )
    cost = _most_tokens(text) + PER_MESSAGE
    if cost >= done.tokens[place]:
        return done
    return replace(
        done,
        messages=(*done.messages[:place], replace(message, content=text), *done.messages[place + 1 :]),
        tokens=(*done.tokens[:place], cost, *done.tokens[place + 1 :]),
        folded=(*done.folded, place),
    )


def _cut(done: Compaction, target: int) -> Compaction:
    """Summarize up to the first question from which on the rest fits; at most up to the last one."""
    begin = 1 if done.messages and done.messages[0].role == "system" else 0
    questions = [i for i, m in enumerate(done.messages) if m.role == "user" and i > begin]
    if not questions:
        return replace(done, fits=False)
    fixed = sum(done.tokens[:begin]) + SUMMARY_TOKENS + PER_MESSAGE
    fitting = (i for i in questions if fixed + sum(done.tokens[i:]) <= target)
    cut = next(fitting, None)
    stop = questions[-1] if cut is None else cut
    return replace(done, summarize=range(begin, stop), fits=cut is not None)


def _most_tokens(text: str) -> int:
    return len(text.encode("utf-8", errors="replace"))
