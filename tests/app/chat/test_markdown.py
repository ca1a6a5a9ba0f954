"""Markdown drawn while it streams: settled early, equal to the whole at the end, and never raw tool markup."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.style import Style

from app.chat.markdown import MarkdownStream, clean, parser, render

PIECES = [
    "words and more words ", "**bold** ", "*it* ", "\n", "\n\n", "- item\n", "  - sub\n", "* star\n",
    "1. one\n", "2. two\n", "9) nine\n", "- \n", "```python\n", "```\n", "~~~\n", "def f(x):\n    return 1\n",
    "| a | b |\n", "|---|---|\n", "# head\n", "> quote\n", "---\n", "===\n", "    indented\n", "`code` ",
    "[text](http://x.y) ", "漢字 wide ", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "\t", "<b>", "\\", "&amp;",
]  # fmt: skip


def plain(_role: str) -> Style:
    return Style.null()


def named(role: str) -> Style:
    """A style from which the role can be read again."""
    return Style(meta={"role": role})


def lines(source: str, width: int = 60) -> list[str]:
    return [strip.text.rstrip() for strip in render(source, plain, width)]


@given(st.lists(st.sampled_from(PIECES), max_size=40), st.integers(1, 8), st.integers(12, 90), st.integers(0, 2**32))
def test_streamed_in_any_pieces_it_reads_as_when_drawn_whole(
    parts: list[str], times: int, width: int, seed: int
) -> None:
    source = "".join(parts) * times
    chance = random.Random(seed)
    stream, at = MarkdownStream(plain, width), 0
    while at < len(source):
        at += chance.randint(1, 60)
        stream.update(source[:at])
    assert [s.text.rstrip() for s in stream.lines] == [s.text.rstrip() for s in render(source, plain, width)]


@given(st.lists(st.sampled_from(PIECES), max_size=40), st.integers(12, 90))
def test_no_line_is_wider_than_the_pane(parts: list[str], width: int) -> None:
    source = "".join(part for part in parts if "|" not in part and part not in ("> quote\n", "  - sub\n"))
    assert all(strip.cell_length <= width for strip in render(source, plain, width))


@given(st.text())
def test_any_text_at_all_can_be_drawn(source: str) -> None:
    shown = "".join(strip.text for strip in render(source, plain, 40))
    assert not any(ord(c) < 32 and c != "\t" for c in shown)


def test_what_is_settled_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of an update depends on the last block, not on the length of the answer."""
    parsed: list[int] = []
    parse = parser().parse
    monkeypatch.setattr(parser(), "parse", lambda source, env=None: parsed.append(len(source)) or parse(source, env))
    text = "A paragraph of some length.\n\n```python\nx = 1\n```\n\n- one\n- two\n\n" * 200
    stream = MarkdownStream(plain, 60)
    for end in range(0, len(text), 50):
        stream.update(text[:end])
    assert max(parsed) < 200


@pytest.mark.parametrize("block", ["- an item of a list\n", "x = compute(y)  # code\n", "1. step\n"])
def test_a_long_block_is_settled_in_parts(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []
    parse = parser().parse
    monkeypatch.setattr(parser(), "parse", lambda source, env=None: parsed.append(len(source)) or parse(source, env))
    text = ("```python\n" if "code" in block else "") + block * 500
    stream = MarkdownStream(plain, 60)
    for end in range(0, len(text), 40):
        stream.update(text[:end])
    assert max(parsed) < 2500


def test_headings_lists_quotes_and_rules() -> None:
    assert lines("# One\n### Three\n- a\n  - b\n\n3. c\n4. d\n\n> q\n\n---", 12) == [
        "One", "━━━", "", "### Three", "", "• a", "  ◦ b", "", "3. c", "4. d", "", "▎ q", "", "────────────",
    ]  # fmt: skip


def test_tables_keep_their_columns_and_wrap_their_cells() -> None:
    assert lines("| option | default |\n|---|---:|\n| block_size | 16 |") == [
        "option     │ default",
        "───────────┼────────",
        "block_size │      16",
    ]
    narrow = lines("| a | b |\n|---|---|\n| one two three four | five six seven eight |", 20)
    assert all(len(line) <= 20 for line in narrow)
    assert len(narrow) > 4


def test_code_is_highlighted_and_names_its_language() -> None:
    strips = render("```python\ndef f():  # why\n    return 'x'\n```", named, 40)
    assert strips[0].text.strip() == "python"
    roles = {s.text.strip(): s.style.meta["role"] for strip in strips for s in strip if s.style and s.style.meta}
    assert roles["def"] == "code-keyword"
    assert roles["# why"] == "code-comment"
    assert roles["x"] == "code-string"


def test_a_link_shows_where_it_goes() -> None:
    assert lines("see [the docs](https://x.y/z)") == ["see the docs (https://x.y/z)"]


def test_html_is_shown_and_not_swallowed() -> None:
    assert lines("<b>not bold</b>") == ["<b>not bold</b>"]


def test_control_characters_never_reach_the_terminal() -> None:
    assert clean("a\x1b[31mred\x07\u202eb\tc\n") == "a[31mredb\tc\n"
