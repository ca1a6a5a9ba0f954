"""The inspector on the screen: what it shows, how the cursor moves, and that the engine can be steered from it."""

from __future__ import annotations

from typing import Any

import pytest

from app.inspector.screen import InspectorScreen, Map
from inference.protocol import Resume

SIZES = [(120, 40), (80, 24)]


async def opened(rig: Any) -> Map:
    await rig.press("f3")
    assert isinstance(rig.app.screen, InspectorScreen)
    return rig.app.screen.query_one(Map)


@pytest.mark.parametrize("size", SIZES)
async def test_it_shows_blocks_reasons_and_times_of_sessions_in_one_batch(launch: Any, size: tuple[int, int]) -> None:
    async with launch(size=size, names=("alpha", "beta", "gamma")) as rig:
        for _ in range(3):
            await rig.send("Why is paging good for a cache that many share, and what does a block hold? " * 2)
            await rig.press("ctrl+pagedown")
        await rig.run(20)
        await opened(rig)
        await rig.run(1)
        rig.app.screen.show()
        await rig.pilot.pause()
        text = rig.screen_text()
        assert " Aa" in text, "the first block is shared, the next is not"
        for words in ("alpha", "beta", "gamma", "DECODE", "compute", "16.00 ms", "block 0", "shared"):
            assert words in text
        assert ("prefill" in text) == (size[0] >= 110), "a narrow window has no room for the batch"


async def test_the_cursor_stays_on_the_map(launch: Any) -> None:
    async with launch() as rig:
        map = await opened(rig)
        await rig.press("left", "up", "pageup")
        assert map.cursor == 0
        await rig.press("right", "right", "down")
        assert map.cursor == 2 + 48
        await rig.press(*["pagedown"] * 20)
        assert map.cursor == 255
        assert "block 255" in rig.screen_text()


async def test_a_click_chooses_a_block(launch: Any) -> None:
    async with launch() as rig:
        map = await opened(rig)
        # Inside of border and padding: numbers take six cells, and a gap follows every eighth block.
        await rig.pilot.click(map, offset=(2 + 6 + 9 + 1, 1 + 1))
        assert map.cursor == 48 + 9
        await rig.pilot.click(map, offset=(2 + 6 + 8, 1 + 1))
        assert map.cursor == 48 + 9, "a gap is no block"


async def test_the_engine_is_paused_and_stepped_from_here(launch: Any) -> None:
    async with launch() as rig:
        await opened(rig)
        await rig.press("f5")
        assert rig.engine.commands[-1] == "pause"
        await rig.press("f6")
        assert rig.engine.commands[-1] == Resume(steps=1)
        await rig.press("escape")
        assert rig.app.screen is rig.chat


async def test_events_are_told_in_words(launch: Any) -> None:
    async with launch() as rig:
        await rig.send("Hello?")
        await rig.run(2)
        await rig.press("f5")
        await opened(rig)
        await rig.press("escape")
        rig.chat._change_option("max_num_seqs", 4)
        await rig.settle()
        await rig.press("f5")
        await rig.finish()
        await opened(rig)
        text = rig.screen_text()
        for words in ("engine paused: asked to", "engine goes on", "ended: stop"):
            assert words in text


@pytest.mark.parametrize("size", SIZES)
async def test_from_a_session_to_its_request_its_blocks_and_its_steps(launch: Any, size: tuple[int, int]) -> None:
    async with launch(size=size, names=("alpha", "beta")) as rig:
        for _ in range(2):
            await rig.send("Why is paging good for a cache that many share, and what does a block hold? " * 2)
            await rig.press("ctrl+pagedown")
        await rig.run(6)
        map = await opened(rig)
        assert "beta" in rig.screen_text()
        await rig.press("s")
        assert map.only == "alpha"
        text = rig.screen_text()
        for words in (
            "Request, blocks, steps",
            "running · 0 preemptions",
            "blocks, 1 shared *: 0* 1 2",
            "6 1 decode after",
        ):
            assert words in text
        assert "b" not in next(line for line in text.splitlines() if "   0 A" in line)[:20], (
            "only its own blocks stand out"
        )
        await rig.press("s")
        assert map.only == "beta"
        await rig.press("a")
        assert map.only == ""
        assert "Who got what, and why" in rig.screen_text()
        await rig.press("s")
        await rig.finish()
        rig.app.screen.show()
        await rig.pilot.pause()
        assert "ended: stop" in rig.screen_text()
