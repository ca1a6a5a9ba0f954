"""Which questions a corpus can make is found without trying each of its lines."""

from __future__ import annotations

import random

import alternatives
from hypothesis import given
from hypothesis import strategies as st
from phrasings import Phrasings

words = st.sampled_from(["how ", "how big", "is ", "it", "the ", "a", "Ab ", "cache?", "<x>", " {", "? "])
phrase = st.recursive(
    st.lists(words.filter(lambda word: word != " {"), max_size=3).map("".join),
    lambda inner: st.tuples(st.lists(inner, min_size=1, max_size=3), inner).map(
        lambda parts: "{" + "|".join(parts[0]) + "}" + parts[1]
    ),
    max_leaves=8,
)


@given(st.lists(phrase, min_size=1, max_size=6), st.integers(0, 999), st.sampled_from(["x", "kv cache", "it is"]))
def test_all_that_phrases_make_is_found(phrases: list[str], seed: int, name: str) -> None:
    rng = random.Random(seed)
    made = alternatives.squeeze(alternatives.sample(rng.choice(phrases), rng).replace("<x>", name))
    if made:
        assert Phrasings(phrases).make(made)


def test_nothing_else_is_and_slots_tell_what_they_hold() -> None:
    known = Phrasings(["how {big|large} is {the|a|} <x>{ usually|}?", "how come"])
    assert known.make("howcome")
    assert not known.make("howcomes")
    assert not known.make("howbigis")
    assert "kvcache" in known.slot_texts("howlargeisthekvcacheusually")
    assert not known.slot_texts("whatisthekvcache")


@given(phrase, st.integers(0, 999))
def test_a_phrase_begins_with_one_of_its_openings(text: str, seed: int) -> None:
    made = alternatives.squeeze(alternatives.sample(text, random.Random(seed)).replace("<x>", "something"))
    assert any(made.startswith(opening) for opening in alternatives.openings(text, 5, ("<x>",)))
