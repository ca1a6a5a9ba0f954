"""What followed the same words earlier, by a search that remembers places, against one that looks."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from inference.speculation.ngram import LONGEST, SHORTEST, NGrams

texts = st.lists(st.integers(0, 3), max_size=40)


def found_by_looking(text: list[int], most: int) -> list[int]:
    """The latest earlier occurrence of the longest ending, and what came after it, again and again."""
    for length in range(min(LONGEST, len(text)), SHORTEST - 1, -1):
        ending = text[-length:]
        for start in range(len(text) - 1, length - 1, -1):
            if text[start - length : start] == ending:
                after = text[start:]
                return [after[i % len(after)] for i in range(most)]
    return []


@given(texts, st.lists(st.integers(0, 40), max_size=5), st.integers(0, 9))
def test_it_is_what_a_search_finds_however_the_text_came(text: list[int], cuts: list[int], most: int) -> None:
    grams = NGrams()
    edges = [0, *sorted(min(c, len(text)) for c in cuts), len(text)]
    for start, stop in pairwise(edges):
        grams.extend(text[start:stop])
    assert len(grams) == len(text)
    assert grams.propose(most) == found_by_looking(text, most)


def test_it_quotes_what_the_text_said_before() -> None:
    grams = NGrams()
    grams.extend([10, 11, 12, 13, 14, 15, 16, 20, 21, 11, 12])
    assert grams.propose(3) == [13, 14, 15]
    grams.extend([99])
    assert grams.propose(3) == []
