"""Short forms keep what says most: how to read a result again, what a call did, how a text begins and ends."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from inference.tools.markup import parse_answer
from inference.tools.results import STORED_OVER
from inference.tools.shortening import KEPT_ARGUMENT, calls_in_short, clipped, result_in_short

values = st.text(max_size=20) | st.integers() | st.integers(1, 900).map(lambda n: "long\n" * n) | st.lists(st.text())
calls = st.dictionaries(st.text("abcdef", min_size=1, max_size=8), values, max_size=4)


@given(st.lists(calls, max_size=4))
def test_calls_keep_all_but_their_long_arguments(arguments: list[dict[str, object]]) -> None:
    written = [json.dumps({"name": "create_file", "arguments": each}) for each in arguments]
    text = "\n".join(["I write it.", *(f"<tool_call>\n{call}\n</tool_call>" for call in written)])
    short = calls_in_short(text)
    long = [name for each in arguments for name, v in each.items() if len(json.dumps(v)) > KEPT_ARGUMENT * 6]
    assert (short == text) <= (not long)
    answer = parse_answer(short)
    assert answer.text == "I write it."
    for call, each in zip(answer.calls, arguments, strict=True):
        assert call.name == "create_file"
        assert call.arguments.keys() == each.keys()
        for name, value in call.arguments.items():
            assert value == each[name] or "characters left out" in value
            assert len(json.dumps(value, ensure_ascii=False)) <= KEPT_ARGUMENT
    assert calls_in_short(short) == short


def test_a_long_call_that_could_not_be_read_is_left_out_as_a_whole() -> None:
    short = calls_in_short('I write it.\n<tool_call>\n{"name": "create_file", "arguments": {"content": "' + "x" * 5000)
    assert short == "I write it.\n[a call that could not be read was left out]"


@given(st.text(max_size=2 * STORED_OVER))
def test_a_short_result_stays_and_a_long_one_is_a_line(text: str) -> None:
    short = result_in_short(text, "0a1b2c3d4e")
    assert short == text if len(text) <= STORED_OVER else "0a1b2c3d4e" in short
    assert result_in_short(short, "0a1b2c3d4e") == short


@given(st.text(max_size=400), st.integers(-5, 400))
def test_a_clipped_text_begins_and_ends_as_it_did(text: str, most: int) -> None:
    short = clipped(text, most)
    if len(text) <= most:
        assert short == text
        return
    begin, _, end = short.partition("[")[0], 0, short.rpartition("]")[2]
    assert text.startswith(begin.removesuffix("\n")) or "[" in text
    assert text.endswith(end.removeprefix("\n")) or "]" in text
    assert len(short) <= max(0, most) + 40
