"""A session that calls tools: rounds, approval, stopping, two sessions beside each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.chat.approval import ApprovalCard
from inference.protocol import ChatPrompt, Submit
from inference.tools.receipts import CallState, Decision, Receipt
from tests.app.conftest import Rig
from tests.app.tools.conftest import asked, asking, at_rest, call, script, until, with_tools


def receipts(rig: Rig) -> list[Receipt]:
    return list(rig.session.receipts.values())


def submitted(rig: Rig) -> list[ChatPrompt]:
    return [c.prompt for c in rig.engine.commands if isinstance(c, Submit) and isinstance(c.prompt, ChatPrompt)]


async def test_the_model_computes_and_answers_from_the_result(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await rig.send("compute")
        await until(rig, lambda: len(submitted(rig)) == 2 and at_rest(rig))
        first, second = submitted(rig)
        assert "calculator" in {tool["function"]["name"] for tool in first.tools}
        assert first.tools == second.tools
        assert second.messages[: len(first.messages)] == first.messages
        assert [m.role for m in second.messages] == ["user", "assistant", "tool"]
        assert second.messages[-1].content == "84"
        assert [(r.tool, r.state) for r in receipts(rig)] == [("calculator", CallState.DONE)]
        text = rig.screen_text()
        assert "⚙ calculator  expression: 12 * 7  ✓ done" in text
        assert "It says: 84" in text
        assert "tool_call" not in text


async def test_no_moment_of_an_answer_shows_markup(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=lambda command: f"Let me see. {call('clock', what='time')} Done.") as rig:
        with_tools(rig, work)
        await rig.send("hello")
        for _ in range(30):
            await rig.run(1)
            assert "tool_call" not in rig.screen_text()
            assert '"name"' not in rig.screen_text()
        await rig.press("escape")


async def test_reading_asks_nobody_and_changing_does(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await asked(rig, "both")
        assert [r.state for r in receipts(rig)] == [CallState.DONE, CallState.WAITING]
        text = rig.screen_text()
        assert "edit_file wants to change a file" in text
        assert "-port = 8080" in text
        assert "+port = 9090" in text
        assert "▸No" in text
        assert "? waits for your yes" in text
        assert "waiting for a tool" in text
        assert (work / "notes.md").read_text().startswith("port = 8080")
        await rig.press("right", "enter")
        await until(rig, lambda: at_rest(rig))
        assert (work / "notes.md").read_text().startswith("port = 9090")
        assert receipts(rig)[-1].decision is Decision.ONCE
        assert "It says: notes.md was changed" in rig.screen_text()


async def test_enter_and_escape_mean_no(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        for key in ("enter", "escape"):
            await asked(rig, "edit")
            assert isinstance(rig.chat.focused, ApprovalCard)
            await rig.press(key)
            await until(rig, lambda: at_rest(rig))
            assert receipts(rig)[-1].state is CallState.DENIED
            assert "user said no" in rig.screen_text()
            assert rig.chat.focused is rig.composer
        assert "8080" in (work / "notes.md").read_text()


async def test_a_yes_for_the_session_holds_for_the_same_file_and_survives_a_restart(
    launch: Callable[..., Any], work: Path
) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await asked(rig, "edit")
        await rig.press("right", "right")
        assert "every edit of notes.md" in rig.screen_text()
        await rig.press("enter")
        await until(rig, lambda: at_rest(rig))
    (work / "notes.md").write_text("port = 8080\n")
    async with launch(script=script) as rig:
        await rig.send("edit")
        await until(rig, lambda: len(receipts(rig)) == 2 and at_rest(rig))
        assert (work / "notes.md").read_text() == "port = 9090\n"
        assert receipts(rig)[-1].decision is Decision.SESSION


async def test_never_is_not_asked_again_until_it_is_forgotten(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await asked(rig, "edit")
        await rig.press("right", "right", "right", "enter")
        await until(rig, lambda: at_rest(rig))
        await rig.send("edit")
        await until(rig, lambda: len(receipts(rig)) == 2 and at_rest(rig))
        assert receipts(rig)[-1].state is CallState.DENIED
        await rig.send("/tools")
        await until(rig, lambda: "refused: edit_file: every edit of notes.md" in rig.screen_text())
        assert "calculator       reads, runs at once" in rig.screen_text()
        await rig.press("f", "escape")
        await asked(rig, "edit")


async def test_who_is_typing_keeps_the_keyboard(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await rig.send("edit")
        rig.composer.put("half a mess")
        await until(rig, lambda: asking(rig))
        assert rig.chat.focused is rig.composer
        await rig.press("a", "g", "e", "enter")
        assert asking(rig)
        assert rig.composer.text == "half a message"


async def test_escape_kills_a_running_program_and_the_session_rests(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await asked(rig, "run")
        assert "wants to run a program" in rig.screen_text()
        assert "0: 'sleep'" in rig.screen_text()
        await rig.press("right", "enter")
        await until(rig, lambda: receipts(rig)[-1].state is CallState.RUNNING)
        assert "▶ running" in rig.screen_text()
        await rig.press("escape")
        await until(rig, lambda: at_rest(rig))
        assert receipts(rig)[-1].state is CallState.CANCELLED
        assert len(submitted(rig)) == 1
        assert "■ stopped" in rig.screen_text()
        await rig.send("hello")
        await until(rig, lambda: at_rest(rig))
        assert "the user stopped this call" in submitted(rig)[-1].messages[2].content


async def test_closing_the_tab_while_a_call_waits_cancels_it(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        session = rig.session
        await asked(rig, "edit")
        await rig.press("f4")
        await until(rig, lambda: rig.workspace.exchanges.of(session) is None)
        assert [r.state for r in session.receipts.values()] == [CallState.CANCELLED]
        assert not rig.chat.query_one(ApprovalCard).display


async def test_only_the_session_that_is_asked_waits(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        waiting = rig.session
        await asked(rig, "edit")
        await rig.press("ctrl+n")
        assert not rig.chat.query_one(ApprovalCard).display
        await rig.send("compute")
        await until(rig, lambda: at_rest(rig))
        text = rig.screen_text()
        assert "It says: 84" in text
        assert " 1 ? edit" in text
        assert "TOOL" in text
        assert "rests: waiting for a tool: edit_file asks" in text
        assert "1 waiting for a tool" in text
        await rig.press("f3")
        assert "TOOL waiting for a tool: edit_file asks" in rig.screen_text(), (
            "the inspector's list of whys has it, too"
        )
        await rig.press("escape")
        assert rig.workspace.exchanges.of(waiting) is not None
        await rig.press("ctrl+pageup")
        assert "-port = 8080" in rig.screen_text()
        await rig.press("right", "enter")
        await until(rig, lambda: at_rest(rig))
        assert "9090" in (work / "notes.md").read_text()


async def test_what_cannot_be_made_goes_back_to_the_model_as_an_error(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        for question, said in (
            ("broken", "is not valid JSON"),
            ("unknown", "there is no tool 'launch'"),
            ("outside", "error: "),
        ):
            await rig.send(question)
            await until(rig, lambda: at_rest(rig))
            assert said in submitted(rig)[-1].messages[-1].content
            assert "hidden" not in rig.screen_text()
        assert "✗ not made" in rig.screen_text()
        assert "✗ failed" in rig.screen_text()


async def test_a_model_that_calls_for_ever_is_stopped_after_so_many_rounds(
    launch: Callable[..., Any], work: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tools.toml").write_text("max_rounds = 3\n")
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await rig.send("again")
        await until(rig, lambda: len(receipts(rig)) == 4 and at_rest(rig))
        assert [r.state for r in receipts(rig)] == [CallState.DONE] * 3 + [CallState.REFUSED]
        assert "last round of tool calls" in submitted(rig)[-1].messages[-1].content
        assert len(submitted(rig)) == 4


async def test_a_result_that_the_model_makes_up_is_cut(launch: Callable[..., Any], work: Path) -> None:
    made_up = f"{call('calculator', expression='2 + 2')}\n<tool_response>\n5\n</tool_response>\nIt is 5. "

    def answer(command: Submit) -> str:
        assert isinstance(command.prompt, ChatPrompt)
        return made_up + "And so on. " * 50 if command.prompt.messages[-1].role == "user" else "It is four."

    async with launch(script=answer) as rig:
        with_tools(rig, work)
        await rig.send("hello")
        await until(rig, lambda: len(submitted(rig)) == 2 and at_rest(rig))
        assert submitted(rig)[-1].messages[-1].content == "4"
        assert "5" not in submitted(rig)[-1].messages[1].content
        assert "It is 5" not in rig.screen_text()
        assert any(isinstance(c, tuple) and c[0] == "abort" for c in rig.engine.commands)


async def test_without_tools_a_call_is_shown_and_not_made(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script) as rig:
        await rig.send("compute")
        await until(rig, lambda: at_rest(rig))
        assert not submitted(rig)[0].tools
        assert "not made: tools are off in this session" in rig.screen_text()
        assert not receipts(rig)


async def test_a_long_result_is_bounded_until_it_is_opened(launch: Callable[..., Any], work: Path) -> None:
    (work / "notes.md").write_text("\n".join(f"line {n}" for n in range(60)))
    async with launch(script=lambda c: script(c) if c.prompt.messages[-1].role == "user" else "Read.") as rig:
        with_tools(rig, work)
        await rig.send("read")
        await until(rig, lambda: at_rest(rig))
        assert "line 3" in rig.screen_text()
        assert "line 4" not in rig.screen_text()
        assert "… 56 more lines" in rig.screen_text()
        await rig.press("tab", "up", "up", "enter")
        rig.transcript.action_top()
        await rig.settle()
        assert "line 20" in rig.screen_text()


async def test_a_fork_has_the_results_and_none_of_the_permissions(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        await asked(rig, "edit")
        await rig.press("right", "right", "enter")
        await until(rig, lambda: at_rest(rig))
        original = rig.session
        fork = rig.workspace.fork(original)
        assert fork.prompt(until=fork.head) == original.prompt(until=original.head)
        assert fork.tools.on
        assert not fork.tools.grants.decisions
