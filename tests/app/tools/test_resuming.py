"""The app ends amid calls, by a crash or as the user leaves: what was done stays done, what had begun is said, the rest
goes on."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.sessions.store import Store
from inference.protocol import ChatPrompt, Submit
from inference.tools.receipts import CallState
from tests.app.conftest import Rig
from tests.app.tools.conftest import asked, asking, at_rest, call, script, states, until, with_tools

TOOL_FILE = '''
import sqlite3
from pathlib import Path
from inference.tools import Effect, tool

@tool(effect=Effect.CHANGES)
def own_receipt() -> str:
    """What the store says of this call while it runs."""
    Path({marks!r}).open("a").write("x")
    with sqlite3.connect({database!r}) as db:
        return db.execute("SELECT receipt FROM tool_calls").fetchone()[0]
'''

SLOW_READ = '''
import asyncio
from pathlib import Path
from inference.tools import Effect, tool

@tool(effect=Effect.READS)
async def slow_read() -> str:
    """Take long for the first time."""
    marks = Path({marks!r})
    marks.open("a").write("x")
    await asyncio.sleep(60 if len(marks.read_text()) == 1 else 0)
    return f"read {{len(marks.read_text())}}"
'''


def crash(data: Path, copy: Path) -> None:
    """What is on disk at this moment is all that the next start finds."""
    shutil.copytree(data, copy)


def put_back(data: Path, copy: Path) -> None:
    shutil.rmtree(data)
    shutil.copytree(copy, data)


def submitted(rig: Rig) -> list[ChatPrompt]:
    return [c.prompt for c in rig.engine.commands if isinstance(c, Submit) and isinstance(c.prompt, ChatPrompt)]


async def test_a_program_that_ran_when_the_app_died_is_reported_and_not_run_again(
    launch: Callable[..., Any], work: Path, tmp_path: Path
) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await asked(rig, "run")
        await rig.press("right", "enter")
        await until(rig, lambda: states(rig) == [CallState.RUNNING])
        crash(tmp_path / "data", tmp_path / "crashed")
    put_back(tmp_path / "data", tmp_path / "crashed")
    async with launch(script=script) as rig:
        await until(rig, lambda: at_rest(rig) and rig.session.last("assistant").text.startswith("It says"))
        assert states(rig) == [CallState.INTERRUPTED]
        assert "! interrupted: it may have taken effect or not" in rig.screen_text()
        assert "look at what is there before doing it again" in submitted(rig)[0].messages[-1].content


async def test_a_finished_change_is_never_made_again(launch: Callable[..., Any], work: Path, tmp_path: Path) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await asked(rig, "edit")
        await rig.press("right", "enter")
        while not (states(rig) == [CallState.DONE] and rig.engine.running):
            await rig.settle(0.02)
        await rig.workspace.store.written()
        crash(tmp_path / "data", tmp_path / "crashed")
    put_back(tmp_path / "data", tmp_path / "crashed")
    (work / "notes.md").write_text("port = 8080\n")
    async with launch(script=script) as rig:
        await until(rig, lambda: at_rest(rig) and "It says: notes.md was changed" in rig.screen_text())
        assert (work / "notes.md").read_text() == "port = 8080\n"
        assert states(rig) == [CallState.DONE]
        assert len(submitted(rig)) == 1


@pytest.mark.parametrize("way", ["crashed", "left"])
async def test_half_an_answer_to_the_results_stays_until_the_whole_one_comes(
    launch: Callable[..., Any], work: Path, tmp_path: Path, way: str
) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await rig.send("compute")
        await until(rig, lambda: states(rig) == [CallState.DONE] and rig.engine.running)
        await rig.run(2)
        assert rig.session.last("assistant").text == "It says: "
        await rig.workspace.store.written()
        crash(tmp_path / "data", tmp_path / "crashed")
    if way == "crashed":
        put_back(tmp_path / "data", tmp_path / "crashed")
    async with launch(script=script, auto_ready=False) as rig:
        half = rig.session.last("assistant")
        assert half.text == "It says: "
        assert "this stays here until the answer that is asked for again begins" in half.note
        rig.engine.become_ready()
        await until(rig, lambda: at_rest(rig) and rig.session.last("assistant").text == "It says: 84")
        assert rig.session.versions(half) == [half, rig.session.last("assistant")]
        assert states(rig) == [CallState.DONE]


async def test_a_crash_between_the_answer_and_the_first_receipt_loses_no_call(
    launch: Callable[..., Any], work: Path, tmp_path: Path
) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await asked(rig, "edit")
    with closing(sqlite3.connect(tmp_path / "data" / "chats.db")) as db, db:
        db.execute("DELETE FROM tool_calls")
    async with launch(script=script) as rig:
        await until(rig, lambda: asking(rig))
        assert states(rig) == [CallState.WAITING]


async def test_who_leaves_while_a_program_runs_stops_it_and_the_model_hears_of_it(
    launch: Callable[..., Any], work: Path
) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await asked(rig, "run")
        await rig.press("right", "enter")
        await until(rig, lambda: states(rig) == [CallState.RUNNING])
    async with launch(script=script) as rig:
        await until(rig, lambda: at_rest(rig) and rig.session.last("assistant").text.startswith("It says"))
        assert states(rig) == [CallState.INTERRUPTED]
        assert "glasschat ended while this call ran" in submitted(rig)[0].messages[-1].content


async def test_what_was_being_read_when_the_user_left_is_read_again(
    launch: Callable[..., Any], work: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    marks = tmp_path / "marks"
    (tmp_path / "data" / "own.py").write_text(SLOW_READ.format(marks=str(marks)))
    (tmp_path / "data" / "tools.toml").write_text('files = ["own.py"]\n')

    def answer(command: Submit) -> str:
        assert isinstance(command.prompt, ChatPrompt)
        return script(command) if command.prompt.messages[-1].role == "tool" else call("slow_read")

    async with launch(script=answer) as rig:
        with_tools(rig, work)
        await rig.send("hello")
        await until(rig, lambda: marks.exists())
    async with launch(script=answer) as rig:
        await until(rig, lambda: at_rest(rig) and rig.session.last("assistant").text == "It says: read 2")
        assert states(rig) == [CallState.DONE]


async def test_calls_of_a_time_without_tools_are_never_made(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script) as rig:
        await rig.send("compute")
        await until(rig, lambda: at_rest(rig))
        with_tools(rig, work)
    async with launch(script=script) as rig:
        await rig.settle()
        assert at_rest(rig)
        assert not states(rig)
        assert not submitted(rig)


async def test_a_call_that_waits_is_asked_about_again(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await asked(rig, "edit")
    async with launch(script=script) as rig:
        await until(rig, lambda: asking(rig))
        assert "-port = 8080" in rig.screen_text()
        assert not rig.engine.running
        await rig.press("right", "enter")
        await until(rig, lambda: at_rest(rig))
        assert "9090" in (work / "notes.md").read_text()


async def test_what_the_user_stopped_stays_stopped(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await asked(rig, "run")
        await rig.press("right", "enter")
        await until(rig, lambda: states(rig) == [CallState.RUNNING])
        await rig.press("escape")
        await until(rig, lambda: at_rest(rig))
    async with launch(script=script) as rig:
        await rig.settle()
        assert at_rest(rig)
        assert states(rig) == [CallState.CANCELLED]
        assert not submitted(rig)


async def test_a_call_begins_when_its_receipt_is_on_disk(
    launch: Callable[..., Any], work: Path, tmp_path: Path
) -> None:
    data, marks = tmp_path / "data", tmp_path / "marks"
    data.mkdir()
    (data / "own.py").write_text(TOOL_FILE.format(marks=str(marks), database=str(data / "chats.db")))
    (data / "tools.toml").write_text('files = ["own.py"]\n')

    def answer(command: Submit) -> str:
        assert isinstance(command.prompt, ChatPrompt)
        return script(command) if command.prompt.messages[-1].role == "tool" else call("own_receipt")

    async with launch(script=answer) as rig:
        with_tools(rig, work)
        await asked(rig, "hello")
        assert not marks.exists()
        await rig.press("right", "enter")
        await until(rig, lambda: at_rest(rig))
        (receipt,) = rig.session.receipts.values()
        assert '"state": "running"' in receipt.result
        assert marks.read_text() == "x"


async def test_a_receipt_that_cannot_be_read_stops_its_call_from_being_made(
    launch: Callable[..., Any], work: Path, tmp_path: Path
) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await asked(rig, "edit")
    with sqlite3.connect(tmp_path / "data" / "chats.db") as db:
        db.execute("UPDATE tool_calls SET receipt = 'garbage'")
    db.close()
    async with launch(script=script) as rig:
        await rig.send("hello")
        await until(rig, lambda: at_rest(rig))
        assert "8080" in (work / "notes.md").read_text()


async def test_a_deleted_session_leaves_no_call_and_no_result(
    launch: Callable[..., Any], work: Path, tmp_path: Path
) -> None:
    (work / "notes.md").write_text("a long line of notes\n" * 100)
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await rig.send("read")
        await until(rig, lambda: at_rest(rig))
        id = rig.session.id
        whole = rig.workspace.store.result(next(iter(rig.session.receipts)))
        assert whole == ("a long line of notes\n" * 100).rstrip("\n")
        await rig.press("f4")
        rig.workspace.forget(id)
    with sqlite3.connect(tmp_path / "data" / "chats.db") as db:
        counts = [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("tool_calls", "tool_results")]
    db.close()
    assert counts == [0, 0]


async def test_without_a_place_to_keep_receipts_calls_are_made_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "data")
    await store.written()
    store.close()
