"""Questions of the training text in other words."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synonyms import Thesaurus

GROUPS = ["{big|large|huge}", "{turn off|disable}", "{why|how come}", "{large|wide}"]
THESAURUS = Thesaurus(GROUPS)


def wordings(question: str) -> set[str]:
    rng = random.Random(4)
    return {THESAURUS.reword(question, rng) for _ in range(600)}


def test_words_and_phrases_give_way_to_others_of_their_group_alone() -> None:
    assert wordings("why is a huge <x> slow") == {
        f"{why} is a {big} <x> slow" for why in ("why", "how come") for big in ("big", "large", "huge")
    }
    assert wordings("turn off <x>") == {"turn off <x>", "disable <x>"}


def test_a_word_of_several_meanings_is_kept() -> None:
    assert wordings("a large one") == {"a large one"}


def test_parts_of_words_are_kept() -> None:
    assert wordings("bigger is whyever hugely") == {"bigger is whyever hugely"}


@given(st.text(alphabet="abghiruwy <x>?", max_size=30), st.integers(0, 99))
def test_slots_stay_for_what_is_filled_in_later(question: str, seed: int) -> None:
    assert THESAURUS.reword(question, random.Random(seed)).count("<x>") == question.count("<x>")


def test_a_line_that_is_not_one_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="not one choice"):
        Thesaurus(["big or large"])
