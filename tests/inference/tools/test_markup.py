"""Reading calls out of streamed text: the same whatever the cuts, and no markup shown."""

import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference.tools.calls import MAX_CALL_CHARS
from inference.tools.markup import (
    CLOSE,
    MARKERS,
    MAX_CALLS,
    OPEN,
    RESPONSE,
    AnswerParser,
    CallRead,
    MadeUp,
    Piece,
    Text,
    parse_answer,
    quote_markers,
)

fragments = st.sampled_from(
    [
        *MARKERS,
        "<tool",
        "_call>",
        "</",
        "<",
        ">",
        '"',
        "\\",
        "\n",
        "{",
        "}",
        '{"name": "calculator", "arguments": {"expression": "1+1"}}',
        '{"name": "x", "arguments": {"t": "</tool_call>"}}',
        '{"name": "x, "arguments": {}}',
        "text ",
        "é<|im_end|>",
    ]
)
answers = st.lists(fragments, max_size=14).map("".join)
names = st.text("abcdefgh_", min_size=1, max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=30) | fragments,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
calls = st.tuples(names, st.dictionaries(names, values, max_size=4))
plain = st.text(st.characters(exclude_characters="<`~", codec="utf-8"), max_size=30)
"""Words without code, in which no call would be one."""


def stream(deltas: list[str]) -> list[Piece]:
    parser = AnswerParser()
    pieces = [piece for delta in deltas for piece in parser.feed(delta)]
    return [*pieces, *parser.finish()]


def joined(pieces: list[Piece]) -> list[Piece]:
    found: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Text) and found and isinstance(found[-1], Text):
            found[-1] = Text(found[-1].text + piece.text)
        else:
            found.append(piece)
    return found


def written(name: str, arguments: dict[str, object], indent: int | None = None) -> str:
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False, indent=indent)
    return f"{OPEN}\n{body}\n{CLOSE}"


@given(answers, st.lists(st.integers(0, 400)))
@example('<tool_call>{"name": "x, "arguments": {}}</tool_call> after\n<tool_call>', [])
def test_cuts_do_not_matter(text: str, cuts: list[int]) -> None:
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    deltas = [text[a:b] for a, b in pairwise(places)]
    whole = joined(stream([text]))
    assert joined(stream(deltas)) == whole
    assert joined(stream(list(text))) == whole


@given(st.lists(st.tuples(plain, calls), max_size=4), plain, st.lists(st.integers(0, 400)))
def test_while_it_streams_nothing_is_shown_but_words(
    parts: list[tuple[str, tuple[str, dict]]], end: str, cuts: list[int]
) -> None:
    text = "".join(before + written(*call) for before, call in parts) + end
    words = "".join(before for before, _ in parts) + end
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    shown = ""
    for piece in stream([text[a:b] for a, b in pairwise(places)]):
        shown += piece.text if isinstance(piece, Text) else ""
        assert words.startswith(shown)
    assert shown == words


raw_strings = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"\\'), max_size=20) | st.lists(
    st.sampled_from([OPEN, CLOSE, "\n", "words ", "{", "}}", "```\n", RESPONSE]), max_size=8
).map("".join)


@given(raw_strings, plain, st.lists(st.integers(0, 200)))
@example(f"before {CLOSE} here\nline2", " after", [])
def test_a_string_may_hold_line_breaks_as_they_are_and_markers(value: str, after: str, cuts: list[int]) -> None:
    """No JSON, but models write it and it means one thing."""
    text = f'{OPEN}\n{{"name": "create_file", "arguments": {{"path": "a", "content": "{value}"}}}}\n{CLOSE}{after}'
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    pieces = stream([text[a:b] for a, b in pairwise(places)])
    (call,) = (piece.call for piece in pieces if isinstance(piece, CallRead))
    assert (call.error, call.arguments) == ("", {"path": "a", "content": value})
    assert "".join(piece.text for piece in pieces if isinstance(piece, Text)) == after


@pytest.mark.parametrize(
    "text",
    [
        f"The marker {OPEN} opens a call, and {CLOSE} closes it.",
        f"The marker `{OPEN}` opens a call, `{CLOSE}` closes it, and `{RESPONSE}` comes back.",
        f'Write `{OPEN}{{"name": "clock"}}{CLOSE}` to see the time.',
        f'An example:\n\n```\n{OPEN}\n{{"name": "clock"}}\n{CLOSE}\n{RESPONSE}\n22:05\n```\nThat is all.',
        f'An example:\n~~~xml\n```\n{OPEN}\n{{"name": "clock"}}\n{CLOSE}\n~~~\nThat is all.',
        f'1. An example:\n   ````\n   ```\n   {OPEN}\n   {{"name": "clock"}}\n   {CLOSE}\n   ```\n   ````',
        f"In the end stands {OPEN}",
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_markers_in_words_and_in_code_are_words(text: str, size: int) -> None:
    assert joined(stream([text[at : at + size] for at in range(0, len(text), size)])) == [Text(text)]


@pytest.mark.parametrize(
    "before",
    [
        "I look.",
        "I look at `notes.md`. ",
        "A stray ` and a stray ``\n",
        "```\ncode\n```\n",
        "Look: ```py\ncode\n```\n",
        "~~~\ncode\n~~~~\n",
        "~~no~~ ",
        f"{OPEN} is a marker.\n",
    ],
)
def test_behind_code_and_words_a_call_is_a_call(before: str) -> None:
    text = f"{before}{written('look', {})}"
    assert [call.name for call in parse_answer(text).calls] == ["look"]
    assert parse_answer(text).text == before.strip()


@given(plain, plain, st.sampled_from(["```", "~~~~", "`"]), calls)
def test_an_example_in_code_is_shown_and_not_made(before: str, after: str, mark: str, call: tuple[str, dict]) -> None:
    """Whatever code it is: what is made is what is written outside of it."""
    body = f'{OPEN}{{"name": "example"}}{CLOSE}'
    code = f"{mark}{body}{mark}" if mark == "`" else f"\n{mark}\n{body}\n{mark}\n"
    text = f"{before}{code}{after}\n{written(*call)}"
    answer = parse_answer(text)
    assert [made.name for made in answer.calls] == [call[0]]
    assert answer.text == f"{before}{code}{after}".strip()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f'{OPEN}{{"name": "a", "x": "say "hi" {CLOSE} here\nline2"}}}}\n{CLOSE} after', "after"),
        (f'{OPEN}{{"name": "a", "arguments": {{"path": "notes}}}}\n{CLOSE} after', "after"),
        (f'{OPEN}{{"name": "a", "x": "notes}}{CLOSE} one {written("b", {})} two', "one  two"),
        (f'{OPEN}{{"name": a", "x": "{CLOSE} {CLOSE}"}}{CLOSE} after', "after"),
        (f"{OPEN}\nclock()\n{CLOSE} after", "after"),
    ],
)
@pytest.mark.parametrize("size", [1, 10_000])
def test_of_a_broken_call_nothing_is_shown_as_words(text: str, shown: str, size: int) -> None:
    pieces = stream([text[at : at + size] for at in range(0, len(text), size)])
    assert "".join(piece.text for piece in pieces if isinstance(piece, Text)).strip() == shown
    reads = [piece.call for piece in pieces if isinstance(piece, CallRead)]
    assert "not valid JSON" in reads[0].error
    assert not any(call.error for call in reads[1:])


@given(st.lists(st.tuples(plain, calls), max_size=5), plain, st.sampled_from([None, 2]))
def test_written_calls_are_read_back(parts: list[tuple[str, tuple[str, dict]]], end: str, indent: int | None) -> None:
    text = "".join(before + written(*call, indent=indent) for before, call in parts) + end
    answer = parse_answer(text)
    assert [(call.name, call.arguments, call.error) for call in answer.calls] == [(*call, "") for _, call in parts]
    assert answer.text == ("".join(before for before, _ in parts) + end).strip()
    assert answer.kept == text
    assert not answer.made_up


@given(plain, calls, plain)
def test_what_follows_a_made_up_result_is_dropped(before: str, call: tuple[str, dict], after: str) -> None:
    begin = f"{before}{written(*call)}"
    answer = parse_answer(f"{begin}\n{RESPONSE}\n42\n</tool_response>{after}{written('edit_file', {})}")
    assert [call.name for call in answer.calls] == [call[0]]
    assert answer.made_up
    assert answer.kept == begin.rstrip()
    assert answer.text == before.strip()


def test_made_up_is_told_once_and_where() -> None:
    pieces = stream(list(f"ab{RESPONSE}1{RESPONSE}2"))
    assert joined(pieces) == [Text("ab"), MadeUp(2)]


@given(calls)
def test_a_call_without_its_closing_marker_counts_if_it_is_whole(call: tuple[str, dict]) -> None:
    whole = written(*call).removesuffix(CLOSE)
    assert parse_answer(whole).calls[0].error == ""
    cut = whole.rstrip()[:-1]
    assert "cut off" in parse_answer(cut).calls[0].error


def test_a_call_that_was_never_closed_ends_where_the_next_begins() -> None:
    answer = parse_answer(f'{OPEN}{{"name": "a"}}\n{OPEN}{{"name": "b"}}{CLOSE}')
    assert [call.name for call in answer.calls] == ["a", "b"]


def test_a_forgotten_quote_does_not_swallow_the_answer() -> None:
    answer = parse_answer(f'{OPEN}\n{{"name": "a, "arguments": {{}}}}{CLOSE} and so on\n{written("b", {})}')
    assert [bool(call.error) for call in answer.calls] == [True, False]
    assert answer.text == "and so on"


def test_a_marker_directly_after_a_string_closes() -> None:
    answer = parse_answer(f'{OPEN}{{"name": "a"{CLOSE} after {OPEN}{{"name": "b", "arguments": {{"x": ""}}}}{CLOSE}')
    assert [bool(call.error) for call in answer.calls] == [True, False]
    assert answer.text == "after"


def test_text_comes_at_once_and_beginnings_of_markers_wait() -> None:
    parser = AnswerParser()
    assert parser.feed("abc <tool") == [Text("abc ")]
    assert parser.feed("box> d") == [Text("<toolbox> d")]
    assert parser.feed("<") == []
    assert parser.finish() == [Text("<")]


def test_only_so_many_calls() -> None:
    answer = parse_answer(written("clock", {}) * (MAX_CALLS + 3))
    assert [bool(call.error) for call in answer.calls] == [False] * MAX_CALLS + [True] * 3


@pytest.mark.parametrize("size", [1, 997, 10**9])
def test_a_call_that_never_ends_costs_no_more_than_its_limit(size: int) -> None:
    text = f'{OPEN}{{"name": "a", "arguments": {{"x": "{"y" * (MAX_CALL_CHARS * 2)}"}}}}{CLOSE}after'
    if size == 1:
        text = text[: MAX_CALL_CHARS + 50] + CLOSE + "after"
    pieces = joined(stream([text[at : at + size] for at in range(0, len(text), size)]))
    reads = [piece for piece in pieces if isinstance(piece, CallRead)]
    assert len(reads) == 1
    assert "longer than" in reads[0].call.error
    assert pieces[-1] == Text("after")


@given(answers)
def test_quoted_text_has_no_control_markers_and_quoting_twice_changes_nothing(text: str) -> None:
    quoted = quote_markers(text)
    assert quote_markers(quoted) == quoted
    for marker in (*MARKERS, "<|im_end|>", "<|im_start|>", "<|endoftext|>"):
        assert marker not in quoted
    assert quoted.replace("< ", "<") == text.replace("< ", "<")
