"""Text with tool calls in it: cards instead of markup, at every moment of the stream, and the same at the end."""

from __future__ import annotations

import json
import random

from hypothesis import given
from hypothesis import strategies as st
from rich.style import Style

from app.chat.body import Body
from app.chat.toolcard import CallFace
from inference.tools.definition import Effect
from inference.tools.receipts import CallState, Decision, Receipt

CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "12 * 7"}}\n</tool_call>'
PIECES = [
    "words and more words ", "\n", "\n\n", "- item\n", "```\ncode\n```\n", "a < b ", "<b>", "| a | b |\n|---|---|\n",
    CALL, f"{CALL}\n{CALL}\n", '<tool_call>\n{"name": "clock"', "</tool_call>", "漢字 ",
]  # fmt: skip


def plain(_role: str) -> Style:
    return Style.null()


def whole(text: str, *faces: CallFace, width: int = 60) -> list[str]:
    body = Body(plain, width, calls=True)
    body.whole(text, faces)
    return [strip.text.rstrip() for strip in body.lines]


def receipt(state: CallState, result: str = "", **changes: object) -> Receipt:
    values = {"effect": Effect.READS, "began": 10.0, "ended": 10.25, "result": result} | changes
    return Receipt("id", "turn", 0, "calculator", {"expression": "12 * 7"}, state=state, **values)  # type: ignore[arg-type]


@given(st.lists(st.sampled_from(PIECES), max_size=30), st.integers(12, 90), st.integers(0, 2**32))
def test_streamed_it_shows_no_markup_and_redraws_all_that_changed(parts: list[str], width: int, seed: int) -> None:
    source, chance, at = "".join(parts), random.Random(seed), 0
    body = Body(plain, width, calls=True)
    while at < len(source):
        at += chance.randint(1, 40)
        before = list(body.lines)
        changed = body.update(source[:at], ())
        assert [s.text for s in body.lines[:changed]] == [s.text for s in before[:changed]]
        shown = "".join(s.text for s in body.lines)
        assert "tool_call" not in shown.replace(" ", "").replace("atoolcall", "")
        assert all(strip.cell_length <= max(width, 12) for strip in body.lines if "⚙" in strip.text)


@given(st.lists(st.sampled_from([p for p in PIECES if p.count("<tool_call>") == p.count("</tool_call>")]), max_size=30))
def test_at_its_end_a_stream_reads_as_when_drawn_whole(parts: list[str]) -> None:
    source = "".join(parts) + "The end"
    body = Body(plain, 60, calls=True)
    for at in range(0, len(source) + 7, 7):
        body.update(source[:at], ())
    assert [s.text.rstrip() for s in body.lines] == whole(source)


def test_a_call_between_words() -> None:
    face = CallFace(receipt(CallState.DONE, "84"))
    assert whole(f"Let me compute.\n{CALL}\nDone.", face) == [
        "Let me compute.", "", "▏ ⚙ calculator  expression: 12 * 7  ✓ done · 0.2 s", "▏   → 84", "", "Done.",
    ]  # fmt: skip


def test_a_malformed_call_says_what_is_wrong_with_it() -> None:
    text = "\n".join(whole("<tool_call>\n{'name': broken}\n</tool_call>", CallFace(missing="not made")))
    assert "⚙ …  not made" in text
    assert "is not valid JSON" in text


def test_what_a_user_wrote_calls_nothing() -> None:
    body = Body(plain, 60, calls=False)
    body.whole(f"What does {CALL} mean?", ())
    assert "⚙" not in "".join(strip.text for strip in body.lines)
    assert "tool_call" in "".join(strip.text for strip in body.lines)


@given(st.sampled_from(list(CallState)), st.text(max_size=400), st.booleans(), st.integers(20, 120))
def test_any_result_fits_and_is_bounded_until_it_is_opened(
    state: CallState, result: str, opened: bool, width: int
) -> None:
    face = CallFace(receipt(state, result, decision=Decision.ONCE), opened=opened)
    lines = whole(CALL, face, width=width)
    assert opened or len(lines) <= 4 + 4 + 4
    assert not any(ord(c) < 32 or c in "\u202e\u200b" for line in lines for c in line)


def test_long_arguments_stand_below_and_are_cut_until_opened() -> None:
    source = f"<tool_call>{json.dumps({'name': 'create_file', 'arguments': {'content': 'x' * 500}})}</tool_call>"
    assert sum("xxx" in line for line in whole(source)) in (1, 2)
    assert "more lines" in "\n".join(whole(source))
    assert sum("xxx" in line for line in whole(source, CallFace(opened=True))) > 8
