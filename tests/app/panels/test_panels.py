"""The four drawings, as pure functions of a snapshot: numbers beside bars, legends, nothing cut in the middle."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from app.paint import line_text, text_of
from app.panels import batch, kv, requests, speed
from app.panels.draw import cells, graph, number
from app.panels.telemetry import RequestView, Reuse, Series, Share, Snapshot, StepBar
from inference.protocol import BlockCounts

BUSY = Snapshot(
    step=1842,
    running=2,
    waiting=1,
    blocks=BlockCounts(200, 50, 150),
    budget=256,
    step_seconds=0.024,
    bars=tuple(StepBar(n, 128 if n % 10 == 0 else 0, 3) for n in range(1800, 1843)),
    shares=(Share("plan", 128, 0), Share("code", 0, 1), Share("漢字の話", 0, 1)),
    requests=(
        RequestView("a", "plan", "PREFILL", 512, 128, 0, 8),
        RequestView("b", "code", "DECODE", 40, 90, 50, 6, 21.5),
        RequestView("c", "logs", "WAIT", 90, 0, 0, 0, why="token budget spent (short of 90)"),
        RequestView("d", "a very long session name", "stop", 12, 40, 28, 0, 30.0, live=False),
    ),
    decode=Series((0, 10, 20, 40), 38.4),
    prefill=Series((0, 0, 128, 0), 64),
    step_ms=Series((20, 20, 24, 22), 24),
    ttft=(0.2, 0.4),
)
DRAWINGS = (kv.draw, batch.draw, requests.draw, speed.draw)


@pytest.mark.parametrize("draw", DRAWINGS)
@given(width=st.integers(24, 80), height=st.integers(4, 20), busy=st.booleans())
def test_every_drawing_fits_its_panel(draw, width: int, height: int, busy: bool) -> None:  # type: ignore[no-untyped-def]
    for line in draw(BUSY if busy else Snapshot(), width, height)[:height]:
        assert cell_len(line_text(line)) <= max(width, 41 if draw is requests.draw else 0)


def test_kv_shows_bar_percent_counts_and_who_holds_what() -> None:
    lines = text_of(kv.draw(BUSY, 40, 6)).splitlines()
    assert lines[0].endswith(" 25 %")
    assert lines[0].count("■") == round(34 * 0.25)
    assert "50 of 200 blocks used" in lines[1]
    assert lines[2].startswith("plan")
    assert lines[2].endswith("8 blocks")


def test_kv_without_requests_explains_itself() -> None:
    text = " ".join(text_of(kv.draw(replace(BUSY, requests=()), 48, 6)).split())
    assert "All share the pool, which has room for 3200 tokens" in text


def test_kv_says_what_the_prefix_cache_saved() -> None:
    found = replace(BUSY, reuse=Reuse(tokens=200, cached=150))
    assert "prefix cache: 75 % hit, 150 tokens saved" in text_of(kv.draw(found, 48, 6))
    assert "prefix cache" not in text_of(kv.draw(BUSY, 48, 6)), "nobody was looked up yet"


def test_kv_counts_the_sessions_that_have_no_line() -> None:
    many = tuple(RequestView(str(n), f"s{n}", "DECODE", 1, 1, 1, 2) for n in range(9))
    assert "and 6 more sessions: 12 blocks" in text_of(kv.draw(replace(BUSY, requests=many), 48, 6))


def test_batch_shows_prefill_on_top_of_decode_and_both_however_small() -> None:
    lines = text_of(batch.draw(BUSY, 48, 12)).splitlines()
    assert lines[0].lstrip().startswith("131▏")
    chart = [line for line in lines if "▏" in line]
    assert "▓" in chart[0]
    assert "▒" not in chart[0]
    assert set(chart[-1][5:].strip()) == {"▒"}
    assert "step 1842 3 tokens in 24 ms" in text_of(batch.draw(BUSY, 48, 12))


def test_batch_gives_each_session_s_tokens_of_the_latest_step() -> None:
    text = text_of(batch.draw(BUSY, 48, 12))
    assert "plan       ▓▓▓▓▓▓▓ 128" in text
    assert "code       ▒ 1" in text


def test_batch_shows_drafts_between_decode_and_prefill() -> None:
    drafting = replace(
        BUSY, bars=(StepBar(7, 40, 3, 12),), shares=(Share("plan", 40, 0), Share("code", 0, 1, drafts=4))
    )
    lines = text_of(batch.draw(drafting, 48, 12)).splitlines()
    column = [line[-1] for line in lines if "▏" in line]
    assert "".join(column) == "▓" * column.count("▓") + "▚" * column.count("▚") + "▒" * column.count("▒")
    assert set(column) == set("▓▚▒")
    assert "step 7 55 tokens in 24 ms ▓ 40 ▒ 3 ▚ 12" in text_of(batch.draw(drafting, 48, 12))
    assert "code       ▒▚ 5" in text_of(batch.draw(drafting, 48, 12))


@given(st.integers(0, 3), st.integers(0, 90), st.integers(0, 900), st.integers(3, 12))
def test_a_column_shows_every_kind_and_never_grows_out_of_its_panel(
    decode: int, drafts: int, prefill: int, height: int
) -> None:
    column = batch._column(StepBar(1, prefill, decode, drafts), max(1, decode + drafts + prefill), height)
    assert len(column) <= height
    assert {role for _, role in column} == {
        role for role, tokens in (("decode", decode), ("draft", drafts), ("prefill", prefill)) if tokens
    }


def test_requests_have_a_row_each_and_say_why_one_waits() -> None:
    lines = text_of(requests.draw(BUSY, 48, 10)).splitlines()
    assert lines[0].split() == ["session", "state", "prompt", "comp.", "out", "blks", "tok/s"]
    assert lines[1].split() == ["plan", "PREFILL", "512", "128", "0", "8", "-"]
    assert lines[2].split() == ["code", "DECODE", "40", "90", "50", "6", "21.5"]
    assert lines[4].strip() == "waits: token budget spent (short of 90)"
    assert lines[5].split()[-5:] == ["12", "40", "28", "-", "30.0"]


def test_speed_has_numbers_beside_its_graphs() -> None:
    text = text_of(speed.draw(BUSY, 48, 8))
    assert "decode     38.4 tok/s  peak 40.0" in text
    assert "step time  24.0 ms" in text
    assert "TTFT       0.40 s      mean of last 2: 0.30 s" in text


def test_graphs_scale_to_their_peak_and_show_the_smallest_value() -> None:
    assert graph([0, 0.01, 4, 8], 6, 1) == ["   ▁▄█"]
    assert graph([8, 4], 2, 2) == ["█ ", "██"]


def test_bars_are_never_empty_for_something_and_never_too_long() -> None:
    assert [cells(v, 100, 10) for v in (0, 1, 50, 100, 300)] == [0, 1, 5, 10, 10]


def test_numbers_stay_short() -> None:
    assert [number(v) for v in (0, 0.42, 8.54, 132.2, 12_345)] == ["0", "0.42", "8.5", "132", "12k"]
