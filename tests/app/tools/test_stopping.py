"""Esc frees a session at once, whatever its calls wait for; and what comes next is made."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from inference.protocol import ChatPrompt, Submit
from inference.tools.receipts import CallState
from tests.app.conftest import Rig
from tests.app.tools.conftest import ANSWERS, at_rest, call, script, states, until, with_tools

SLOW_TO_STOP = '''
import asyncio, os
from inference.tools import Effect, tool

@tool(effect=Effect.READS)
async def dawdle() -> str:
    """Take long, and stop when it is let."""
    try:
        await asyncio.sleep(60)
    finally:
        while not os.path.exists({let!r}):
            await asyncio.sleep(0.01)
    return ""
'''


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program writes to the database and does not stop."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield
        db.execute("ROLLBACK")


def called(rig: Rig) -> bool:
    return rig.workspace.exchanges.of(rig.session) is not None


async def test_a_call_that_waits_for_the_disk_is_stopped_like_any_other(
    launch: Callable[..., Any], work: Path, tmp_path: Path
) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await rig.send("hello")
        await until(rig, lambda: at_rest(rig))
        with locked(tmp_path / "data" / "chats.db"):
            for count in (1, 2):
                await rig.send("compute")
                await until(rig, lambda: called(rig) and states(rig)[-1] is CallState.READY)
                await rig.press("escape")
                await until(rig, lambda: at_rest(rig), seconds=1)
                assert states(rig) == [CallState.CANCELLED] * count
            await rig.send("compute")
            await until(rig, lambda: called(rig))
        await until(rig, lambda: at_rest(rig) and "It says: 84" in rig.screen_text())
    async with launch(script=script) as rig:
        assert states(rig) == [CallState.CANCELLED, CallState.CANCELLED, CallState.DONE]


async def test_the_calls_of_the_next_answer_wait_for_those_that_are_being_stopped(
    launch: Callable[..., Any], work: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "own.py").write_text(SLOW_TO_STOP.format(let=str(tmp_path / "let")))
    (tmp_path / "data" / "tools.toml").write_text('files = ["own.py"]\n')
    asked = 0

    def answer(command: Submit) -> str:
        nonlocal asked
        assert isinstance(command.prompt, ChatPrompt)
        asked += 1
        return call("dawdle") if asked == 1 else script(command)

    async with launch(script=answer) as rig:
        with_tools(rig, work)
        await rig.send("compute")
        await until(rig, lambda: states(rig) == [CallState.RUNNING])
        await rig.press("ctrl+r")
        await until(rig, lambda: rig.session.last("assistant").text == ANSWERS["compute"] and not rig.engine.running)
        assert states(rig) == [CallState.RUNNING]
        (tmp_path / "let").touch()
        await until(rig, lambda: at_rest(rig) and "It says: 84" in rig.screen_text())
        assert states(rig) == [CallState.CANCELLED, CallState.DONE]
