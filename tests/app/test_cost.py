"""What four streaming sessions cost the user interface, with bounds that only a change of kind can break."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.app.fake_engine import ANSWER

TOKENS = 400


async def test_four_sessions_of_fifty_tokens_a_second_leave_most_of_a_core_free(launch: Callable[..., Any]) -> None:
    async with launch(names=("one", "two", "three", "four"), script=lambda _: ANSWER * 20) as rig:
        for _ in range(4):
            await rig.send("go")
            await rig.press("ctrl+pagedown")
        begun, cpu = time.monotonic(), time.process_time()
        for step in range(TOKENS):
            rig.engine.run(1)
            rig.clock.pass_(0.02)
            await rig.pilot.pause(max(0.0, begun + step * 0.02 - time.monotonic()))
        used = time.process_time() - cpu
        wall = time.monotonic() - begun
        await rig.settle()
        answers = [s.path()[-1] for s in rig.workspace.sessions]
        assert all(a.output_tokens == TOKENS for a in answers), "every token has arrived"
        assert used / wall < 0.8, f"{100 * used / wall:.0f} % of a core"
        hidden = [v for id, kept in rig.transcript._kept.items() if id != rig.session.id for v in kept.values()]
        assert all(v._shown[0] < 200 for v in hidden), "what is not on screen is not drawn"


@pytest.mark.parametrize("begin", ["", "<think>"], ids=["an answer", "a thought"])
async def test_the_cost_of_an_update_does_not_grow_with_the_answer(launch: Callable[..., Any], begin: str) -> None:
    async with launch(script=lambda _: begin + ANSWER * 60) as rig:
        await rig.send("go")

        def update(steps: int) -> float:
            """The cheapest of several updates: what it costs when nothing else runs."""
            times = []
            for _ in range(steps):
                rig.engine.run(1)
                rig.workspace.poll()
                cpu = time.thread_time()
                rig.transcript.sync()
                times.append(time.thread_time() - cpu)
            return sum(sorted(times)[: steps // 2])

        update(100)
        early = update(200)
        update(4000)
        assert update(200) < 4 * early
