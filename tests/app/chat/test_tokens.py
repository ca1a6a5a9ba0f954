"""Answers token by token: every token is seen, marked by who wrote it, at any width and however its text came."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.style import Style

from app.chat.tokens import NEWLINE, TokenText, legend
from app.paint import text_of
from app.sessions.session import Session, Turn
from app.sessions.tokens import Tokens
from tests.app.fake_engine import ANSWER, accepted
from tests.app.fake_engine import tokens as split

STYLES = {
    "token-sampled": Style(color="red"),
    "token-drafted": Style(color="green"),
    "token-sampled token-other": Style(color="red", bold=True),
    "token-drafted token-other": Style(color="green", bold=True),
    "dim": Style(color="blue"),
}
PIECES = st.lists(
    st.tuples(st.text("ab 漢\n\t\x1b\u202e😀", max_size=7), st.booleans(), st.integers(0, 2)), max_size=30
)


def style(roles: str) -> Style:
    return STYLES[roles]


def marked(pieces: list[tuple[str, bool, int]]) -> tuple[str, Tokens]:
    text, tokens = "", Tokens()
    for piece, drafted, count in pieces:
        if piece and not count and not len(tokens):
            count = 1
        text += piece
        tokens.add(count, len(text), drafted=drafted)
    return text, tokens


@given(PIECES, st.integers(4, 40))
def test_every_token_is_seen_in_its_colour_and_no_line_is_too_long(
    pieces: list[tuple[str, bool, int]], width: int
) -> None:
    text, tokens = marked(pieces)
    drawn = TokenText(style, width)
    drawn.update(text, tokens)
    assert all(cell_len(strip.text) <= width for strip in drawn.lines)
    shown = "".join(strip.text for strip in drawn.lines)
    assert shown.replace(NEWLINE, "\n").replace("→   ", "\t") == text.replace("\x1b", "·").replace("\u202e", "·")
    colours = [
        s.style.color.name  # type: ignore[union-attr]
        for strip in drawn.lines
        for s in strip
        for _ in s.text.replace("→   ", "\t")
    ]
    by_token = []
    begin = 0
    for end, drafted in zip(tokens.ends, tokens.drafted, strict=True):
        by_token += ["green" if drafted else "red"] * (end - begin)
        begin = end
    assert colours == by_token


@given(PIECES, st.integers(4, 40))
def test_a_text_that_comes_in_pieces_looks_as_one_that_comes_whole(
    pieces: list[tuple[str, bool, int]], width: int
) -> None:
    growing = TokenText(style, width)
    lines: list[Any] = []
    for upto in range(len(pieces) + 1):
        text, tokens = marked(pieces[:upto])
        first = growing.update(text, tokens)
        assert growing.lines[:first] == lines[:first], "what is said to be as it was is so"
        lines = list(growing.lines)
    whole = TokenText(style, width)
    whole.update(*marked(pieces))
    assert growing.lines == whole.lines


def test_neighbours_differ_in_shade() -> None:
    drawn = TokenText(style, 40)
    drawn.update(*marked([("ab", False, 1), ("", False, 1), ("cd", False, 1), ("ef", True, 1)]))
    assert [(s.text, s.style) for s in drawn.lines[0]] == [
        ("ab", STYLES["token-sampled"]),
        ("cd", STYLES["token-sampled token-other"]),
        ("ef", STYLES["token-drafted"]),
    ]


def test_what_the_chat_template_wrote_is_no_tokens_text() -> None:
    tokens = Tokens()
    tokens.add(0, 8, drafted=False)
    tokens.add(1, 10, drafted=False)
    drawn = TokenText(style, 40)
    drawn.update("<think>\nSo", tokens.copy())
    assert [[(s.text, s.style) for s in strip] for strip in drawn.lines] == [
        [(f"<think>{NEWLINE}", STYLES["dim"])],
        [("So", STYLES["token-sampled"])],
    ]
    assert "the chat template's" in text_of([legend(tokens)])


def test_words_stay_whole_where_they_can() -> None:
    drawn = TokenText(style, 9)
    drawn.update(*marked([("one two three", False, 1), ("\nfour", False, 1)]))
    assert [strip.text for strip in drawn.lines] == ["one two ", "three⏎", "four"]


def test_text_that_comes_at_the_end_without_a_token_belongs_to_the_last_one() -> None:
    text, tokens = marked([("a", True, 1), ("", False, 1), ("held", False, 0)])
    assert (len(tokens), list(tokens.ends), tokens.known(text)) == (2, [1, 5], True)


def test_the_legend_counts() -> None:
    _, tokens = marked([("a", True, 1), ("b", False, 1), ("", True, 1)])
    assert text_of([legend(tokens)]).startswith("2 drafted and accepted 1 sampled by the model · 3 tokens")


def test_a_long_answer_costs_no_more_to_go_on_with() -> None:
    text, tokens = "", Tokens()
    drawn = TokenText(style, 80)

    def grow(times: int) -> float:
        nonlocal text
        began = time.thread_time()
        for _ in range(times):
            text += " word"
            tokens.add(1, len(text), drafted=True)
            drawn.update(text, tokens)
        return time.thread_time() - began

    grow(100)
    early = min(grow(200) for _ in range(3))
    grow(10_000)
    assert min(grow(200) for _ in range(3)) < 4 * early


def test_a_fork_keeps_the_marks_it_has() -> None:
    session = Session("one")
    question = session.add(Turn("user", "why?"))
    answer = session.add(Turn("assistant", "so", parent=question.id))
    answer.tokens.add(1, 2, drafted=True)
    fork = session.fork("two", None)
    answer.text += "!"
    answer.tokens.add(1, 3, drafted=False)
    assert fork.path()[-1].tokens.known("so")


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_the_transcript_shows_who_wrote_each_token(launch: Any, size: tuple[int, int]) -> None:
    async with launch(size=size, draft="draft") as rig:
        await rig.send("Why?")
        await rig.press("tab", "t")
        await rig.run(4)
        answer = rig.session.path()[-1]
        # The first token comes with the end of the prompt.
        expected, place = [0], 1
        for _ in range(3):
            right = accepted(place, 4)
            expected += [1] * right + [0]
            place += right + 1
        assert list(answer.tokens.drafted) == expected
        assert answer.output_tokens == len(expected)
        text = " ".join(rig.screen_text().split())
        assert f"{sum(expected)} drafted and accepted {len(expected) - sum(expected)} sampled by the model" in text
        assert "**Paged attention** keeps" in text, "as it is, without Markdown"
        await rig.finish()
        assert answer.tokens.known(answer.text)
        assert len(answer.tokens) == len(split(ANSWER)) == answer.output_tokens
        await rig.press("t")
        assert "**Paged" not in rig.screen_text()
        assert "drafted and accepted" not in rig.screen_text()


async def test_answers_from_before_say_that_their_tokens_are_not_known(launch: Any) -> None:
    async with launch(draft="draft") as rig:
        await rig.send("Why?")
        await rig.finish()
    async with launch(draft="draft") as rig:
        rig.chat.action_tokens()
        await rig.settle()
        text = " ".join(rig.screen_text().replace("│", " ").split())
        assert "Its tokens are not known" in text
        assert "**Paged" not in text
