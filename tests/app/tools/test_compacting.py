"""A conversation that outgrows the context is folded before it is sent; all of it stays, and can be sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.tools.compacting import LIMIT
from inference.protocol import ChatPrompt, Submit
from inference.tools.compaction import SUMMARY_TOKENS
from tests.app.chat.test_race import run_command
from tests.app.conftest import Rig
from tests.app.fake_engine import MODEL
from tests.app.tools.conftest import READ, at_rest, until, with_tools

MOST = int(MODEL.context_length * LIMIT)


def script(command: Submit) -> str:
    assert isinstance(command.prompt, ChatPrompt)
    last = command.prompt.messages[-1]
    if last.content.startswith("Summarize our conversation"):
        return "They read notes."
    return READ if last.content == "read" else "Noted." if last.role == "tool" else "Talk. " * 300


def prompts(rig: Rig) -> list[ChatPrompt]:
    return [c.prompt for c in rig.engine.commands if isinstance(c, Submit) and isinstance(c.prompt, ChatPrompt)]


async def ask(rig: Rig, text: str) -> None:
    before = len(prompts(rig))
    await rig.send(text)
    while len(prompts(rig)) == before or rig.workspace.under_way(rig.session):
        rig.engine.finish_all()
        await rig.settle(0.0)
        await asyncio.sleep(0.01)


async def test_old_results_are_folded_before_the_prompt_no_longer_fits(launch: Callable[..., Any], work: Path) -> None:
    (work / "notes.md").write_text("\n".join("a b c d e f g h" for _ in range(150)))
    async with launch(script=script) as rig:
        with_tools(rig, work)
        for _ in range(3):
            await ask(rig, "read")
        assert max(rig.engine._count(prompt) for prompt in prompts(rig)) <= MOST
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
    async with launch(script=script) as rig:
        assert rig.session.tools.folds.refused


async def test_old_turns_are_summed_up_by_the_model_itself(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        for number in range(12):
            await ask(rig, f"question {number}")
        assert max(rig.engine._count(prompt) for prompt in prompts(rig)) <= MODEL.context_length
        last = prompts(rig)[-1]
        assert last.messages[0].role == "system"
        assert "They read notes." in last.messages[0].content
        assert "question 0" not in [m.content for m in last.messages]
        assert last.messages[-1].content == "question 11"
        assert len(rig.session.path()) == 24
        kept = rig.session.tools.folds.kept_from
        rig.transcript.selected = kept
        rig.transcript.action_select(0)
        await rig.settle()
        assert "summed up for the model" in rig.screen_text()
    async with launch(script=script) as rig:
        assert "They read notes." in rig.session.prompt(until=rig.session.head).messages[0].content


async def test_a_summary_is_what_comes_behind_the_thought(launch: Callable[..., Any], work: Path) -> None:
    thought = "I was asked for a summary. " * 4

    def thinks(command: Submit) -> str:
        return f"<think>{thought}</think>{script(command)}"

    async with launch(script=thinks) as rig:
        with_tools(rig, work)
        for number in range(12):
            await ask(rig, f"question {number}")
        assert rig.session.tools.folds.summary.startswith("They read notes.")
        assert "think" not in rig.session.tools.folds.summary
        asked = [
            c for c in rig.engine.commands if isinstance(c, Submit) and "Summarize" in c.prompt.messages[-1].content
        ]
        assert all(c.params.max_tokens == SUMMARY_TOKENS + len(thought.strip()) for c in asked), "room for both"


async def test_a_summary_that_never_gets_beyond_the_thought_replaces_nothing(
    launch: Callable[..., Any], work: Path
) -> None:
    def thinks(command: Submit) -> str:
        found = script(command)
        return "<think>well, well" if found == "They read notes." else found

    async with launch(script=thinks) as rig:
        with_tools(rig, work)
        for number in range(12):
            await ask(rig, f"question {number}")
        assert any("Summarize" in p.messages[-1].content for p in prompts(rig))
        assert not rig.session.tools.folds
        assert not any("summarized" in notice for notice in rig.notices())


async def test_escape_while_room_is_made_asks_nothing_more(launch: Callable[..., Any], work: Path) -> None:
    async with launch(script=script) as rig:
        with_tools(rig, work)
        for number in range(14):
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
