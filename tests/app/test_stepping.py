"""The engine paused and stepped from the app: keys, palette, and what the engine line says."""

from __future__ import annotations

from typing import Any

from app.stepping import commands
from inference.protocol import Condition, Resume, Until


async def test_f5_pauses_and_goes_on_and_chats_are_queued_meanwhile(launch: Any) -> None:
    async with launch() as rig:
        await rig.press("f5")
        assert rig.engine.commands[-1] == "pause"
        assert "‖ paused" in rig.screen_text()
        await rig.send("Hello?")
        await rig.run(5)
        assert "asked to" in rig.screen_text()
        assert not rig.session.last("assistant").text, "nothing is computed"
        await rig.press("f5")
        assert rig.engine.commands[-1] == Resume()
        await rig.finish()
        assert "paused" not in rig.screen_text()
        assert rig.session.last("assistant").text


async def test_f6_computes_one_step_and_pauses(launch: Any) -> None:
    async with launch() as rig:
        await rig.send("Hello?")
        await rig.press("f6")
        await rig.run(5)
        assert rig.engine.step == 1
        assert "after step 1: the steps asked for are done" in rig.screen_text()
        await rig.press("f6")
        await rig.run(5)
        assert rig.engine.step == 2


async def test_the_palette_runs_until_something_happens(launch: Any) -> None:
    async with launch() as rig:
        offered = {title: command for title, _, command in commands(rig.session.name)}
        listed = {command.title: command.callback for command in rig.app.get_system_commands(rig.chat)}
        for title, command in offered.items():
            listed[title]()
            await rig.settle()
            assert rig.engine.commands[-1] == command
        assert offered["Run until this session is scheduled"].until == Until(
            Condition.SCHEDULED, session=rig.session.name
        )
        listed["Run until KV use is above 80 %"]()
        await rig.settle()
        assert "until KV use is above 80 %" in rig.screen_text()


async def test_a_new_engine_is_not_paused(launch: Any) -> None:
    async with launch() as rig:
        await rig.press("f5")
        rig.engine.die()
        await rig.settle()
        rig.workspace.watch.restart()
        await rig.settle()
        await rig.settle()
        assert not rig.workspace.watch.paused
