"""Turning tools on, naming a workspace, the user's own tools, and what is said when they can't be had."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input, Static

from tests.app.chat.test_race import chat, run_command
from tests.app.tools.conftest import at_rest, script, until, with_tools

OWN = '''
from inference.tools import Effect, tool

@tool(effect=Effect.RUNS)
def launch_rocket(target: str) -> str:
    """Launch a rocket."""
    return "gone"
'''


async def test_the_settings_turn_tools_on_below_a_directory(launch: Callable[..., Any], work: Path) -> None:
    async with launch() as rig:
        await chat(rig, "hello")
        await rig.press("ctrl+s")
        screen = rig.app.screen
        screen.query_one("#tools", Input).value = "yes"
        screen.query_one("#directory", Input).value = "/nowhere/at/all"
        await rig.press("ctrl+s")
        assert rig.app.screen is screen
        screen.query_one("#directory", Input).scroll_visible(animate=False)
        await rig.settle()
        assert "✗ the workspace /nowhere/at/all is not a directory" in rig.screen_text()
        screen.query_one("#directory", Input).value = str(work)
        await rig.press("ctrl+s")
        assert (rig.session.tools.on, rig.session.tools.directory) == (True, str(work))
    async with launch() as rig:
        assert (rig.session.tools.on, rig.session.tools.directory) == (True, str(work))
        await rig.press("ctrl+n")
        assert rig.session.tools.on


async def test_own_tools_are_offered_and_listed_with_their_effect(
    launch: Callable[..., Any], work: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "own.py").write_text(OWN)
    (data / "tools.toml").write_text('files = ["own.py"]\ndisabled = ["run_command"]\n')
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await run_command(rig, "Tools")
        await until(rig, lambda: "launch_rocket" in rig.screen_text())
        assert "launch_rocket    runs a program, asks first" in rig.screen_text()
        assert "run_command" not in rig.screen_text()
        await rig.press("t")
        assert not rig.session.tools.on


async def test_a_broken_settings_file_costs_the_own_tools_alone_and_is_said(
    launch: Callable[..., Any], work: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "tools.toml").write_text("files = 7\n")
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await rig.send("/tools")
        await until(rig, lambda: "│ ✗ " in rig.screen_text())
        assert "must be a list of texts" in rig.workspace.kit.problems[0]
        await rig.press("escape")
        await rig.send("compute")
        await until(rig, lambda: "It says: 84" in rig.screen_text() and at_rest(rig))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('workspace = "~nobody-here/x"', "workspace must be a path without ~nobody-here"),
        ('files = ["~nobody-here/own.py"]', "files must be a path without ~nobody-here"),
        ('[mcp.time]\ncommand = ["uvx"]', "only the built-in tools are there"),  # without the package that it needs
    ],
)
async def test_whatever_can_not_be_loaded_is_said_and_the_built_in_tools_are_there(
    launch: Callable[..., Any], work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, said: str
) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tools.toml").write_text(settings + "\n")
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await rig.send("compute")
        await until(rig, lambda: "It says: 84" in rig.screen_text() and at_rest(rig))
        assert said in rig.workspace.kit.problems[0]
        (tmp_path / "data" / "tools.toml").write_text("")
        await rig.send("/tools")
        await rig.press("r")
        await until(rig, lambda: rig.workspace.kit.ready and not rig.workspace.kit.problems)


async def test_a_settings_file_in_the_home_of_nobody_is_said(
    launch: Callable[..., Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSCHAT_TOOLS", "~nobody-here/tools.toml")
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await rig.send("/tools")
        await until(rig, lambda: "the tools file ~nobody-here/tools.toml can't be read" in rig.screen_text())
        assert "calculator" in rig.screen_text()


async def test_a_directory_in_the_home_of_nobody_is_no_workspace(launch: Callable[..., Any]) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, Path("~nobody-here"))
        await rig.send("read")
        await until(rig, lambda: at_rest(rig))
        assert "there is no workspace" in rig.screen_text()
        await rig.press("ctrl+s")
        rig.app.screen.query_one("#directory", Input).value = "~nobody/here"
        await rig.settle()
        assert "✗" in str(rig.app.screen.query_one("#hint-directory", Static).render())


async def test_tools_are_loaded_anew_although_they_are_still_being_loaded(
    launch: Callable[..., Any], work: Path, tmp_path: Path
) -> None:
    data, go_on = tmp_path / "data", tmp_path / "go-on"
    data.mkdir()
    (data / "own.py").write_text(f"import os, time\nwhile not os.path.exists({str(go_on)!r}):\n    time.sleep(0.01)\n")
    (data / "tools.toml").write_text('files = ["own.py"]\n')
    try:
        async with launch(script=script) as rig:
            with_tools(rig, work)
            await rig.send("compute")
            assert "waiting for the tools to be loaded" in rig.screen_text()
            (data / "tools.toml").write_text("")
            rig.chat.action_tools()
            await rig.press("r")
            await until(rig, lambda: rig.workspace.kit.ready)
            assert not rig.workspace.kit.problems
            await rig.press("escape")
            await until(rig, lambda: "It says: 84" in rig.screen_text() and at_rest(rig))
    finally:
        go_on.touch()


async def test_a_workspace_that_is_gone_leaves_the_other_tools(launch: Callable[..., Any], tmp_path: Path) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, tmp_path / "gone")
        await rig.send("read")
        await until(rig, lambda: at_rest(rig))
        assert "there is no workspace" in rig.screen_text()


async def test_a_branch_of_a_race_asks_below_its_own_text(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await chat(rig, "hello")
        await run_command(rig, "Race two branches")
        rig.app.screen.query_one("Composer").put("edit")
        await rig.press("enter")

        def both_ask() -> bool:
            exchanges = rig.workspace.exchanges.all()
            return len(exchanges) == 2 and all(exchange.asking is not None for exchange in exchanges)

        await until(rig, both_ask)
        rig.app.screen.refresh_race()
        await rig.settle()
        assert rig.screen_text().count("▸No") == 2
        cards = rig.app.screen.query("ApprovalCard")
        cards[1].focus()
        await rig.press("right", "enter")
        await until(rig, lambda: "9090" in (work / "notes.md").read_text())
        assert len(rig.workspace.exchanges.all()) >= 1
        await rig.press("escape")
