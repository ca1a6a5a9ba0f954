"""The chat as its user meets it: keys, tabs, engine troubles, copying, exporting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.chat.dialogs import HelpScreen, SessionsScreen
from app.chat.screen import ChatScreen
from inference.protocol import ChatPrompt, Submit
from tests.app.fake_engine import ANSWER

Launch = Callable[..., Any]


def submits(engine: Any) -> list[Submit]:
    return [c for c in engine.commands if isinstance(c, Submit)]


async def test_four_sessions_are_answered_in_one_batch(launch: Launch) -> None:
    async with launch(names=("one", "two", "three", "four")) as rig:
        for _ in range(4):
            await rig.send("what is paging?")
            await rig.press("ctrl+pagedown")
        await rig.run(12)
        assert rig.session.name == "one"
        text = rig.screen_text()
        assert all(f"▶ {name}" in text for name in ("one", "two", "three", "four"))
        assert "4 running" in text
        assert text.count("DECODE") == 4
        hidden = [view for id, kept in rig.transcript._kept.items() if id != rig.session.id for view in kept.values()]
        assert not any(view.lines and view._shown[0] > 40 for view in hidden), "hidden sessions are not drawn"
        await rig.finish()
        assert "● two" in rig.screen_text()
        await rig.press("ctrl+pagedown")
        assert "two sequences may share a block" in rig.screen_text()
        assert "● two" not in rig.screen_text()


async def test_enter_sends_and_ctrl_j_makes_a_new_line(launch: Launch) -> None:
    async with launch() as rig:
        await rig.press("a", "ctrl+j", "b")
        assert rig.composer.text == "a\nb"
        assert rig.composer.size.height == 2
        await rig.press("enter")
        assert rig.composer.text == ""
        assert rig.session.path()[0].text == "a\nb"


async def test_an_empty_message_is_not_sent(launch: Launch) -> None:
    async with launch() as rig:
        await rig.press("space", "enter")
        assert submits(rig.engine) == []


async def test_up_and_down_walk_through_what_was_sent(launch: Launch) -> None:
    async with launch() as rig:
        for text in ("first", "second"):
            await rig.send(text)
            await rig.finish()
        rig.composer.put("unsent")
        await rig.press("up")
        assert rig.composer.text == "second"
        await rig.press("up")
        assert rig.composer.text == "first"
        await rig.press("up", "down", "down")
        assert rig.composer.text == "unsent"


async def test_every_session_keeps_its_draft(launch: Launch) -> None:
    async with launch() as rig:
        await rig.press(*"half")
        await rig.press("ctrl+n")
        assert rig.composer.text == ""
        await rig.press("ctrl+pageup")
        assert rig.composer.text == "half"


async def test_escape_stops_the_answer_and_keeps_its_text(launch: Launch) -> None:
    async with launch() as rig:
        await rig.send("go")
        await rig.run(10)
        await rig.press("escape")
        assert "aborted" in rig.screen_text()
        assert "Paged attention" in rig.screen_text()
        assert not rig.engine.running


async def test_a_message_for_a_busy_session_stays_in_the_composer(launch: Launch) -> None:
    async with launch() as rig:
        await rig.send("go")
        await rig.run(3)
        await rig.send("and another")
        assert rig.composer.text == "and another"
        assert "still being answered" in rig.notices()[-1]
        assert len(submits(rig.engine)) == 1


async def test_regenerate_shows_a_second_version_and_arrows_go_back(launch: Launch) -> None:
    async with launch() as rig:
        await rig.send("go")
        await rig.finish()
        await rig.press("ctrl+r")
        await rig.run(3)
        assert "version 2 of 2" in rig.screen_text()
        await rig.finish()
        await rig.press("tab", "up", "left")
        assert "version 1 of 2" in rig.screen_text()


async def test_edit_and_resend_replaces_the_question_on_screen(launch: Launch) -> None:
    async with launch() as rig:
        await rig.send("what is pageing?")
        await rig.finish()
        await rig.press("ctrl+g")
        assert rig.composer.text == "what is pageing?"
        assert "Editing an earlier question" in rig.screen_text()
        rig.composer.put("what is paging?")
        await rig.press("enter")
        prompt = submits(rig.engine)[-1].prompt
        assert isinstance(prompt, ChatPrompt)
        assert [m.content for m in prompt.messages] == ["what is paging?"]
        assert "version 2 of 2" in rig.screen_text()


async def test_escape_leaves_the_editing_and_brings_the_draft_back(launch: Launch) -> None:
    async with launch() as rig:
        await rig.send("one")
        await rig.finish()
        await rig.press(*"draft")
        await rig.press("ctrl+g")
        assert rig.composer.text == "one"
        await rig.press("escape")
        assert rig.composer.text == "draft"
        assert "Editing" not in rig.screen_text()


async def test_the_last_answer_is_copied_as_markdown(launch: Launch) -> None:
    async with launch() as rig:
        await rig.press("ctrl+o")
        assert "no answer to copy" in rig.notices()[-1]
        await rig.send("go")
        await rig.finish()
        await rig.press("ctrl+o")
        assert rig.app.clipboard == ANSWER


async def test_tabs_open_close_and_come_back(launch: Launch) -> None:
    async with launch(names=("one", "two")) as rig:
        await rig.press("ctrl+n")
        assert [s.name for s in rig.workspace.sessions] == ["one", "two", "chat 1"]
        await rig.press("f4")
        assert [s.name for s in rig.workspace.sessions] == ["one", "two"]
        assert "Ctrl+T brings it back" in rig.notices()[-1]
        await rig.press("ctrl+t")
        assert rig.session.name == "chat 1"


async def test_tabs_are_chosen_closed_and_opened_with_the_mouse(launch: Launch) -> None:
    async with launch(names=("one", "two")) as rig:
        await rig.pilot.click("#tabs", offset=(14, 0))
        await rig.settle()
        assert rig.session.name == "two"
        column = rig.screen_text().splitlines()[0].index("×")
        await rig.pilot.click("#tabs", offset=(column, 0))
        await rig.settle()
        assert [s.name for s in rig.workspace.sessions] == ["one"]
        await rig.pilot.click("#tabs", offset=(rig.screen_text().splitlines()[0].index("+"), 0))
        await rig.settle()
        assert len(rig.workspace.sessions) == 2


async def test_many_tabs_scroll_so_that_the_active_one_is_seen(launch: Launch) -> None:
    async with launch(size=(80, 24), names=tuple(f"session {n}" for n in range(20))) as rig:
        line = rig.screen_text().splitlines()[0]
        assert "1 session 0 ×" in line
        assert "›" in line
        for _ in range(19):
            await rig.press("ctrl+pagedown")
        line = rig.screen_text().splitlines()[0]
        assert "20 session 19 ×" in line
        assert line.startswith("‹")


async def test_a_session_is_renamed(launch: Launch) -> None:
    async with launch() as rig:
        await rig.press("f7", *"plan", "enter")
        assert rig.session.name == "plan"
        assert "1 plan ×" in rig.screen_text()
        await rig.press("f7", "x", "escape")
        assert rig.session.name == "plan"


async def test_the_session_list_searches_opens_and_deletes(launch: Launch) -> None:
    async with launch(names=("one", "two", "three")) as rig:
        await rig.send("about xylophones")
        await rig.finish()
        await rig.press("f4")
        closed = [s.name for s in rig.workspace._closed]
        for _ in range(100):
            if len(rig.workspace.store.search("")) == 3:
                break
            await rig.pilot.pause(0.05)
        await rig.press("f9")
        assert isinstance(rig.app.screen, SessionsScreen)
        await rig.press(*"xylo")
        assert closed[0] in rig.screen_text()
        await rig.press("enter")
        assert rig.session.name == closed[0]
        await rig.press("f4", "f9", *"xylo", "delete")
        assert "Press Delete again" in rig.screen_text()
        await rig.press("delete")
        assert "is deleted" in rig.screen_text()
        await rig.press("escape", "ctrl+t")
        assert closed[0] not in [s.name for s in rig.workspace.sessions]


async def test_the_context_meter_is_exact_and_waits_for_a_pause_in_typing(launch: Launch) -> None:
    async with launch() as rig:
        await rig.press(*"one two")
        assert "context 10 / 4096 tokens · 0 %" in rig.screen_text()
        asked = [c for c in rig.engine.commands if isinstance(c, tuple) and c[0] == "count"]
        assert len(asked) == 1
        await rig.press("enter")
        await rig.run(20)
        assert "context 30 / 4096 tokens · 1 %" in rig.screen_text()


async def test_a_dead_engine_is_said_at_once_and_comes_back_by_itself(launch: Launch) -> None:
    async with launch() as rig:
        await rig.send("go")
        await rig.run(10)
        rig.engine.die("the engine was killed by SIGKILL")
        await rig.settle(0.1)
        text = rig.screen_text()
        assert "✗ dead" in text
        assert "killed by SIGKILL; starting again" in text
        for _ in range(20):
            await rig.settle(1.0)
            if rig.engine.starts == 2:
                break
        await rig.settle()
        await rig.run(5)
        text = rig.screen_text()
        assert "● running" in text
        assert "version 2 of 2" in text
        assert "asked again after the engine stopped" in text


async def test_an_engine_that_cannot_start_says_what_to_do(launch: Launch) -> None:
    async with launch(size=(140, 30), auto_ready=False) as rig:
        rig.engine.die("model.safetensors is truncated.", restartable=False)
        await rig.settle()
        assert "model.safetensors is truncated. Mend that, then Ctrl+P, Restart engine" in rig.screen_text()


async def test_a_silent_engine_is_shown_with_the_age_of_its_last_sign_of_life(launch: Launch) -> None:
    async with launch() as rig:
        rig.engine.silence = 7.2
        await rig.settle()
        assert "! silent" in rig.screen_text()
        assert "no sign of life for 7 s" in rig.screen_text()
        rig.engine.silence = 0.0
        await rig.settle()
        assert "● ready" in rig.screen_text()


async def test_one_can_type_and_send_before_the_engine_is_ready(launch: Launch) -> None:
    async with launch(auto_ready=False) as rig:
        assert "◌ loading" in rig.screen_text()
        await rig.send("early")
        assert "waiting for the engine" in rig.screen_text()
        rig.engine.become_ready()
        await rig.settle()
        await rig.finish()
        assert "Paged attention" in rig.screen_text()


async def test_a_refused_prompt_shows_the_engine_s_sentence(launch: Launch) -> None:
    from inference.protocol import Finished, FinishReason, Timings

    async with launch() as rig:
        await rig.send("too long")
        (request_id,) = rig.engine.running
        rig.engine.running.clear()
        rig.engine.drain()
        sentence = "The prompt has 9000 tokens, and the context holds 4096."
        rig.engine.events.append(Finished(request_id, FinishReason.ERROR, Timings(0, 0, 0, 9000, 0), sentence))
        await rig.settle()
        assert "error" in rig.screen_text()
        assert sentence in rig.screen_text()


async def test_every_command_is_in_the_palette(launch: Launch) -> None:
    async with launch() as rig:
        names = [command.title for command in rig.app.get_system_commands(rig.app.screen)]
        for wanted in (
            "New tab (Ctrl+N)",
            "Switches (F8)",
            "Theme",
            "Export to Markdown",
            "Restart engine",
            "Quit (Ctrl+Q)",
        ):
            assert wanted in names
        await rig.press("ctrl+p", *"new tab")
        await rig.pilot.pause(0.3)
        await rig.press("enter")
        await rig.pilot.pause(0.1)
        assert len(rig.workspace.sessions) == 2


async def test_help_lists_every_key(launch: Launch) -> None:
    async with launch(size=(120, 60)) as rig:
        await rig.press("f1")
        assert isinstance(rig.app.screen, HelpScreen)
        text = rig.screen_text()
        for key in ("Ctrl+J", "Ctrl+PageUp", "F4", "Ctrl+T", "F9", "Ctrl+O"):
            assert key in text
        await rig.press("escape")
        assert isinstance(rig.app.screen, ChatScreen)


async def test_export_writes_the_session(launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with launch(names=("plan",)) as rig:
        await rig.send("go")
        await rig.finish()
        rig.chat.action_export()
        (path,) = tmp_path.glob("plan-*.md")
        assert "**Paged attention**" in path.read_text()


async def test_the_dock_is_beside_the_chat_or_in_its_place(launch: Launch) -> None:
    async with launch(size=(120, 40)) as rig:
        assert "Requests" in rig.screen_text()
        await rig.press("f2")
        assert "Requests" not in rig.screen_text()
    async with launch(size=(80, 24)) as rig:
        assert "Requests" not in rig.screen_text()
        await rig.press("f2")
        text = rig.screen_text()
        assert all(title in text for title in ("KV cache", "Batch", "Requests", "Speed"))
        await rig.press("f2")
        assert "Ask something below" in rig.screen_text()


async def test_a_narrow_window_says_what_it_lacks_and_still_chats(launch: Launch) -> None:
    async with launch(size=(40, 20)) as rig:
        assert "small window (40x20)" in rig.screen_text()
        await rig.send("go")
        await rig.finish()
        assert "max_num_seqs" in rig.screen_text()
        await rig.press("f2")
        assert "60 columns" in rig.notices()[-1]


async def test_a_problem_of_the_store_is_said_and_the_chat_goes_on(launch: Launch) -> None:
    async with launch() as rig:
        rig.workspace.store.problem = "Chats are not being saved (disk full): trying again"
        await rig.settle()
        assert "disk full" in rig.notices()[-1]
        await rig.send("go")
        await rig.finish()
        rig.workspace.store.problem = ""
        await rig.settle()
        assert "saved again" in rig.notices()[-1]


async def test_all_tabs_are_back_at_the_next_start(launch: Launch) -> None:
    async with launch(names=("one", "two")) as rig:
        await rig.send("go")
        await rig.finish()
        await rig.press("ctrl+pagedown")
    async with launch() as rig:
        assert [s.name for s in rig.workspace.sessions] == ["one", "two"]
        assert rig.session.name == "two"
        await rig.press("ctrl+pageup")
        assert "Paged attention" in rig.screen_text()
