"""The block map: put together from records, drawn so that nothing is told by colour alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.inspector.blocks import CACHED, FREE, GROUP, NUMBER, BlockMap, describe, draw, per_row
from app.paint import line_text, text_of
from inference.protocol import (
    BlockChange,
    BlockCounts,
    EngineConfig,
    PhaseTimes,
    RequestRow,
    RequestState,
    StepRecord,
)

SESSIONS = {"r1": "chat 1", "r2": "chat 2", "r3": "chat 3"}


def record(*changes: BlockChange, total: int = 100) -> StepRecord:
    rows = tuple(RequestRow(name, session, RequestState.RUNNING, 5, 0, 5, 1, 0) for name, session in SESSIONS.items())
    return StepRecord(
        1, 0.0, (), (), (), (), rows, BlockCounts(total, 0, total), PhaseTimes(), EngineConfig(), changed_blocks=changes
    )


def a_map() -> BlockMap:
    blocks = BlockMap()
    blocks.engine_ready(100)
    blocks.add(
        record(
            BlockChange(0, ("r1", "r2"), 0, "3fa9c1d2"),
            BlockChange(1, ("r1",), 1, ""),
            BlockChange(2, ("r2",), 1, "00112233"),
            BlockChange(3, (), 0, "44556677"),
        )
    )
    return blocks


def test_a_block_is_told_by_its_letter_alone() -> None:
    blocks = a_map()
    assert [blocks.cell(block)[0] for block in range(5)] == ["A", "a", "b", CACHED, FREE]
    assert blocks.count() == {"private": 2, "shared": 1, "cached": 1, "free": 96}
    assert blocks.held() == [("a", "chat 1", 2), ("b", "chat 2", 2)]


holdings = st.lists(st.lists(st.sampled_from([*SESSIONS, "gone"]), max_size=4), max_size=12)


@given(holdings)
def test_who_holds_what_is_counted_block_by_block(holdings: list[list[str]]) -> None:
    blocks = BlockMap()
    blocks.add(record(*(BlockChange(i, tuple(names), i) for i, names in enumerate(holdings))))
    who = [[SESSIONS.get(name, name) for name in names] for names in holdings]
    for first in SESSIONS.values():
        held = [i for i, names in enumerate(who) if first in names]
        assert blocks.of(first) == [(i, any(name != first for name in who[i])) for i in held]
        for second in SESSIONS.values():
            also = [i for i, names in enumerate(who) if second in names]
            assert blocks.together(first, second) == (len({*held} & {*also}), len(held), len(also))


def test_what_stands_under_the_cursor_is_explained() -> None:
    blocks = a_map()
    texts = [text_of(describe(blocks, block, 60, 9)) for block in range(5)]
    assert "shared, 2 references: chat 1, chat 2" in texts[0]
    assert "tokens 0 to 15 of the text" in texts[0]
    assert "hash 3fa9c1d2" in texts[0]
    assert "1 reference: chat 1" in texts[1]
    assert "tokens 16 to 31" in texts[1]
    assert "being filled" in texts[1]
    assert "cached" in texts[3]
    assert texts[4].startswith("block 4  free")


def test_a_new_engine_begins_with_an_empty_pool() -> None:
    blocks = a_map()
    blocks.engine_ready(7)
    assert blocks.count() == {"private": 0, "shared": 0, "cached": 0, "free": 7}
    assert text_of(draw(BlockMap(), 0, 0, 60, 5)) == "The map appears when the engine is ready."


@given(st.integers(1, 3000), st.integers(20, 130), st.integers(1, 40), st.integers(0, 50))
def test_every_block_has_its_place_and_lines_fit(total: int, width: int, height: int, first_row: int) -> None:
    blocks = BlockMap()
    blocks.engine_ready(total)
    across = per_row(width)
    assert across % GROUP == 0
    lines = draw(blocks, -1, first_row, width, height)
    assert len(lines) <= height
    shown = 0
    for row, line in enumerate(lines):
        text = line_text(line)
        assert len(text) <= max(width, NUMBER + GROUP)
        assert int(text[:NUMBER]) == (first_row + row) * across
        shown += text.count(FREE)
    assert shown == max(0, min(total - first_row * across, height * across))
