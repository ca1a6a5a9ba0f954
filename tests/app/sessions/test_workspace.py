"""Asking and answering without a screen: nothing that was written or said is ever lost."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.sessions.session import TurnState
from app.sessions.store import Store
from app.sessions.workspace import MAX_ATTEMPTS, Workspace
from app.tools.use import ToolUse
from app.watch import EngineWatch, Phase
from inference.protocol import EngineConfig, Submit
from tests.app.conftest import Clock
from tests.app.fake_engine import FakeEngine


class Desk:
    """A workspace on a scripted engine."""

    def __init__(self, folder: Path, engine: FakeEngine) -> None:
        self.engine, self.clock = engine, Clock()
        self.watch = EngineWatch(engine, EngineConfig(), spawn=lambda work: work())
        self.workspace = Workspace(engine, self.watch, Store(folder), self.clock)
        self.workspace.open()
        self.watch.start()
        self.workspace.poll()

    @property
    def session(self):  # type: ignore[no-untyped-def]
        return self.workspace.active

    def run(self, steps: int) -> None:
        self.engine.run(steps)
        self.workspace.poll()

    def submits(self) -> list[Submit]:
        return [c for c in self.engine.commands if isinstance(c, Submit)]

    def come_back(self) -> None:
        """Let the restart after a death happen."""
        self.clock.pass_(31)
        self.workspace.poll()
        self.workspace.poll()


@pytest.mark.parametrize(
    ("model", "has_tools"),
    [("demo", True), ("demo:0.5b", True), ("Qwen/Qwen2.5-0.5B-Instruct", False), ("./demo", False)],
)
def test_the_guide_has_its_tools_from_the_start_and_no_other_model_does(
    tmp_path: Path, model: str, has_tools: bool
) -> None:
    engine = FakeEngine()
    watch = EngineWatch(engine, EngineConfig(), spawn=lambda work: work())
    workspace = Workspace(engine, watch, Store(tmp_path), Clock(), ToolUse.at_first(model))
    workspace.open(["a", "b"])
    assert [session.tools.on for session in workspace.sessions] == [has_tools, has_tools]

    workspace.set_tools(workspace.active, not has_tools, "")
    assert workspace.new_session().tools.on is not has_tools, "a new tab is like the one that it was opened from"
    for session in list(workspace.sessions):
        workspace.close(session)
    assert [session.tools.on for session in workspace.sessions] == [has_tools], "the tab that has to be there"
    workspace.shut_down()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path, FakeEngine())
    yield made
    made.workspace.shut_down()


def test_an_answer_streams_in_and_ends_with_its_statistics(desk: Desk) -> None:
    answer = desk.workspace.send(desk.session, "what is paging?")
    assert answer.state is TurnState.WAITING
    desk.run(3)
    assert answer.state is TurnState.STREAMING
    assert answer.text.startswith("**Paged attention** keeps")
    desk.engine.finish_all()
    desk.workspace.poll()
    assert (answer.state, answer.reason) == (TurnState.DONE, "stop")
    assert answer.output_tokens > 50
    assert answer.ttft > 0
    assert answer.speed > 0


def test_a_new_session_takes_its_name_from_its_first_question(desk: Desk) -> None:
    desk.workspace.send(desk.session, "what is the KV cache and why is it so large?")
    assert desk.session.name == "what is the KV cache an…"
    other = desk.workspace.new_session()
    desk.workspace.rename(other, "mine")
    desk.workspace.send(other, "hello")
    assert other.name == "mine"


def test_stop_keeps_the_text_and_later_tokens_are_ignored(desk: Desk) -> None:
    answer = desk.workspace.send(desk.session, "go")
    desk.run(5)
    text = answer.text
    desk.engine.run(2)  # on the way when the reader presses Esc
    assert desk.workspace.stop(desk.session)
    desk.workspace.poll()
    assert (answer.text, answer.state, answer.reason) == (text, TurnState.DONE, "aborted")
    assert not desk.engine.running
    assert not desk.workspace.stop(desk.session)


def test_regenerating_keeps_the_old_answer_as_a_version(desk: Desk) -> None:
    first = desk.workspace.send(desk.session, "go")
    desk.engine.finish_all()
    desk.workspace.poll()
    second = desk.workspace.regenerate(desk.session, first)
    assert second is not None
    assert desk.session.path()[-1] is second
    assert desk.session.versions(second) == [first, second]
    assert desk.submits()[0].prompt == desk.submits()[1].prompt


def test_editing_an_earlier_question_leaves_the_later_turns_in_the_old_version(desk: Desk) -> None:
    for text in ("one", "two"):
        desk.workspace.send(desk.session, text)
        desk.engine.finish_all()
        desk.workspace.poll()
    before = desk.session.path()
    desk.workspace.edit(desk.session, before[0], "uno")
    assert [t.text for t in desk.session.path()] == ["uno", ""]
    desk.session.show_version(desk.session.path()[0], -1)
    assert desk.session.path() == before


def test_what_is_sent_while_the_engine_loads_waits_for_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeEngine(auto_ready=False))
    answer = desk.workspace.send(desk.session, "early")
    assert desk.submits() == []
    desk.engine.become_ready()
    desk.workspace.poll()
    desk.run(1)
    assert answer.text
    desk.workspace.shut_down()


def test_a_dead_engine_is_restarted_and_the_question_asked_again(desk: Desk) -> None:
    answer = desk.workspace.send(desk.session, "go")
    desk.run(5)
    partial = answer.text
    desk.engine.die()
    changes = desk.workspace.poll()
    assert desk.watch.phase is Phase.DEAD
    assert "what was written is kept" in changes.notices[0]
    assert (answer.text, answer.state) == (partial, TurnState.INTERRUPTED)
    desk.come_back()
    assert desk.engine.starts == 2
    assert desk.session.path()[-1] is answer, "it stays on screen until there is something in its place"
    desk.run(1)
    again = desk.session.path()[-1]
    assert again is not answer
    assert desk.session.versions(again) == [answer, again]
    desk.engine.finish_all()
    desk.workspace.poll()
    assert again.text.startswith(partial)
    assert again.state is TurnState.DONE


def test_an_answer_that_had_no_text_yet_is_asked_again_in_place(desk: Desk) -> None:
    answer = desk.workspace.send(desk.session, "go")
    desk.engine.die()
    desk.workspace.poll()
    desk.come_back()
    desk.run(2)
    assert desk.session.path()[-1] is answer
    assert answer.text


def test_a_question_that_kills_the_engine_is_not_asked_for_ever(desk: Desk) -> None:
    desk.workspace.send(desk.session, "poison")
    for _ in range(MAX_ATTEMPTS):
        desk.engine.die("killed by SIGSEGV")
        desk.workspace.poll()
        desk.come_back()
    assert len(desk.submits()) == MAX_ATTEMPTS
    last = desk.session.path()[-1]
    assert last.state is TurnState.INTERRUPTED
    assert "SIGSEGV" in last.note
    assert desk.watch.phase is Phase.READY


def test_an_engine_that_cannot_start_is_not_started_again(desk: Desk) -> None:
    answer = desk.workspace.send(desk.session, "go")
    desk.engine.die("model.safetensors is truncated.", restartable=False)
    desk.workspace.poll()
    desk.come_back()
    assert desk.engine.starts == 1
    assert desk.watch.phase is Phase.FAILED
    assert "truncated" in desk.watch.sentence(desk.clock())
    assert answer.state is TurnState.INTERRUPTED


def test_restarting_the_engine_asks_again_what_was_under_way(desk: Desk) -> None:
    desk.workspace.send(desk.session, "go")
    desk.run(4)
    desk.watch.request(block_size=32)
    desk.workspace.restart_engine()
    desk.workspace.poll()
    desk.run(2)
    assert desk.engine.config.block_size == 32
    assert len(desk.submits()) == 2
    assert desk.session.path()[-1].text


def test_a_closed_tab_comes_back_with_its_text(desk: Desk) -> None:
    first = desk.session
    desk.workspace.send(first, "go")
    desk.run(3)
    assert desk.workspace.close(first), "its answer was stopped"
    assert desk.session is not first
    assert not desk.engine.running
    assert desk.workspace.reopen() is first
    assert desk.session is first
    assert first.path()[-1].reason == "aborted"
    assert desk.workspace.reopen() is None


def test_four_sessions_are_answered_side_by_side(desk: Desk) -> None:
    answers = []
    for number in range(4):
        session = desk.session if number == 0 else desk.workspace.new_session()
        answers.append(desk.workspace.send(session, f"question {number}"))
    desk.run(6)
    assert all(a.text for a in answers)
    desk.engine.finish_all()
    changes = desk.workspace.poll()
    assert len(changes.finished) == 4
    assert len(desk.workspace.unseen) == 3


def test_a_first_tab_that_was_never_used_leaves_no_trace(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeEngine())
    desk.workspace.shut_down()
    store = Store(tmp_path)
    assert store.search("") == []
    store.close()


def test_everything_is_back_at_the_next_start(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeEngine())
    desk.workspace.send(desk.session, "first")
    desk.run(4)
    text = desk.session.path()[-1].text
    desk.workspace.new_session()
    desk.workspace.shut_down()
    again = Desk(tmp_path, FakeEngine())
    assert [s.name for s in again.workspace.sessions] == ["first", "chat 1"]
    assert again.session.name == "chat 1", "the tab that was on screen is on screen"
    answer = again.workspace.sessions[0].path()[-1]
    assert (answer.text, answer.state) == (text, TurnState.INTERRUPTED)
    again.workspace.shut_down()


def crashed(desk: Desk, folder: Path) -> Desk:
    """A new start from what is on disk at this moment."""
    asyncio.run(desk.workspace.store.written())
    shutil.copytree(desk.workspace.store.folder, folder)
    desk.workspace.shut_down()
    return Desk(folder, FakeEngine())


def test_after_a_crash_of_the_app_an_interrupted_answer_is_asked_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "first", FakeEngine())
    desk.workspace.send(desk.session, "first")
    desk.run(4)
    text = desk.session.path()[-1].text
    again = crashed(desk, tmp_path / "second")
    old = again.session.path()[-1]
    assert (old.text, old.state) == (text, TurnState.INTERRUPTED), "it stays until there is something in its place"
    assert [s.prompt for s in again.submits()] == [s.prompt for s in desk.submits()]
    again.engine.finish_all()
    again.workspace.poll()
    new = again.session.path()[-1]
    assert (new.state, new.reason) == (TurnState.DONE, "stop")
    assert again.session.versions(new) == [old, new]
    third = crashed(again, tmp_path / "third")
    assert not third.submits()
    third.workspace.shut_down()


def test_an_answer_that_was_left_in_the_middle_is_not_asked_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeEngine())
    desk.workspace.send(desk.session, "first")
    desk.run(4)
    desk.workspace.shut_down()
    again = Desk(tmp_path, FakeEngine())
    assert not again.submits()
    again.workspace.shut_down()


def test_a_question_that_the_app_dies_of_is_not_asked_at_every_start(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "0", FakeEngine())
    desk.workspace.send(desk.session, "poison")
    for start in range(1, MAX_ATTEMPTS + 2):
        assert len(desk.submits()) == (start <= MAX_ATTEMPTS)
        desk.run(4)
        desk = crashed(desk, tmp_path / str(start))
    desk.workspace.shut_down()


@pytest.mark.parametrize("again", [1, 2])
def test_an_answer_that_the_engine_lost_and_the_user_did_not_wait_for_comes_at_the_next_start(
    tmp_path: Path, again: int
) -> None:
    """Left before the engine was back, once or at every start; nothing is piled up by that."""
    desk = Desk(tmp_path, FakeEngine())
    old = desk.workspace.send(desk.session, "go")
    desk.run(5)
    desk.engine.die()
    desk.workspace.poll()
    for left in range(again):
        desk.workspace.shut_down()
        desk = Desk(tmp_path, FakeEngine(auto_ready=left == again - 1))
        assert desk.session.path()[-1].text == old.text
    desk.run(2)
    new = desk.session.path()[-1]
    assert [version.id for version in desk.session.versions(new)] == [old.id, new.id]
    desk.workspace.shut_down()


def test_an_engine_that_dies_again_before_the_new_answer_begins_leaves_the_old_one_on_screen(desk: Desk) -> None:
    old = desk.workspace.send(desk.session, "go")
    desk.run(5)
    for _ in range(2):
        desk.engine.die()
        desk.workspace.poll()
        assert desk.session.path()[-1] is old
        desk.come_back()
    desk.run(2)
    new = desk.session.path()[-1]
    assert desk.session.versions(new) == [old, new]
