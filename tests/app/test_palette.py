"""The engine asked from the palette: recordings begun, ended and refused; the prefix cache explained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def listed(rig: Any) -> dict[str, Any]:
    return {command.title: command.callback for command in rig.app.get_system_commands(rig.chat)}


async def test_a_recording_begins_and_ends_in_the_working_directory(
    launch: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    async with launch() as rig:
        listed(rig)["Record the engine"]()
        await rig.settle()
        (path,) = [command[1] for command in rig.engine.commands if command[0] == "record"]
        assert Path(path).parent == tmp_path
        assert "● recording" in rig.screen_text()
        assert any("Recording to" in notice for notice in rig.notices())
        listed(rig)["End the recording"]()
        await rig.settle()
        assert "recording" not in rig.screen_text().splitlines()[1]
        assert any("glasschat replay" in notice for notice in rig.notices())


async def test_a_recording_of_a_busy_engine_says_what_that_costs(launch: Any) -> None:
    async with launch() as rig:
        await rig.send("Hello?")
        listed(rig)["Record the engine"]()
        await rig.settle()
        (notice,) = [notice for notice in rig.notices() if "Recording to" in notice]
        assert notice.endswith("1 answers under way: computed again from the start.")
        assert rig.workspace.watch.recording


async def test_a_recording_that_can_not_begin_says_why(launch: Any) -> None:
    async with launch() as rig:
        rig.engine.no_recording = "the disk is full"
        listed(rig)["Record the engine"]()
        await rig.settle()
        assert "Not recorded: the disk is full" in rig.notices()
        assert not rig.workspace.watch.recording


async def test_the_prefix_cache_explains_itself(launch: Any) -> None:
    async with launch() as rig:
        listed(rig)["Explain the prefix cache"]()
        await rig.settle()
        assert f"{rig.session.name}: 48 of 60 prompt tokens were cached." in rig.notices()
