"""The panel of speculative decoding, as a pure function; and in the inspector."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from app.inspector.screen import InspectorScreen, Map
from app.paint import line_text, text_of
from app.panels import drafts
from app.panels.telemetry import Drafting, Series, Snapshot
from inference.protocol import OptionState, PhaseTimes, Speculation

DECIDED = Speculation("draft", 3, "4 tokens take 1.3 times as long as one and give 2.9", (0.9, 0.8, 0.7, 0.6), 2.9, 4)
BUSY = Snapshot(
    phases=PhaseTimes(compute=0.018, draft=0.002),
    drafting=Drafting(DECIDED, Series((0, 50, 75, 100), 71.2), drafts=30, verifications=10, tokens=31),
)


def options(effective: str, requested: str = "auto", reason: str = "", draft: str = "draft") -> list[OptionState]:
    return [OptionState("draft", "auto", draft, "", False), OptionState("speculation", requested, effective, reason)]


@given(
    width=st.integers(32, 120),
    height=st.integers(1, 30),
    rates=st.lists(st.floats(0, 1), min_size=1, max_size=20),
    depth=st.integers(0, 20),
    verifications=st.integers(0, 50),
    effective=st.sampled_from(["draft", "ngram", "off"]),
)
def test_it_always_fits(
    width: int, height: int, rates: list[float], depth: int, verifications: int, effective: str
) -> None:
    decided = replace(DECIDED, depth=min(depth, len(rates)), acceptance=tuple(rates))
    snapshot = replace(BUSY, drafting=replace(BUSY.drafting, decided=decided, verifications=verifications))
    lines = drafts.draw(snapshot, options(effective, reason="there is no draft model"), width, height)
    assert len(lines) <= height
    assert all(cell_len(line_text(line)) <= width for line in lines)


def test_it_says_who_drafts_how_far_ahead_why_and_what_comes_of_it() -> None:
    text = text_of(drafts.draw(BUSY, options("draft", reason="the model draft drafts"), 60, 9))
    assert "The draft model guesses 3 ahead · break-even at 4" in text
    assert "4 tokens take 1.3 times as long as one and give 2.9." in text
    for place, rate in enumerate((90, 80, 70, 60), 1):
        assert f"{place} ■" in text
        assert f"{rate}%" in text
    assert "accepted  71 %" in text
    assert "3.1 tokens per verification, 2.9 expected" in text
    assert "10 % of the time is drafting (2.0 ms a step)" in text


def test_acceptance_over_time_is_drawn_against_all() -> None:
    line = next(line for line in text_of(drafts.draw(BUSY, options("draft"), 60, 9)).splitlines() if "accepted" in line)
    assert line.endswith("▄▆█"), "half, three quarters, all"


def test_places_beyond_the_depth_stand_back() -> None:
    lines = drafts.draw(BUSY, options("draft"), 60, 9)
    bars = {piece: role for line in lines for piece, role in line if "■" in piece}
    roles = [role for line in lines for piece, role in line if "■" in piece]
    assert sorted(roles) == ["draft", "draft", "draft", "empty"]
    assert len(bars) == 4, "each place has a bar of its own length"


def test_no_drafts_for_now_is_explained() -> None:
    reason = "it would cost more than it gives: 5 tokens take 3.0 times as long as one and give 2.0"
    decided = replace(DECIDED, depth=0, reason=reason, break_even=0)
    text = " ".join(text_of(drafts.draw(replace(BUSY, drafting=Drafting(decided)), options("draft"), 60, 9)).split())
    assert "No drafts now · break-even at none" in text
    assert "It would cost more than it gives: 5 tokens take 3.0 times as long" in text
    assert "no verification in the last 2 s" in text


def test_a_break_even_that_nobody_knows_yet_is_not_called_none() -> None:
    decided = replace(DECIDED, reason="always as many, as asked for", break_even=None)
    text = " ".join(text_of(drafts.draw(replace(BUSY, drafting=Drafting(decided)), options("draft"), 60, 9)).split())
    assert "break-even not measured" in text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (options("off", reason="there is no draft model: start with --draft, or choose ngram"), "start with --draft"),
        (options("off", requested="off"), "switched off: F8 changes that"),
        (options("draft"), "The draft model, draft, drafts as soon as an answer is being written"),
        (options("ngram", requested="ngram"), "The text itself drafts"),
        ([], "when the engine is ready"),
    ],
)
def test_where_nobody_drafts_it_says_what_to_do_and_what_it_is_about(state: list[OptionState], words: str) -> None:
    text = " ".join(text_of(drafts.draw(Snapshot(), state, 44, 18)).split())
    assert words in text
    assert not state or "One step of the model verifies several guesses" in text


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_the_inspector_shows_drafts(launch: Any, size: tuple[int, int]) -> None:
    async with launch(size=size, draft="draft") as rig:
        await rig.send("Why is paging good?")
        await rig.run(5)
        await rig.press("f3")
        assert isinstance(rig.app.screen, InspectorScreen)
        wide = size[0] >= 110
        assert ("guesses 4 ahead" in rig.screen_text()) == wide, "a narrow window shows it in the place of the blocks"
        await rig.press("d")
        text = rig.screen_text()
        for words in ("guesses 4 ahead", "break-even at 4", "right, by place", "tokens per verification", "drafting"):
            assert words in text
        assert "KV blocks" not in text
        await rig.press("d")
        assert "KV blocks" in rig.screen_text()
        assert isinstance(rig.app.focused, Map)
        await rig.press("s")
        assert "1 + 4 drafts gave" in rig.screen_text()


async def test_the_inspector_says_why_nobody_drafts(launch: Any) -> None:
    async with launch() as rig:
        await rig.press("f3", "d")
        text = " ".join(rig.screen_text().replace("│", " ").split())
        assert "there is no draft model: start with --draft, or choose ngram" in text
