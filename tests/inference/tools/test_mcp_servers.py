"""MCP servers that behave, die, hang, lie and break the protocol; each is a process of its own."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from inference.tools.calls import CallError
from inference.tools.context import Context
from inference.tools.definition import Effect, Tool, ToolError
from inference.tools.mcp_connection import Connection
from inference.tools.mcp_servers import McpServers, _Server
from inference.tools.rounds import Phase, Rounds
from inference.tools.running import run
from inference.tools.settings import McpServer
from inference.tools.toolbox import Toolbox
from tests.inference.tools.mcp_server import ODD

PROGRAM = str(Path(__file__).parent / "mcp_server.py")


def server(how: str, name: str = "t", timeout: float = 20, trusted: bool = True) -> McpServer:
    return McpServer(name, (sys.executable, PROGRAM, how), {"GIVEN": "yes"}, timeout, trusted)


@pytest.fixture
async def well(tmp_path: Path) -> AsyncIterator[dict[str, Tool]]:
    servers = McpServers([server("well")], log=tmp_path / "log")
    tools, problems = await servers.start()
    assert problems == ()
    yield {tool.name: tool for tool in tools}
    await servers.close()
    assert "speaks on stderr too" in (tmp_path / "log").read_text()


async def test_tools_are_listed_with_their_server_s_name_and_called(well: dict[str, Tool]) -> None:
    add = well["t.add"]
    assert add.source == "the MCP server t"
    assert add.schema["function"]["parameters"]["required"] == ["a", "b"]
    assert await add(**add.check({"a": 2, "b": 40})) == "42"
    rounds = Rounds(Toolbox(well.values()))
    rounds.answered("x", '<tool_call>{"name": "t.add", "arguments": {"a": 1, "b": 2}}</tool_call>')
    assert (await run(rounds.toolbox, rounds.ready[0], Context())).text == "3"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"a": 1}, "the argument b is missing; call it as t.add(a: integer, b: integer)"),
        ({"a": 1, "b": 2, "c": 3}, "no argument c"),
        ({"a": 1, "b": "2"}, "b must be of type integer"),
        ({"a": 1, "b": True}, "b must be of type integer"),
        ({"a": 1, "b": 2.5}, "b must be of type integer"),
    ],
)
async def test_arguments_are_checked(well: dict[str, Tool], arguments: dict[str, object], said: str) -> None:
    with pytest.raises(CallError) as error:
        well["t.add"].check(arguments)
    assert said in str(error.value)


async def test_only_a_trusted_server_s_word_makes_a_tool_read(well: dict[str, Tool]) -> None:
    assert well["t.add"].effect is Effect.READS
    assert well["t.write"].effect is Effect.CHANGES
    servers = McpServers([server("well", trusted=False)])
    tools, _ = await servers.start()
    await servers.close()
    assert {tool.effect for tool in tools} == {Effect.CHANGES}


async def test_results_of_every_kind(well: dict[str, Tool]) -> None:
    assert await well["t.picture"]() == "[image/png: 6 bytes that can't be shown]"
    assert len((await well["t.long"]()).splitlines()) == 5000
    with pytest.raises(ToolError, match="no, because of"):
        await well["t.fail"]()


async def test_it_gets_few_variables(well: dict[str, Tool], monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.loads(await well["t.environment"]())
    assert found["GIVEN"] == "yes"
    assert "PATH" in found
    assert not {name for name in found if "PYTEST" in name}


async def test_one_that_dies_is_started_again(well: dict[str, Tool]) -> None:
    with pytest.raises(ToolError, match="ended during the call"):
        await well["t.die"]()
    assert await well["t.add"](a=1, b=1) == "2"


async def test_one_that_died_between_two_calls_is_started_again_unnoticed(well: dict[str, Tool]) -> None:
    first = int(await well["t.pid"]())
    os.kill(first, signal.SIGKILL)
    await gone(first)
    assert await well["t.add"](a=1, b=1) == "2"
    assert int(await well["t.pid"]()) != first


async def test_a_start_whose_caller_was_stopped_is_the_next_caller_s(tmp_path: Path) -> None:
    connection = Connection(starting("slow", tmp_path), None, None)
    stopped = asyncio.create_task(connection.session())
    while not pids(tmp_path):
        await asyncio.sleep(0.02)
    stopped.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopped
    sessions = await asyncio.gather(connection.session(), connection.session())
    assert sessions[0] is sessions[1]
    await connection.close()
    (only,) = pids(tmp_path)
    await gone(only)


async def test_one_that_is_only_starting_is_ended_at_once(tmp_path: Path) -> None:
    connection = Connection(starting("silent", tmp_path), None, None)
    waiting = asyncio.create_task(connection.session())
    while not pids(tmp_path):
        await asyncio.sleep(0.02)
    began = time.monotonic()
    await connection.close()
    assert time.monotonic() - began < 10
    with pytest.raises(ToolError, match="ended before it had begun"):
        await waiting
    await gone(pids(tmp_path)[0])


async def test_one_that_never_answers_again_says_so(tmp_path: Path) -> None:
    """It listed its tools, ended, and hangs when it is started for a call."""
    connection = Connection(McpServer("t", (sys.executable, PROGRAM, "silent"), timeout=0.5), None, None)
    with pytest.raises(ToolError, match=r"can't be started: it did not answer within 0.5 s"):
        await _Server(connection.server, connection).call("add", {})
    await connection.close()


def starting(how: str, folder: Path) -> McpServer:
    """A server that writes down each of its starts."""
    return McpServer("t", (sys.executable, PROGRAM, how), {"STARTS": str(folder / "starts")}, 20)


def pids(folder: Path) -> list[int]:
    starts = folder / "starts"
    return [int(line) for line in starts.read_text().splitlines()] if starts.exists() else []


async def gone(pid: int) -> None:
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            await asyncio.sleep(0.05)  # and now the loop has seen its pipes close
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"the process {pid} is still there")


async def test_one_that_hangs_is_given_up_and_started_again() -> None:
    servers = McpServers([server("well", timeout=2)])
    tools, _ = await servers.start()
    found = {tool.name: tool for tool in tools}
    began = time.monotonic()
    with pytest.raises(ToolError, match="within 2 s"):
        await found["t.hang"]()
    assert time.monotonic() - began < 15
    assert await found["t.add"](a=1, b=1) == "2"
    await servers.close()


async def test_many_calls_at_once(well: dict[str, Tool]) -> None:
    sums = await asyncio.gather(*(well["t.add"](a=i, b=i) for i in range(20)))
    assert sums == [str(2 * i) for i in range(20)]


async def test_lies_are_left_out_or_made_harmless() -> None:
    servers = McpServers([server("lies")])
    tools, problems = await servers.start()
    try:
        assert [tool.name for tool in tools if "odd" not in tool.name] == ["t.good", "t.endless", "t.needs"]
        assert "<|im_" not in tools[0].description
        assert "\x1b" not in tools[0].description
        assert len(problems) == 5
        assert all(problem.startswith("the tool ") for problem in problems)
        began = time.monotonic()
        assert "aaaa" in await tools[1](**tools[1].check({"x": "a" * 40 + "!"}))
        assert time.monotonic() - began < 10, "a pattern of the server's was matched"
    finally:
        await servers.close()


async def test_schemas_of_any_kind_cost_no_receipt() -> None:
    servers = McpServers([server("lies")])
    tools, _ = await servers.start()
    await servers.close()
    odd = [tool.name for tool in tools if "odd" in tool.name]
    assert len(odd) == len(ODD)
    rounds = Rounds(Toolbox(tools))
    rounds.answered("x", "".join(f'<tool_call>{{"name": "{name}", "arguments": {{}}}}</tool_call>' for name in odd))
    for receipt in rounds.latest:
        assert f"the argument x is missing; call it as {receipt.tool}(x: " in receipt.result
        assert len(receipt.result) < 1_000
    assert rounds.phase is Phase.ANSWER


@pytest.mark.parametrize(
    ("how", "said"),
    [("dies", "can't be used"), ("invalid", "breaks the protocol"), ("silent", "did not")],
)
async def test_servers_that_cannot_be_used_are_problems_and_no_obstacle(how: str, said: str) -> None:
    broken = server(how, "broken", timeout=2 if how == "silent" else 20)
    servers = McpServers([broken, server("well"), McpServer("none", ("/no/such/program",))])
    tools, problems = await servers.start()
    await servers.close()
    assert "t.add" in [tool.name for tool in tools]
    assert len(problems) == 2
    assert said in problems[0]
    assert "broken" in problems[0]
    assert "No such file" in problems[1]


async def test_none_is_nothing() -> None:
    servers = McpServers([])
    assert await servers.start() == ((), ())
    await servers.close()
