"""Tokens that are spelled alike begin alike."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

# Of the folder of the training script, whose modules are no package; conftest.py adds it to the path.
from spelling import Spelling, runs_of_letters


def likeness(left: torch.Tensor, right: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(left, right, dim=0))


def test_forms_of_a_word_are_alike_and_other_words_are_not() -> None:
    torch.manual_seed(1)
    words = ["quantize", " Quantized", "quantization", "scheduler", " schedule", "?"]
    quantize, quantized, quantization, scheduler, schedule, mark = Spelling(words, 64)().detach()
    for left, right in ((quantize, quantized), (quantized, quantization), (scheduler, schedule)):
        assert likeness(left, right) > 0.4
    assert abs(likeness(quantized, scheduler)) < 0.3
    assert not mark.any()


@given(st.text(alphabet="abcxyz 09", max_size=12))
def test_blanks_and_capitals_make_no_difference(word: str) -> None:
    assert runs_of_letters(f" {word.upper()}") == runs_of_letters(word)


def test_what_a_single_token_has_is_left_to_its_own_embedding() -> None:
    spelling = Spelling(["alone", "another", "another"], 8)
    assert not spelling()[0].any()
    assert spelling()[1].any()
    assert torch.equal(spelling()[1], spelling()[2])
