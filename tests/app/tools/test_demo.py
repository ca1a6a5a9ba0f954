"""The app on a real engine process with the demo model, which computes, reads a file and edits it by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.main import GlasschatApp
from inference.client import EngineClient
from inference.protocol import EngineConfig, Event, Finished, SamplingParams, StepRecord, Submit
from inference.tools.receipts import CallState
from tests.app.conftest import Clock, Rig, make_app
from tests.app.tools.conftest import asking as is_asking
from tests.app.tools.conftest import at_rest


class Watched(EngineClient):
    """The engine, and all records and endings that it sent."""

    def __init__(self, log: Path) -> None:
        super().__init__("demo", EngineConfig(), log_path=log)
        self.records: list[StepRecord] = []
        self.finished: list[Finished] = []
        self.running: dict[str, Submit] = {}

    def submit(self, command: Submit) -> None:
        self.running[command.request_id] = command
        super().submit(command)

    def drain(self) -> list[Event]:
        found = super().drain()
        for event in found:
            match event:
                case StepRecord():
                    self.records.append(event)
                case Finished():
                    self.finished.append(event)
                    self.running.pop(event.request_id, None)
                case _:
                    pass
        return found


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[Rig, Watched]]:
    link = Watched(folder / "engine.log")
    app: GlasschatApp = make_app(folder / "data", link, time.monotonic)  # type: ignore[arg-type]
    try:
        async with app.run_test(size=(120, 40)) as pilot:
            yield Rig(app, pilot, link, Clock()), link  # type: ignore[arg-type]
    finally:
        app.workspace.shut_down()
        link.close()


async def until(rig: Rig, what: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, rig.screen_text()
        await asyncio.sleep(0.05)
    await rig.settle()


@pytest.mark.slow
async def test_the_demo_model_computes_reads_a_file_and_edits_one_after_a_yes(work: Path, tmp_path: Path) -> None:
    async with running(tmp_path) as (rig, link):
        session = rig.session
        session.params = SamplingParams(temperature=0)
        rig.workspace.set_tools(session, True, str(work))
        await until(rig, lambda: rig.workspace.watch.ready)

        await rig.send("what is 4817 * 26?")
        await until(rig, lambda: session.receipts and at_rest(rig))
        assert [(r.tool, r.result) for r in session.receipts.values()] == [("calculator", "125242")]
        first, second = session.path()[1:]
        assert "125242" in second.text.replace(",", "")
        assert "125242" in rig.screen_text().replace(",", "")
        # The round after the result finds the blocks of the round before: its prompt, and what was answered to it.
        block = link.records[-1].config.block_size
        so_far = first.prompt_tokens + first.output_tokens
        assert link.finished[-1].timings.cached_tokens >= (so_far - 1) // block * block
        assert link.finished[-1].timings.prompt_tokens > so_far

        await rig.send("read notes.md")
        await until(rig, lambda: len(session.receipts) == 2 and at_rest(rig))
        read = list(session.receipts.values())[-1]
        assert read.state is CallState.DONE
        assert read.result.startswith("port = 8080")

        await rig.send("in notes.md replace 8080 with 9090")
        await until(rig, lambda: is_asking(rig))
        assert (work / "notes.md").read_text().startswith("port = 8080")
        assert "-port = 8080" in rig.screen_text()
        await rig.press("right", "enter")
        await until(rig, lambda: at_rest(rig))
        assert (work / "notes.md").read_text().startswith("port = 9090")
        assert list(session.receipts.values())[-1].state is CallState.DONE
        assert not any(markup in rig.screen_text() for markup in ("tool_call", "<think>"))


@pytest.mark.slow
async def test_a_file_larger_than_the_context_can_be_read_again_and_again(work: Path, tmp_path: Path) -> None:
    line = "The cache is paged, and a block holds sixteen tokens, which several prompts can share.\n"
    (work / "notes.md").write_text(line * 400)
    async with running(tmp_path) as (rig, _):
        session = rig.session
        session.params = SamplingParams(temperature=0)
        rig.workspace.set_tools(session, True, str(work))
        await until(rig, lambda: rig.workspace.watch.ready)
        for _ in range(6):
            await rig.send("read notes.md")
            await until(rig, lambda: at_rest(rig))
        assert {turn.reason for turn in session.path() if not turn.is_question} == {"stop"}
        assert all(turn.prompt_tokens < rig.workspace.watch.max_model_len for turn in session.path())
        first = next(iter(session.receipts.values()))
        assert first.result_chars > 30_000
        assert "reads on]" in first.result
        assert session.tools.folds
