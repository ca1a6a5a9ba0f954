"""A conversation that outgrows the context is folded before it is sent; all of it stays, and can be sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.sessions.session import TurnState
from inference.protocol import ChatPrompt, Submit
from inference.tools.compaction import LEFT_OUT, Room
from inference.tools.receipts import CallState
from tests.app.chat.test_race import run_command
from tests.app.conftest import Rig
from tests.app.tools.conftest import READ, at_rest, call, until, with_tools

ENGINE = {"context": 2048, "num_blocks": 8}
ROOM = Room(2048)
SMALL = {"context": 1024, "num_blocks": 8}


def script(command: Submit) -> str:
    assert isinstance(command.prompt, ChatPrompt)
    last = command.prompt.messages[-1]
    if last.content.startswith("Summarize our conversation"):
        return "They read notes."
    return READ if last.content == "read" else "Noted." if last.role == "tool" else "Talk. " * 150


def prompts(rig: Rig) -> list[ChatPrompt]:
    return [c.prompt for c in rig.engine.commands if isinstance(c, Submit) and isinstance(c.prompt, ChatPrompt)]


def counts(rig: Rig) -> int:
    return sum(isinstance(c, tuple) and c[0] == "count messages" for c in rig.engine.commands)


async def ask(rig: Rig, text: str) -> None:
    before = len(prompts(rig))
    await rig.send(text)
    while len(prompts(rig)) == before or rig.workspace.under_way(rig.session):
        rig.engine.finish_all()
        await rig.settle(0.0)
        await asyncio.sleep(0.01)


async def test_old_results_are_folded_before_the_prompt_no_longer_fits(launch: Callable[..., Any], work: Path) -> None:
    (work / "notes.md").write_text("\n".join("a b c d e f g h" for _ in range(80)))
    async with launch(script=script, **ENGINE) as rig:
        with_tools(rig, work)
        for _ in range(3):
            await ask(rig, "read")
        assert max(rig.engine._count(prompt) for prompt in prompts(rig)) <= ROOM.limit
        results = [m.content for m in prompts(rig)[-1].messages if m.role == "tool"]
        assert "an older result of" in results[0]
        assert results[-1].startswith("a b c")
        assert any("folded, to make room" in notice for notice in rig.notices())
        rig.transcript.action_top()
        await rig.settle()
        assert "folded: the model sees one line of it" in rig.screen_text()
        first = next(iter(rig.session.receipts.values()))
        assert first.result.startswith("a b c")
        await run_command(rig, "Undo the folding")
        whole = rig.session.prompt(until=rig.session.head)
        assert all(m.content.startswith("a b c") for m in whole.messages if m.role == "tool")
    async with launch(script=script, **ENGINE) as rig:
        assert rig.session.tools.folds.refused


async def test_a_long_argument_of_an_old_call_is_folded_and_stays_on_the_screen(
    launch: Callable[..., Any], work: Path
) -> None:
    text = "a line of the file\n" * 400
    made = call("create_file", path="long.md", content=text)

    def writes(command: Submit) -> str:
        return made if command.prompt.messages[-1].content == "write" else script(command)  # type: ignore[union-attr]

    async with launch(script=writes, **ENGINE) as rig:
        with_tools(rig, work)
        await rig.send("write")
        await until(rig, lambda: rig.engine.running)
        await rig.finish()
        await until(rig, lambda: rig.workspace.exchanges.of(rig.session) and "▸No" in rig.screen_text())
        await rig.press("right", "enter")
        await until(rig, lambda: at_rest(rig))
        assert (work / "long.md").read_text() == text
        await ask(rig, "and now?")
        answer = prompts(rig)[-1].messages[1]
        assert "long.md" in answer.content
        assert "characters left out" in answer.content
        assert any("arguments of tool calls in 1 older answer folded" in notice for notice in rig.notices())
        rig.transcript.action_top()
        await rig.settle()
        assert "folded: the model sees no long arguments of it" in rig.screen_text()
        assert rig.session.path()[1].text == made


async def test_a_file_that_is_larger_than_the_context_is_read_to_its_end(
    launch: Callable[..., Any], work: Path
) -> None:
    (work / "notes.md").write_text("".join(f"{n} b c d e\n" for n in range(2600)))
    assert (work / "notes.md").stat().st_size > 30_000

    def reads_on(command: Submit) -> str:
        assert isinstance(command.prompt, ChatPrompt)
        last = command.prompt.messages[-1]
        if last.content == "read":
            return call("read_file", path="notes.md", lines=5000)
        if last.role == "tool" and "reads on" in last.content:
            start = int(last.content.rsplit("start=", 1)[1].split(")")[0].split(" ")[0])
            return call("read_result", call_id=first_call(rig), start=start)
        return "Read."

    def first_call(rig: Rig) -> str:
        return next(iter(rig.session.receipts))

    async with launch(script=reads_on, **ENGINE) as rig:
        with_tools(rig, work)
        await ask(rig, "read")
        await until(rig, lambda: at_rest(rig))
        receipts = list(rig.session.receipts.values())
        assert len(receipts) > 5, "each round reads on"
        assert [r.state for r in receipts[:8]] == [CallState.DONE] * 8
        assert max(rig.engine._count(prompt) for prompt in prompts(rig)) <= ROOM.limit
        assert all(t.state is TurnState.DONE and t.reason == "stop" for t in rig.session.path() if not t.is_question)


async def test_several_large_results_of_one_round_share_the_room(launch: Callable[..., Any], work: Path) -> None:
    (work / "notes.md").write_text("a b c d e f\n" * 2600)

    def reads(command: Submit) -> str:
        last = command.prompt.messages[-1]  # type: ignore[union-attr]
        return "\n".join([READ] * 6) if last.content == "read" else "Noted."

    async with launch(script=reads, **ENGINE) as rig:
        with_tools(rig, work)
        await ask(rig, "read")
        await until(rig, lambda: at_rest(rig))
        assert rig.session.path()[-1].text == "Noted."
        results = [m.content for m in prompts(rig)[-1].messages if m.role == "tool"]
        assert len(results) == 6
        assert all("a b c" in result and "reads on" in result for result in results)


async def test_with_tools_only_the_first_prompt_waits_to_be_counted(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=lambda command: "Yes.", **ENGINE) as rig:
        with_tools(rig, work)
        for number in range(5):
            await ask(rig, f"question {number}")
            assert counts(rig) == 1, "schemas are guessed to take more than they do"
        await rig.press("ctrl+n")
        await ask(rig, "elsewhere")
        assert counts(rig) == 1


async def test_old_turns_are_summed_up_by_the_model_itself(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script, **SMALL) as rig:
        with_tools(rig, work)
        for number in range(7):
            await ask(rig, f"question {number}")
        assert max(rig.engine._count(prompt) for prompt in prompts(rig)) <= Room(1024).limit
        last = prompts(rig)[-1]
        assert [(m.role, m.content) for m in last.messages[:2]] == [
            ("user", LEFT_OUT),
            ("assistant", "They read notes."),
        ]
        assert "question 0" not in [m.content for m in last.messages]
        assert last.messages[-1].content == "question 6"
        assert len(rig.session.path()) == 14
        assert any("older messages summarized, to make room" in notice for notice in rig.notices())
        kept = next(turn for turn in rig.session.path() if rig.session.summary_above(turn))
        rig.transcript.selected = kept.id
        rig.transcript.action_select(0)
        await rig.settle()
        assert rig.screen_text().count("summed up for the model") == 1
        await run_command(rig, "Undo the folding")
        assert len(rig.session.prompt(until=rig.session.head).messages) == 14
        await run_command(rig, "Fold when it gets long")
        await ask(rig, "question 7")
        assert [*rig.session.tools.folds.summaries.values()][-1:] == ["They read notes."]
    async with launch(script=script, **SMALL) as rig:
        assert "They read notes." in rig.session.prompt(until=rig.session.head).messages[1].content


async def test_escape_while_room_is_made_asks_nothing_more(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script, **SMALL) as rig:
        with_tools(rig, work)
        for number in range(9):
            await ask(rig, f"question {number}")
            if rig.session.tools.folds:
                break
        rig.workspace.unfold(rig.session, refused=False)
        await rig.send("one more")
        await rig.settle()
        assert rig.workspace.compactor.doing(rig.session) == "summing up older messages, to make room"
        assert "summing up older messages" in rig.screen_text()
        await rig.press("escape")
        await until(rig, lambda: at_rest(rig))
        assert not rig.session.tools.folds
        assert prompts(rig)[-1].messages[-1].content.startswith("Summarize")
