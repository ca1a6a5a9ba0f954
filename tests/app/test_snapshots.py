"""How the app looks: both sizes, both themes, in the states that matter; `--snapshot-update` accepts a change."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from app.chat.settings import DIRECTORY
from app.main import GlasschatApp
from inference.protocol import ChatPrompt, Submit
from tests.app.chat.test_race import chat, run_command
from tests.app.conftest import Clock, Rig, make_app
from tests.app.fake_engine import ANSWER, FakeEngine
from tests.app.panels.test_experiment import measure, until_it_ends

SIZES = {"120x40": (120, 40), "80x24": (80, 24)}
QUESTIONS = ("what is paging?", "why does batching help?", "what is 12 * 7?", "tell me all about prefill " * 20)

BRIEFLY, AT_LENGTH = "think briefly: what is paging for?", "think: what is paging for?"
CONSIDERED = """\
They ask what paging is good for. Let me think about how blocks of the cache are taken as a text grows, and what a \
dense layout would cost instead.

Wait: a dense row has room for the longest text that a request may become, so few of them fit.

So the answer is memory."""


def script(command: Submit) -> str:
    if isinstance(command.prompt, ChatPrompt) and "change" in command.prompt.messages[-1].content:
        edit = {"path": "notes.md", "old": "port = 8080", "new": "port = 9090"}
        return f"I change it.\n<tool_call>\n{json.dumps({'name': 'edit_file', 'arguments': edit})}\n</tool_call>"
    if isinstance(command.prompt, ChatPrompt) and "12" in command.prompt.messages[-1].content:
        return '<tool_call>\n{"name": "calculator", "arguments": {"expression": "12 * 7"}}\n</tool_call>'
    if isinstance(command.prompt, ChatPrompt) and command.prompt.messages[-1].content == BRIEFLY:
        return "<think>paging: what for</think>Paging takes memory **as it is needed**."
    if isinstance(command.prompt, ChatPrompt) and command.prompt.messages[-1].content == AT_LENGTH:
        return f"<think>\n{CONSIDERED}\n</think>\n\nPaging takes memory **as it is needed**."
    return ANSWER


async def busy(rig: Rig) -> None:
    """Four sessions, three of them in mid answer."""
    for number, question in enumerate(QUESTIONS):
        if number:
            await rig.press("ctrl+n")
        await rig.send(question)
        await rig.run(9)
    await rig.run(24)
    await rig.press("ctrl+pagedown")


async def answered(rig: Rig) -> None:
    await rig.send(QUESTIONS[2])
    await rig.finish()
    await rig.send(QUESTIONS[0])
    await rig.finish()
    await rig.press("tab", "up")


async def panels(rig: Rig) -> None:
    await busy(rig)
    await rig.press("f2")


async def dead(rig: Rig) -> None:
    await busy(rig)
    rig.engine.die("the engine was killed by SIGKILL")
    await rig.settle(0.1)
    rig.app.clear_notifications()
    await rig.settle(0.0)


async def wrong_setting(rig: Rig) -> None:
    await rig.press("ctrl+s")
    rig.app.screen.query_one("#top_p").value = "7"  # type: ignore[attr-defined]
    rig.app.screen.query_one(f"#{DIRECTORY}").placeholder = "/home/ada/notes"  # type: ignore[attr-defined]
    await rig.settle()


def pressing(*keys: str) -> Callable[[Rig], Awaitable[None]]:
    async def scene(rig: Rig) -> None:
        await rig.press(*keys)

    return scene


async def nothing(rig: Rig) -> None:
    await rig.settle()


async def measured(rig: Rig) -> None:
    rig.engine.slower = {"kernels=reference": 1.31}
    await measure(rig, "kernels", "reference")
    await until_it_ends(rig)
    rig.app.screen_stack[-2].refresh_options()  # type: ignore[attr-defined]  # the switches behind it look twice a second
    await rig.settle()


async def race(rig: Rig) -> None:
    await chat(rig, QUESTIONS[0])
    await run_command(rig, "Race two branches")
    rig.app.screen.query_one("Composer").put("and why?")  # type: ignore[attr-defined]
    await rig.press("enter")
    await rig.run(12)
    rig.app.screen.refresh_race()  # type: ignore[attr-defined]
    await rig.settle()


async def drafting(rig: Rig) -> None:
    rig.engine.draft = "draft"
    for name in ("why does batching help?", "what is paging?"):
        await rig.send(name)
        await rig.press("ctrl+n")
    await rig.press("ctrl+pageup")
    await rig.run(24)


async def drafts(rig: Rig) -> None:
    rig.engine.draft = "draft"
    rig.engine.become_ready()
    await drafting(rig)
    await rig.press("f3", "d")
    await rig.run(1)
    await look_again(rig)


async def look_again(rig: Rig) -> None:
    """The inspector looks five times a second, which may be before a key's time has passed or after it."""
    rig.app.screen.show()  # type: ignore[attr-defined]
    await rig.settle(0.0)


async def inspected(rig: Rig) -> None:
    await drafts(rig)
    await rig.press("d")
    await look_again(rig)


async def by_token(rig: Rig) -> None:
    await drafting(rig)
    await rig.press("tab", "t")


async def thoughts(rig: Rig) -> None:
    """A short one, one that is folded, and one that is being written."""
    await chat(rig, BRIEFLY, AT_LENGTH)
    await rig.send(AT_LENGTH)
    await rig.run(34)


async def thought_opened(rig: Rig) -> None:
    await chat(rig, BRIEFLY, AT_LENGTH)
    await rig.press("tab", "up", "enter")


async def approval(rig: Rig) -> None:
    """One session's tool asks before it changes a file; another one has gone on, and is looked away from."""
    folder = rig.workspace.store.folder / "work"
    folder.mkdir()
    (folder / "notes.md").write_text("# Notes\n\nport = 8080\nThe cache is paged.\n")
    await rig.send(QUESTIONS[0])
    await rig.press("ctrl+n")
    rig.workspace.set_tools(rig.session, True, str(folder))
    await rig.workspace.kit.loaded()
    await rig.send("change the port")
    await rig.run(24)
    while (exchange := rig.workspace.exchanges.of(rig.session)) is None or exchange.asking is None:
        await asyncio.sleep(0.01)
    await rig.settle()
    rig.app.clear_notifications()
    await rig.settle(0.0)


SCENES: list[tuple[str, Callable[[Rig], Awaitable[None]], str, str]] = [
    ("welcome", nothing, "80x24", "glass-dark"),
    ("welcome", nothing, "120x40", "glass-light"),
    ("busy", busy, "120x40", "glass-dark"),
    ("busy", busy, "120x40", "glass-light"),
    ("busy", busy, "80x24", "glass-light"),
    ("busy", busy, "120x40", "ansi-light"),
    ("panels", panels, "80x24", "glass-dark"),
    ("answered", answered, "80x24", "glass-dark"),
    ("answered", answered, "120x40", "glass-light"),
    ("dead", dead, "120x40", "glass-dark"),
    ("settings", wrong_setting, "80x24", "glass-light"),
    ("settings", wrong_setting, "120x40", "glass-dark"),
    ("switches", pressing("f8"), "80x24", "glass-dark"),
    ("switches", pressing("f8"), "120x40", "glass-light"),
    ("measured", measured, "80x24", "glass-light"),
    ("measured", measured, "120x40", "glass-dark"),
    ("drafts", drafts, "80x24", "glass-light"),
    ("inspected", inspected, "120x40", "glass-dark"),
    ("by_token", by_token, "80x24", "glass-dark"),
    ("by_token", by_token, "120x40", "glass-light"),
    ("by_token", by_token, "120x40", "ansi-dark"),
    ("race", race, "80x24", "glass-dark"),
    ("race", race, "120x40", "glass-light"),
    ("thoughts", thoughts, "80x24", "glass-light"),
    ("thoughts", thoughts, "120x40", "glass-dark"),
    ("thought_opened", thought_opened, "80x24", "ansi-dark"),
    ("thought_opened", thought_opened, "120x40", "glass-light"),
    ("approval", approval, "80x24", "glass-dark"),
    ("approval", approval, "120x40", "glass-light"),
    ("help", pressing("f1"), "80x24", "glass-light"),
    ("help", pressing("f1"), "120x40", "glass-dark"),
]


@pytest.mark.parametrize(("name", "scene", "size", "theme"), SCENES, ids=[f"{n}-{s}-{t}" for n, _, s, t in SCENES])
def test_it_looks_right(
    name: str,
    scene: Callable[[Rig], Awaitable[None]],
    size: str,
    theme: str,
    tmp_path: Path,
    snap_compare: Callable[..., bool],
) -> None:
    engine, clock = FakeEngine(script=script), Clock()
    app: GlasschatApp = make_app(tmp_path, engine, clock)
    app.theme = theme

    async def play(pilot: Pilot[Any]) -> None:
        rig = Rig(app, pilot, engine, clock)
        await pilot.pause()
        await rig.settle()
        await scene(rig)

    try:
        assert snap_compare(app, terminal_size=SIZES[size], run_before=play)
    finally:
        app.workspace.shut_down()
