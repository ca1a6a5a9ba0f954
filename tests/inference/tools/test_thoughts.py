"""The thought before an answer: recognised at the start alone, the same whatever the cuts, without markup."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference.protocol import THOUGHT, THOUGHT_END
from inference.tools.markup import (
    CLOSE,
    OPEN,
    RESPONSE,
    AnswerParser,
    CallBegan,
    CallRead,
    MadeUp,
    Text,
    Thought,
    parse_answer,
)
from inference.tools.thoughts import ThoughtReader, split_thought

CALL = f'{OPEN}{{"name": "clock", "arguments": {{}}}}{CLOSE}'
texts = st.lists(
    st.sampled_from(
        [
            THOUGHT,
            THOUGHT_END,
            "<thi",
            "nk>",
            "</think",
            "<",
            ">",
            " ",
            "\n",
            "\u3000",
            "a",
            "word ",
            CALL,
            OPEN,
            RESPONSE,
        ]
    ),
    max_size=12,
).map("".join)
words = st.text(st.characters(exclude_characters="<", codec="utf-8"), max_size=30)


def cut(text: str, cuts: list[int]) -> list[str]:
    places = sorted({min(place, len(text)) for place in cuts} | {0, len(text)})
    return [text[a:b] for a, b in pairwise(places)]


def streamed(deltas: list[str]) -> tuple[str, str]:
    reader = ThoughtReader()
    parts = [reader.feed(delta) for delta in deltas] + [reader.finish()]
    return "".join(thought for thought, _ in parts), "".join(answer for _, answer in parts)


def joined(deltas: list[str]) -> list[object]:
    """The parser's pieces, neighbours of a kind joined."""
    parser = AnswerParser()
    pieces = [piece for delta in deltas for piece in parser.feed(delta)] + parser.finish()
    found: list[object] = []
    for piece in pieces:
        if isinstance(piece, Text | Thought) and found and type(found[-1]) is type(piece):
            found[-1] = type(piece)(found[-1].text + piece.text)  # type: ignore[attr-defined]
        else:
            found.append(piece)
    return found


def as_defined(text: str) -> tuple[str, str]:
    """What a thought is, without a stream."""
    if not text.lstrip().startswith(THOUGHT):
        return "", text
    thought, _, answer = text.lstrip().removeprefix(THOUGHT).partition(THOUGHT_END)
    return thought.strip(), answer.lstrip()


@given(texts, st.lists(st.integers(0, 200)))
@example("  <think>\n \n</think> \n", [])
@example("<think> a </think", [])
@example("<thi", [])
def test_cuts_do_not_matter(text: str, cuts: list[int]) -> None:
    assert streamed(cut(text, cuts)) == streamed(list(text)) == split_thought(text) == as_defined(text)


@given(texts, st.lists(st.integers(0, 200)))
def test_cuts_do_not_matter_where_there_are_calls_too(text: str, cuts: list[int]) -> None:
    assert joined(cut(text, cuts)) == joined(list(text)) == joined([text])


@given(words, words)
def test_thought_and_answer_are_told_apart_and_kept_together(thought: str, answer: str) -> None:
    text = f"{THOUGHT}{thought}{THOUGHT_END}{answer}"
    found = parse_answer(text)
    assert (found.thought, found.text) == (thought.strip(), answer.strip())
    assert found.kept == text


@given(texts)
@example("<think></think</think>")
def test_a_marker_that_may_still_complete_is_not_shown(text: str) -> None:
    parser = AnswerParser()
    shown = [piece for character in text for piece in parser.feed(character)]
    held = "".join(piece.text for piece in shown if isinstance(piece, Thought))
    assert THOUGHT_END not in held
    if THOUGHT_END not in text:  # else it is known that what looks like a marker's beginning was none
        thought = text.lstrip().removeprefix(THOUGHT)
        begun = next((n for n in range(len(THOUGHT_END) - 1, 0, -1) if thought.endswith(THOUGHT_END[:n])), 0)
        assert len(held) <= len(thought) - begun
    # At the start, neither marker is ever part of the answer's words.
    if text.lstrip().startswith(THOUGHT):
        first = "".join(piece.text for piece in shown if isinstance(piece, Text))
        assert first == first.lstrip()


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("<think>kv cache: why</think>It is kept.", "kv cache: why", "It is kept."),
        ("\n <think>\nso\n\nand so\n</think>\n\nDone.\n", "so\n\nand so", "Done."),
        ("<think>\n\n</think>\n\nAt once.", "", "At once."),
        ("<think>cut off by the leng", "cut off by the leng", ""),
        ("<think>cut off in the mark</thi", "cut off in the mark</thi", ""),
        ("An answer about <think>x</think>.", "", "An answer about <think>x</think>."),
        ("<think>a</think><think>b</think>c", "a", "<think>b</think>c"),
        ("<thinking about it", "", "<thinking about it"),
        ("", "", ""),
    ],
)
def test_what_is_a_thought(text: str, thought: str, answer: str) -> None:
    found = parse_answer(text)
    assert (found.thought, found.text) == (thought, answer)
    assert found.kept == text


def test_calls_in_a_thought_are_none_and_those_behind_it_are() -> None:
    text = f"<think>perhaps {CALL} or {RESPONSE}</think>\n{CALL}"
    assert [call.index for call in parse_answer(text).calls] == [0]
    assert parse_answer(text).thought == f"perhaps {CALL} or {RESPONSE}"
    assert [type(piece) for piece in joined([text])] == [Thought, CallBegan, CallRead]


def test_a_made_up_result_is_cut_off_at_its_place_in_the_whole_text() -> None:
    before = f" <think>why</think>\n\n{CALL}"
    text = f"{before}{RESPONSE}12:00"
    assert joined([text])[-1] == MadeUp(len(before))
    assert parse_answer(text).kept == before


def test_a_thought_comes_as_it_is_written() -> None:
    parser = AnswerParser()
    assert parser.feed("<think>") == []
    assert parser.feed("\nfirst ") == [Thought("first")]
    assert parser.feed("second</th") == [Thought(" second")]
    assert parser.feed("ink>\n") == []
    assert parser.feed("\nAnd") == [Text("And")]
