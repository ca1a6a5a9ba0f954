"""Sessions with tools on the scripted engine: a model that calls what its question says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.chat.approval import ApprovalCard
from inference.protocol import ChatPrompt, Submit
from inference.tools.receipts import CallState
from tests.app.conftest import Rig


def call(name: str, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


READ = call("read_file", path="notes.md")
EDIT = call("edit_file", path="notes.md", old="8080", new="9090")
SLEEP = call("run_command", command="sleep 30")
ANSWERS = {
    "compute": call("calculator", expression="12 * 7"),
    "read": f"I look at it.\n{READ}",
    "edit": EDIT,
    "both": f"{READ}\n{EDIT}",
    "run": SLEEP,
    "broken": '<tool_call>\n{"name": "edit_file", "arguments": {"path": }\n</tool_call>',
    "unknown": call("launch", target="moon"),
    "outside": call("read_file", path="../secret.txt"),
    "again": call("calculator", expression="1 + 1"),
}


def script(command: Submit) -> str:
    """Calls what the last question names, and repeats what came of it; after "again" it calls for ever."""
    assert isinstance(command.prompt, ChatPrompt)
    messages = command.prompt.messages
    question = next(m.content for m in reversed(messages) if m.role == "user")
    if messages[-1].role == "tool" and question != "again":
        return f"It says: {messages[-1].content}"
    return ANSWERS.get(question, "Just words.")


async def until(rig: Rig, what: Callable[[], object], seconds: float = 10.0) -> None:
    """Let the app and the engine work until something holds."""
    for _ in range(int(seconds / 0.02)):
        rig.engine.run(4)
        await rig.settle(0.02)
        if what():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"it never came to hold; on screen:\n{rig.screen_text()}")


def with_tools(rig: Rig, folder: Path) -> None:
    rig.workspace.set_tools(rig.session, True, str(folder))


def asking(rig: Rig) -> bool:
    """Whether a call of the session on screen waits for the user, who can see it."""
    exchange = rig.workspace.exchanges.of(rig.session)
    card = rig.chat.query_one(ApprovalCard)
    return exchange is not None and exchange.asking is not None and card.asking is exchange.asking


async def asked(rig: Rig, question: str) -> None:
    """Send a question, and wait until a call that it leads to asks the user."""
    await rig.send(question)
    await until(rig, lambda: asking(rig))


def states(rig: Rig) -> list[CallState]:
    """Of all calls of the session on screen."""
    return [receipt.state for receipt in rig.session.receipts.values()]


def at_rest(rig: Rig) -> bool:
    return not rig.workspace.busy(rig.session) and not rig.engine.running


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A workspace with one file, and a file beside it that is nobody's business."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "notes.md").write_text("port = 8080\nThe cache is paged.\n")
    (tmp_path / "secret.txt").write_text("hidden\n")
    return folder
