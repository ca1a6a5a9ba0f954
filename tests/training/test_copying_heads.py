"""The writer begins with heads that can copy: they find what stood before, and what came after it last time."""

from __future__ import annotations

import random

import model as models
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from torch import Tensor
from writing import LOUDNESS, Writer


@pytest.fixture(scope="module")
def untrained(tokenizer: Tokenizer) -> Writer:
    torch.manual_seed(3)
    return Writer(tokenizer).eval()


def first_heads(writer: Writer, tokens: list[int]) -> tuple[Tensor, Tensor]:
    """Of the first two layers, where head 0 looks at each place."""
    with torch.no_grad():
        embedded = writer.embedding()[torch.tensor([tokens])]
        first, second, *_ = writer.model.model(inputs_embeds=embedded, output_attentions=True).attentions
    return first[0, 0].argmax(-1), second[0, 0].argmax(-1)


@given(tokens=st.lists(st.integers(0, 4000), min_size=3, max_size=120))
@settings(max_examples=20)
def test_the_first_layer_looks_one_place_back(untrained: Writer, tokens: list[int]) -> None:
    before, _ = first_heads(untrained, tokens)
    assert before.tolist()[1:] == list(range(len(tokens) - 1))


@given(
    told=st.lists(st.integers(0, 4000), min_size=4, max_size=30, unique=True),
    between=st.lists(st.integers(4001, 4080), max_size=40),
)
@settings(max_examples=20)
def test_the_second_layer_finds_what_came_next_when_the_same_was_said_before(
    untrained: Writer, told: list[int], between: list[int]
) -> None:
    begin = 4081  # before the first place there is none, and it would keep itself
    _, next_ones = first_heads(untrained, [begin, *told, *between, *told[:-1]])
    again = 1 + len(told) + len(between)
    found = next_ones.tolist()[again:]
    wrong = sum(place != now + 2 for now, place in enumerate(found))
    # They are random directions, which are now and then alike: in three places one of them must not be a fifth.
    assert wrong <= max(1, 0.2 * len(found))


def test_of_many_short_texts_said_again_next_to_no_place_is_missed(untrained: Writer) -> None:
    rng, wrong, places = random.Random(0), 0, 0
    for _ in range(150):
        told = rng.sample(range(4001), rng.randint(4, 8))
        between = [rng.randint(4001, 4080)] * rng.randint(0, 40)
        _, next_ones = first_heads(untrained, [4081, *told, *between, *told[:-1]])
        found = next_ones.tolist()[1 + len(told) + len(between) :]
        wrong += sum(place != now + 2 for now, place in enumerate(found))
        places += len(found)
    assert wrong <= 0.01 * places


def test_a_token_is_said_in_the_direction_in_which_it_is_read(untrained: Writer) -> None:
    """Whether with a blank or without is for what stands before to say."""
    likeness = untrained.head() @ untrained.embedding()[: untrained.first_thought].T
    word_of = torch.arange(untrained.first_thought)
    word_of[untrained.blanked] = untrained.words
    assert torch.equal(word_of[likeness.argmax(-1)], word_of)


def test_a_word_is_read_alike_with_its_blank_and_without(untrained: Writer) -> None:
    embedding = untrained.embedding()
    alike = (embedding[untrained.blanked] * embedding[untrained.words]).sum(-1) / LOUDNESS**2
    assert len(alike) > 350
    assert alike.min() > 0.9


def test_the_other_heads_are_as_random_as_before(untrained: Writer) -> None:
    for layer in untrained.model.model.layers[2:]:
        assert not layer.self_attn.o_proj.weight.any()
    assert not untrained.model.model.layers[0].self_attn.o_proj.weight[:, models.HEAD_SIZE :].any()
