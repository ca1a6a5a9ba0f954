"""The thought before an answer: a line above it, folded where it is long, opened by a key or a click."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.style import Style

from app.chat.body import Body
from app.chat.thought import ThoughtLines
from inference.protocol import Submit
from tests.app.chat.test_race import run_command
from tests.app.conftest import Rig

Launch = Callable[..., Any]

SHORT = "<think>kv cache: why</think>It keeps **keys** and values."
ROWS = [f"This is what I considered in step {n} of so many, and it led nowhere at all." for n in range(20)]
LONG = "<think>\n" + "\n\n".join(ROWS) + "\n</think>\n\nIt keeps **keys** and values."
WORDS = sum(len(row.split()) for row in ROWS)

texts = st.lists(
    st.sampled_from(["word ", "a", " ", "\n", "\n\n", "漢字", "\t", "\x1b[2J", "\u202e", "😀", "x" * 50]), max_size=40
).map("".join)


def plain(_role: str) -> Style:
    return Style.null()


def shown(thought: ThoughtLines, *, ended: bool = True, opened: bool = False) -> list[str]:
    return [strip.text for strip in thought.draw(ended=ended, opened=opened)]


def drawn(text: str, *, opened: bool = False, width: int = 60) -> list[str]:
    body = Body(plain, width, calls=True)
    body.whole(text, (), opened=opened)
    return [strip.text.rstrip() for strip in body.lines]


@given(texts, st.lists(st.integers(0, 300)), st.integers(12, 90))
def test_one_that_comes_in_pieces_looks_as_one_that_comes_whole(text: str, cuts: list[int], width: int) -> None:
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    growing, whole = ThoughtLines(plain, width), ThoughtLines(plain, width)
    for a, b in pairwise(places):
        growing.add(text[a:b])
        lines = shown(growing, ended=False)
        assert len(lines) <= 3
        shown(growing, ended=False, opened=True)
    whole.add(text)
    for ended in (False, True):
        for opened in (False, True):
            assert shown(growing, ended=ended, opened=opened) == shown(whole, ended=ended, opened=opened)


@given(texts, st.integers(12, 120))
def test_it_fits_its_width_and_sends_nothing_to_the_terminal_but_text(text: str, width: int) -> None:
    thought = ThoughtLines(plain, width)
    thought.add(text)
    assert len(shown(thought)) == 1
    for line in thought.draw(ended=True, opened=True):
        assert line.cell_length <= width
        assert not any(ord(c) < 32 or c == "\u202e" for c in line.text)


@given(texts, st.integers(12, 120))
def test_opened_it_is_all_there(text: str, width: int) -> None:
    thought = ThoughtLines(plain, width)
    thought.add(text)
    lines = shown(thought, opened=True)
    rows = lines if thought.is_short else lines[1:]
    said = "".join(row[2:] for row in rows)
    assert "".join(said.split()) == "".join(text.replace("\x1b", "").replace("\u202e", "").split())


@pytest.mark.parametrize(
    ("text", "words"),
    [("", 0), ("one", 1), (" one  two\nthree ", 3), ("don't re-use", 2), ("漢字かな", 4), ("KV缓存 is kept", 5)],
)
def test_words_are_counted_also_where_none_are_spaced(text: str, words: int) -> None:
    for size in (1, 2, 100):
        thought = ThoughtLines(plain, 60)
        for at in range(0, len(text), size):
            thought.add(text[at : at + size])
        thought.add("\n" * 3)
        assert f"· {words} word{'s' * (words != 1)}" in shown(thought)[0]


def test_one_line_stands_directly_above_the_answer() -> None:
    assert drawn(SHORT) == ["∴ kv cache: why", "It keeps keys and values."]
    assert drawn(SHORT, opened=True) == drawn(SHORT)


def test_a_long_one_is_one_line_that_says_how_long_it_is() -> None:
    assert drawn(LONG, width=90) == [
        f"∴ thought · {WORDS} words · Enter on the selected message opens it",
        "It keeps keys and values.",
    ]
    assert drawn(LONG, width=30)[0] == f"∴ thought · {WORDS} words", "a hint that doesn't fit is left out"
    opened = drawn(LONG, opened=True, width=90)
    assert opened[0] == f"∴ thought · {WORDS} words"
    assert [line.removeprefix("▏ ") for line in opened[1:-2:2]] == ROWS
    assert opened[-2:] == ["", "It keeps keys and values."]


def test_while_it_is_written_its_end_is_shown() -> None:
    body = Body(plain, 90, calls=True)
    body.update(LONG[:20], ())
    assert [strip.text for strip in body.lines] == ["∴ This is what"]
    body.update(LONG[: LONG.index("</think>")], ())
    assert [strip.text for strip in body.lines[1:]] == [f"▏ {row}" for row in ROWS[-2:]]
    assert body.lines[0].text.startswith(f"∴ thinking · {WORDS} words")


def test_without_an_end_all_of_it_is_thought_and_an_empty_one_is_not_shown() -> None:
    assert drawn("<think>\nI wonder") == ["∴ I wonder"]
    assert drawn("<think>\n\n</think>\n\nYes.") == ["Yes."]


def test_what_a_user_wrote_is_no_thought() -> None:
    body = Body(plain, 60, calls=False)
    body.whole("<think>what does this mean?</think>", ())
    assert [strip.text.rstrip() for strip in body.lines] == ["<think>what does this mean?</think>"]


def test_the_cost_of_a_token_does_not_grow_with_the_thought() -> None:
    def cost(paragraphs: int) -> float:
        text = "<think>" + "One long paragraph goes on and on. " * (30 * paragraphs)
        body, times = Body(plain, 80, calls=True), []
        body.update(text, ())
        for n in range(60):
            text += f"word {n} "
            begun = time.thread_time()
            body.update(text, ())
            times.append(time.thread_time() - begun)
        return sum(sorted(times)[:30])

    cost(1)
    assert cost(200) < 8 * cost(10)


async def ask(rig: Rig) -> None:
    await rig.send("why?")
    await rig.finish()


def row_of(rig: Rig, words: str) -> int:
    return next(y for y, line in enumerate(rig.screen_text().split("\n")) if words in line)


async def test_enter_opens_a_long_one_and_folds_it_again(launch: Launch) -> None:
    async with launch(script=lambda _: LONG) as rig:
        await ask(rig)
        assert ROWS[0] not in rig.screen_text()
        await rig.press("tab", "up", "enter")
        assert ROWS[0][:40] in rig.screen_text(), "from its head"
        await rig.press("enter")
        assert ROWS[0][:40] not in rig.screen_text()
        assert "It keeps keys and values." in rig.screen_text()


async def test_a_click_does_too_and_one_beside_it_does_not(launch: Launch) -> None:
    async with launch(script=lambda _: LONG) as rig:
        await ask(rig)
        for words, opens in (("It keeps keys", False), ("∴ thought", True), ("∴ thought", False)):
            await rig.pilot.click(offset=(6, row_of(rig, words)))
            await rig.settle()
            assert (ROWS[0][:40] in rig.screen_text()) is opens


async def test_it_can_be_opened_while_it_is_written(launch: Launch) -> None:
    async with launch(script=lambda _: LONG) as rig:
        await rig.send("why?")
        await rig.run(200)
        text = rig.screen_text()
        assert "∴ thinking · " in text
        assert ROWS[2][:40] not in text
        await rig.press("tab", "up", "enter")
        rig.transcript.action_top()
        await rig.settle()
        assert ROWS[2][:40] in rig.screen_text()
        await rig.run(20)
        assert ROWS[2][:40] in rig.screen_text()
        await rig.finish()
        assert ROWS[2][:40] in rig.screen_text()


async def test_token_by_token_the_markup_is_seen(launch: Launch) -> None:
    async with launch(script=lambda _: SHORT) as rig:
        await ask(rig)
        await rig.press("tab", "t")
        assert SHORT.split()[0] in rig.screen_text()
        await rig.press("t")
        assert "<think>" not in rig.screen_text()


async def test_the_answer_is_what_is_copied(launch: Launch) -> None:
    for text, copied in ((SHORT, "It keeps **keys** and values."), ("<think>\nso far", "so far")):
        async with launch(script=lambda _, text=text: text) as rig:
            await rig.press("ctrl+n")
            await ask(rig)
            await rig.press("ctrl+o")
            assert rig.app.clipboard == copied


async def test_both_branches_of_a_race_show_thoughts_and_open_them(launch: Launch) -> None:
    async with launch(script=lambda _: LONG) as rig:
        await ask(rig)
        await run_command(rig, "Race two branches")
        assert rig.screen_text().count("∴ thought · ") == 2
        await rig.pilot.click(offset=(6, row_of(rig, "∴ thought")))
        await rig.settle()
        assert ROWS[0][:30] in rig.screen_text()


async def test_the_next_question_sends_the_answer_as_it_was_written(launch: Launch) -> None:
    async with launch(script=lambda _: SHORT) as rig:
        await ask(rig)
        await ask(rig)
        sent = [c.prompt.messages for c in rig.engine.commands if isinstance(c, Submit)][-1]
        assert [m.content for m in sent] == ["why?", SHORT, "why?"]
