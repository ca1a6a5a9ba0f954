"""Streaming text: whatever the chunking, the same text as from all bytes at once."""

from __future__ import annotations

import codecs
import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference.engine.output import TextStream


def batch(data: bytes, stop: list[str]) -> tuple[str, bool]:
    """The whole text at once: characters one by one until a stop string is complete; an unfinished one is dropped."""
    whole = codecs.getincrementaldecoder("utf-8")(errors="replace").decode(data)
    for end in range(1, len(whole) + 1):
        matches = [s for s in stop if whole[:end].endswith(s)]
        if matches:
            return whole[: end - max(map(len, matches))], True
    return whole, False


def stream(chunks: list[bytes], stop: list[str]) -> tuple[list[str], bool]:
    text = TextStream(stop)
    pieces = [text.push(chunk) for chunk in chunks]
    return [*pieces, text.flush()], text.stopped


letters = st.text(alphabet="abé😀", max_size=12)
stops = st.lists(st.text(alphabet="abé😀", min_size=1, max_size=4), max_size=3)


@given(letters.map(str.encode) | st.binary(max_size=12), stops, st.data())
def test_any_chunking_gives_the_batch_result(data: bytes, stop: list[str], draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    edges = [0, *cuts, len(data)]
    pieces, stopped = stream([data[a:b] for a, b in itertools.pairwise(edges)], stop)
    assert ("".join(pieces), stopped) == batch(data, stop)


@given(letters, stops)
@example("abab", ["aba", "ab"])
def test_every_single_chunking_of_a_short_text(text: str, stop: list[str]) -> None:
    data = text.encode()[:9]
    expected = batch(data, stop)
    for cuts in range(2 ** max(0, len(data) - 1)):
        chunks, start = [], 0
        for i in range(1, len(data)):
            if cuts >> (i - 1) & 1:
                chunks.append(data[start:i])
                start = i
        pieces, stopped = stream([*chunks, data[start:]], stop)
        assert ("".join(pieces), stopped) == expected


@given(st.text(max_size=20))
def test_text_without_stop_strings_is_shown_as_soon_as_it_is_whole(text: str) -> None:
    shown = TextStream()
    so_far = ""
    for character in text:
        *parts, last = [bytes([b]) for b in character.encode()]
        assert all(shown.push(part) == "" for part in parts)
        so_far += shown.push(last)
    assert so_far == text


def test_a_character_cut_off_by_the_end_is_left_out() -> None:
    emoji = "😀".encode()
    assert stream([b"hi ", emoji[:2]], []) == (["hi ", "", ""], False)


def test_bytes_that_are_no_character_become_replacement_characters() -> None:
    assert stream([b"a\xff", b"b"], []) == (["a\ufffd", "b", ""], False)


@pytest.mark.parametrize(
    ("pieces", "stop", "shown"),
    [
        (["one EN", "D two"], ["END"], ["one ", ""]),
        (["one EN", "tail"], ["END"], ["one ", "ENtail"]),
        (["xEND"], ["END"], ["x"]),
        (["x", "END"], ["END"], ["x", ""]),
        (["ab", "c"], ["abc", "ab"], ["", ""]),  # the prefix is complete first
        (["xa", "bc"], ["bc", "abc"], ["x", ""]),  # both complete together: nothing of either is shown
        (["xabc", "d"], ["abcd", "bc"], ["xa", ""]),  # complete first, though begun later
        (["aa", "ab"], ["aab"], ["", "a"]),
    ],
)
def test_stop_strings(pieces: list[str], stop: list[str], shown: list[str]) -> None:
    text = TextStream(stop)
    assert [text.push(piece.encode()) for piece in pieces] == shown


def test_held_text_comes_out_at_the_end_unless_a_stop_string_came() -> None:
    text = TextStream(["END"])
    assert text.push(b"the EN") == "the "
    assert text.flush() == "EN"
    stopped = TextStream(["END"])
    assert stopped.push(b"the END of it") == "the "
    assert stopped.stopped
    assert stopped.push(b"more") == ""
    assert stopped.flush() == ""
