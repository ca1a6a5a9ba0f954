"""Compaction: nothing before the limit, results first, then whole turns, and always the way back."""

from hypothesis import given
from hypothesis import strategies as st

from inference.protocol import Message
from inference.tools.compaction import (
    PER_MESSAGE,
    SUMMARY_TOKENS,
    Compaction,
    compact,
    summary_request,
    with_summary,
)

words = st.text("abc \n", max_size=60)
results = words | st.integers(301, 3000).map(lambda n: "r" * n)
exchange = st.tuples(words, st.lists(results, max_size=3), words).map(
    lambda parts: [
        Message("user", parts[0]),
        *([Message("assistant", "<tool_call>…</tool_call>")] if parts[1] else []),
        *(Message("tool", result) for result in parts[1]),
        Message("assistant", parts[2]),
    ]
)
conversations = st.tuples(st.booleans(), st.lists(exchange, max_size=8), st.booleans(), st.integers(0, 3)).map(
    lambda parts: [
        *([Message("system", "Be brief.")] if parts[0] else []),
        *(message for each in parts[1] for message in each),
        Message("user", "And now?"),
        *([Message("assistant", "call"), Message("tool", "t" * 2000)] if parts[2] else []),
    ]
)


def counted(messages: list[Message]) -> list[int]:
    return [len(message.content) // 2 + 4 for message in messages]


def last_question(messages: list[Message]) -> int:
    return max(i for i, m in enumerate(messages) if m.role == "user")


@given(conversations, st.integers(50, 6000))
def test_what_is_done_is_needed_and_in_order(messages: list[Message], limit: int) -> None:
    tokens = counted(messages)
    done = compact(messages, tokens, limit)
    target = limit * 3 // 4
    assert done.original == tuple(messages)
    if sum(tokens) <= limit:
        assert done == Compaction(tuple(messages), tuple(messages), tuple(tokens))
        return
    asked = last_question(messages)
    assert all(messages[place].role == "tool" and place < asked for place in done.folded)
    assert list(done.folded) == sorted(done.folded)
    assert done.messages[asked:] == tuple(messages[asked:])
    for place, (old, new) in enumerate(zip(messages, done.messages, strict=True)):
        assert (old == new) == (place not in done.folded)
    assert done.total <= sum(tokens)
    if done.summarize is None:
        assert done.fits == (done.total <= target)
        if done.folded:
            # Without the last of them, it would not have been enough.
            last = done.folded[-1]
            assert done.total - done.tokens[last] + tokens[last] > target
        return
    # Turns are summarized only where folding everything was not enough.
    assert done.total > target
    assert done.summarize.start == (messages[0].role == "system")
    assert messages[done.summarize.stop].role == "user"
    rest = sum(done.tokens[: done.summarize.start]) + sum(done.tokens[done.summarize.stop :])
    assert done.fits == (rest + SUMMARY_TOKENS + PER_MESSAGE <= target)
    if not done.fits:
        assert done.summarize.stop == asked


@given(conversations, st.integers(50, 3000), st.text("xyz ", min_size=1, max_size=100))
def test_a_summary_takes_the_place_of_the_turns(messages: list[Message], limit: int, summary: str) -> None:
    done = compact(messages, counted(messages), limit)
    request = summary_request(done)
    if done.summarize is None:
        assert request is None
        assert with_summary(done, summary) == done
        return
    assert request is not None
    assert request.messages[:-1] == done.messages[: done.summarize.stop]
    after = with_summary(done, summary)
    assert after.original == tuple(messages)
    assert after.messages[0].role == "system"
    assert summary.strip() in after.messages[0].content
    if messages[0].role == "system":
        assert after.messages[0].content.startswith(messages[0].content)
    assert after.messages[1:] == done.messages[done.summarize.stop :]
    assert len(after.tokens) == len(after.messages)
    if done.fits:
        assert after.total <= limit * 3 // 4


def test_a_folded_result_says_how_to_read_it() -> None:
    messages = [Message("user", "a"), Message("assistant", "c"), Message("tool", "x" * 5000), Message("user", "b")]
    done = compact(messages, [1, 1, 2500, 1], 1000, call_ids={2: "0a1b2c3d4e"})
    assert done.folded == (2,)
    assert 'read_result(call_id="0a1b2c3d4e")' in done.messages[2].content
    assert "5,000 characters" in done.messages[2].content
    assert done.described() == "1 older tool result folded"


def test_what_was_done_is_described() -> None:
    messages = [m for i in range(6) for m in (Message("user", f"{i}" * 400), Message("assistant", "y" * 400))]
    done = compact([*messages, Message("user", "z")], [400] * 12 + [1], 2000)
    assert done.described().endswith("older messages to be summarized")
    assert with_summary(done, "All was said.").described().endswith("older messages summarized")
    assert compact(messages, [1] * 12, 2000).described() == ""
