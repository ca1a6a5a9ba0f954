"""What is asked after an answer can be asked at once, if it says whom it means."""

from __future__ import annotations

import random

import alternatives
import pytest
from hypothesis import given
from hypothesis import strategies as st
from named_follow_ups import follow_ups_of, with_name


@pytest.mark.parametrize(
    ("question", "named"),
    [
        ("and who invented it?", "who invented rope?"),
        ("what does it cost, and is it worth it", "what does rope cost, and is it worth it"),
        ("well, do all models have that?", "do all models have rope?"),
        ("how much memory do i give them", "how much memory do i give rope"),
    ],
)
def test_the_word_that_leans_becomes_the_name(question: str, named: str) -> None:
    assert with_name(question, "rope", random.Random(1)) == named


@pytest.mark.parametrize("question", ["any drawbacks?", "is that one slow", "it's slow?"])
def test_where_none_leans_the_name_stands_beside(question: str) -> None:
    asked = {with_name(question, "rope", random.Random(seed)) for seed in range(40)}
    assert len(asked) > 3
    assert all(question in each and "rope" in each for each in asked)


@given(question=st.text(min_size=1), seed=st.integers())
def test_the_name_is_always_said(question: str, seed: int) -> None:
    assert "rope" in with_name(question, "rope", random.Random(seed))


QUESTIONS = ["and who invented it?", "so what are they for", "any drawbacks?", "well: is it slow, or is it not"]


@given(question=st.sampled_from(QUESTIONS), seed=st.integers())
def test_from_what_is_asked_at_once_the_follow_up_is_found_again(question: str, seed: int) -> None:
    asked = alternatives.squeeze(with_name(question, "KV cache", random.Random(seed)))
    assert alternatives.squeeze(question) in follow_ups_of(asked, "kvcache")


def test_a_question_without_the_name_comes_from_none() -> None:
    assert not list(follow_ups_of("whoinventedrope", "kvcache"))
