"""The engine paused and stepped from the app: keys, palette, and what the engine line says."""

from __future__ import annotations

from typing import Any

from app.stepping import BREAKS, commands, next_breakpoint
from inference.protocol import Condition, Resume, SetBreakpoints, Until


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


def offered(rig: Any) -> dict[str, Any]:
    return {command.title: command.callback for command in rig.app.get_system_commands(rig.app.screen)}


def points(rig: Any) -> list[tuple[Until, ...]]:
    """What was set, in order."""
    return [c.points for c in rig.engine.commands if isinstance(c, SetBreakpoints)]


async def test_breakpoints_are_set_and_taken_back_from_the_palette(launch: Any) -> None:
    async with launch(names=("alpha", "beta")) as rig:
        offered(rig)["Breakpoint: alpha is preempted"]()
        await rig.settle()
        preempted = Until(Condition.PREEMPTION, session="alpha")
        assert points(rig) == [(preempted,)]
        assert "◆ pauses if alpha is preempted" in rig.screen_text()
        await rig.press("ctrl+pagedown")
        offered(rig)["Breakpoint: beta ends"]()
        await rig.settle()
        ends = Until(Condition.FINISHED, session="beta")
        assert points(rig)[-1] == (preempted, ends)
        assert "◆ 2 breakpoints" in rig.screen_text()
        offered(rig)["No breakpoint: beta ends"]()
        assert points(rig)[-1] == (preempted,)
        offered(rig)["Remove all breakpoints"]()
        await rig.settle()
        assert points(rig)[-1] == ()
        assert "◆" not in rig.screen_text()
        assert "Remove all breakpoints" not in offered(rig)


async def test_breakpoints_follow_a_session_s_name_and_outlive_the_engine(launch: Any) -> None:
    async with launch() as rig:
        offered(rig)["Breakpoint: chat 1 is scheduled"]()
        await rig.send("What is paging?")
        scheduled = Until(Condition.SCHEDULED, session="What is paging?")
        assert points(rig)[-1] == (scheduled,), "the session has got its name from its first question"
        rig.engine.die()
        await rig.settle()
        assert "◆" not in rig.screen_text()
        before = len(points(rig))
        rig.workspace.watch.restart()
        await rig.settle()
        await rig.settle()
        assert points(rig)[before:] == [(scheduled,)]
        assert "◆ pauses if What is paging? is scheduled" in rig.screen_text()


async def test_b_in_the_inspector_walks_through_a_session_s_breakpoints(launch: Any) -> None:
    async with launch(names=("alpha", "beta")) as rig:
        await rig.send("Hello?")
        await rig.run(3)
        await rig.press("f3", "b")
        assert points(rig) == []
        assert any("S chooses" in notice for notice in rig.notices())
        await rig.press("s", "b", "b", "b", "b")
        assert points(rig) == [*((Until(condition, session="alpha"),) for condition in BREAKS), ()]
        assert "The engine pauses whenever alpha is preempted." in rig.notices()
        await rig.press("b")
        rig.app.screen.show()
        await rig.pilot.pause()
        assert "◆ pauses if alpha is scheduled" in rig.screen_text()
        assert "breakpoints: alpha is scheduled" in rig.screen_text()


def test_the_next_breakpoint_leaves_those_of_others_alone() -> None:
    other = Until(Condition.SCHEDULED, session="beta")
    known = [other]
    for condition in BREAKS:
        known = next_breakpoint("alpha", known)
        assert known == [other, Until(condition, session="alpha")]
    assert next_breakpoint("alpha", known) == [other]


async def test_a_message_sent_while_it_is_paused_is_listed_with_what_it_waits_for(launch: Any) -> None:
    async with launch() as rig:
        await rig.press("f5")
        rig.engine.pause()
        await rig.send("Hello?")
        await rig.settle()
        text = rig.screen_text()
        assert "waits: the engine is paused (F5)" in " ".join(text.split())
        assert " 1 waiting" in text
        await rig.press("f3")
        text = rig.screen_text()
        assert "paused after step 0 (F5, F6)" in text
        assert "the engine is paused (F5)" in text
