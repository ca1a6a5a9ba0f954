"""The card on which a call asks: whatever it shows, and however small the window is, the choices stand below it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.chat.approval import CHOICES, ApprovalCard
from tests.app.chat.test_race import chat, run_command
from tests.app.conftest import Rig
from tests.app.tools.conftest import asking, at_rest, call, until, with_tools

FORTY = [f"/etc/thing-{number}" for number in range(40)]
FAR = "/" + "/".join(["a-directory-with-a-long-name"] * 12)
SIZES = [(120, 40), (80, 24), (80, 16), (40, 24), (40, 13)]


def program(*arguments: str) -> Callable[[object], str]:
    return lambda command: call("run_command", command=f"cat {' '.join(arguments)}")


async def until_asked(rig: Rig) -> None:
    await until(rig, lambda: asking(rig))
    await rig.settle()  # the card has its size


def card_rows(rig: Rig) -> list[str]:
    """What the card draws, without its border."""
    card = rig.chat.query_one(ApprovalCard)
    return [card.render_line(y).text.rstrip() for y in range(card.content_size.height)]


def text_rows(rig: Rig) -> list[str]:
    """Those of them that are scrolled."""
    rows = card_rows(rig)
    return rows[: next(n for n, row in enumerate(rows) if row.startswith("──"))]


def read_through(rig: Rig) -> str:
    """All that whoever scrolls to the end has seen, without the spaces and marks of its lines."""
    seen = text_rows(rig)
    while "↓" in "".join(card_rows(rig)):
        rig.chat.query_one(ApprovalCard).action_scroll_text(1)
        seen.append(text_rows(rig)[-1])
    return "".join(seen).replace("↪", "").replace(" ", "")


@pytest.mark.parametrize("arguments", [FORTY, [FAR]], ids=["forty", "far"])
async def test_the_choices_can_be_seen_and_everything_else_scrolled_to(
    launch: Callable[..., Any], work: Path, arguments: list[str]
) -> None:
    async with launch(script=program(*arguments)) as rig:
        with_tools(rig, work)
        await rig.send("go")
        await until_asked(rig)
        for size in SIZES:
            await rig.pilot.resize_terminal(*size)
            rig.chat.query_one(ApprovalCard).action_scroll_text(-1000)
            await rig.settle()
            for _, label in CHOICES:
                assert label in rig.screen_text(), rig.screen_text()
            seen = read_through(rig)
            for argument in arguments:
                assert f"!{argument}isoutsideoftheworkspace" in seen
            assert f"cat{''.join(arguments)}" in seen


async def test_many_warnings_are_counted_first(launch: Callable[..., Any], work: Path) -> None:
    async with launch(size=(80, 24), script=program(*FORTY)) as rig:
        with_tools(rig, work)
        await rig.send("go")
        await until_asked(rig)
        assert card_rows(rig)[0].startswith("40 warnings")
        assert card_rows(rig)[1] == "! /etc/thing-0 is outside of the workspace"
        await rig.press("pagedown")
        assert "! /etc/thing-0 " not in rig.screen_text()
        assert "! /etc/thing-12 is outside of the workspace" in rig.screen_text()


async def test_a_scope_that_is_cut_below_the_choices_stands_above_them_as_a_whole(
    launch: Callable[..., Any], work: Path
) -> None:
    async with launch(size=(80, 24), script=program(FAR)) as rig:
        with_tools(rig, work)
        await rig.send("go")
        await until_asked(rig)
        assert f"“Thissession”and“Never”areaboutexactlythiscommand:cat{FAR}" in read_through(rig)


async def test_a_click_chooses_in_the_second_row_too(launch: Callable[..., Any], work: Path) -> None:
    async with launch(size=(40, 24), script=program("notes.md")) as rig:
        with_tools(rig, work)
        await rig.send("go")
        await until_asked(rig)
        rows = rig.screen_text().split("\n")
        y = next(y for y, row in enumerate(rows) if " Never" in row)
        assert "Yes, once" not in rows[y]
        for _ in range(2):
            await rig.pilot.click(offset=(rows[y].index("Never"), y))
        await until(rig, lambda: at_rest(rig) or not asking(rig))
        assert list(rig.session.tools.grants.decisions.values()) == ["never"]


async def test_both_cards_of_a_race_show_their_choices(launch: Callable[..., Any], work: Path) -> None:
    async with launch(size=(80, 24), script=program(*FORTY)) as rig:
        await chat(rig, "hello")
        with_tools(rig, work)
        await run_command(rig, "Race two branches")
        rig.app.screen.query_one("Composer").put("go")
        await rig.press("enter")
        exchanges = rig.workspace.exchanges
        await until(rig, lambda: sum(each.asking is not None for each in exchanges.all()) == 2)
        rig.app.screen.refresh_race()
        await rig.settle()
        for _, label in CHOICES:
            assert rig.screen_text().count(label) == 2, rig.screen_text()
        await rig.press("escape")
