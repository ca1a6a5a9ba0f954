"""Forks: a tab that begins like another; and two branches side by side, asked the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.chat.race import REFRESH, RaceScreen
from app.chat.transcript import Transcript
from app.sessions.session import Session
from inference.protocol import ChatPrompt, Submit

Launch = Callable[..., Any]


def texts(session: Session) -> list[str]:
    return [turn.text for turn in session.path()]


async def chat(rig: Any, *questions: str) -> None:
    for question in questions:
        await rig.send(question)
        await rig.finish()


def asked(rig: Any, session: Session) -> list[Submit]:
    return [c for c in rig.engine.commands if isinstance(c, Submit) and c.session == session.name]


async def run_command(rig: Any, name: str) -> None:
    commands = {command.title: command.callback for command in rig.app.get_system_commands(rig.app.screen)}
    commands[name]()
    await rig.settle()


async def test_a_fork_begins_like_its_session_and_goes_its_own_way(launch: Launch) -> None:
    async with launch() as rig:
        await chat(rig, "one", "two")
        original = rig.session
        await run_command(rig, "Fork this chat")
        fork = rig.session
        assert fork is not original
        assert rig.workspace.sessions == [original, fork]
        assert texts(fork) == texts(original)
        assert not {t.id for t in fork.path()} & {t.id for t in original.path()}
        before = texts(original)
        await chat(rig, "three")
        assert texts(original) == before
        assert len(texts(fork)) == len(before) + 2
        (command,) = asked(rig, fork)
        assert isinstance(command.prompt, ChatPrompt)
        assert [m.content for m in command.prompt.messages][:4] == before[:4]


async def test_at_any_turn(launch: Launch) -> None:
    async with launch() as rig:
        await chat(rig, "one", "two", "three")
        original = rig.session
        await rig.press("tab")
        await rig.press("up", "up", "up")  # the answer to "two"
        await rig.press("f")
        assert rig.session is not original
        assert texts(rig.session) == texts(original)[:4]


async def test_forks_are_stored_like_any_chat(launch: Launch) -> None:
    async with launch() as rig:
        await chat(rig, "one")
        await run_command(rig, "Fork this chat")
        await chat(rig, "two")
        names, kept = [s.name for s in rig.workspace.sessions], texts(rig.session)
    async with launch() as rig:
        assert [s.name for s in rig.workspace.sessions] == names
        assert texts(rig.session) == kept


async def test_both_branches_of_a_race_are_asked_the_same_and_share_blocks(launch: Launch) -> None:
    async with launch() as rig:
        await chat(rig, "a question that is long enough to fill a block of the cache, and then some more words of it")
        await run_command(rig, "Race two branches")
        assert isinstance(rig.app.screen, RaceScreen)
        left, right = rig.workspace.sessions
        rig.app.screen.query_one("Composer").put("and why?")
        await rig.press("enter")
        assert [asked(rig, left)[-1].prompt] == [asked(rig, right)[-1].prompt]
        await rig.run(4)
        rig.app.screen.refresh_race()
        await rig.settle()
        text = rig.screen_text()
        assert "block shared" in text
        assert left.name in text
        assert right.name in text
        await rig.finish()
        assert texts(left)[:3] == texts(right)[:3]
        await rig.press("ctrl+r")
        assert len(asked(rig, left)) == 3
        assert len(asked(rig, right)) == 2


async def test_escape_stops_the_race_and_then_leaves_it(launch: Launch) -> None:
    async with launch() as rig:
        await chat(rig, "one")
        await run_command(rig, "Race two branches")
        rig.app.screen.query_one("Composer").put("two")
        await rig.press("enter")
        await rig.run(5)
        rig.app.screen.query_one("Composer").put("not now")
        await rig.press("enter")
        assert any("Both are asked when both have ended" in notice for notice in rig.notices())
        await rig.press("escape")
        assert isinstance(rig.app.screen, RaceScreen)
        assert not rig.engine.running
        await rig.press("escape")
        assert rig.app.screen is rig.chat
        assert len(rig.workspace.sessions) == 2


async def test_an_idle_race_draws_nothing(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Transcript] = []
    sync = Transcript.sync
    async with launch() as rig:
        await chat(rig, "one")
        await run_command(rig, "Race two branches")
        screen = rig.app.screen
        monkeypatch.setattr(
            Transcript, "sync", lambda self: (self.screen is screen and synced.append(self), sync(self))
        )

        async def count() -> int:
            synced.clear()
            await rig.pilot.pause(3.5 * REFRESH)
            return len(synced)

        assert await count() == 0
        screen.query_one("Composer").put("two")
        await rig.press("enter")
        await rig.run(5)
        assert await count() >= 2 * len(screen.query(Transcript))
        synced.clear()
        await rig.press("escape")
        await rig.pilot.pause(3.5 * REFRESH)
        assert len(synced) >= 2, "the end is shown, too"
        assert await count() == 0


async def test_the_right_branch_may_be_sampled_otherwise(launch: Launch) -> None:
    async with launch() as rig:
        await chat(rig, "one")
        await run_command(rig, "Race two branches")
        left, right = rig.workspace.sessions
        await rig.press("ctrl+s")
        rig.app.screen.query_one("#temperature").value = "0.9"
        await rig.press("ctrl+s")
        assert (left.params.temperature, right.params.temperature) == (0.3, 0.9)
        assert "temperature 0.3 and 0.9" in rig.screen_text()


async def test_a_session_that_is_being_answered_can_not_race(launch: Launch) -> None:
    async with launch() as rig:
        await rig.send("one")
        await run_command(rig, "Race two branches")
        assert rig.app.screen is rig.chat
        assert any("race when it is done" in notice for notice in rig.notices())
