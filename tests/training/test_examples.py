"""What of a conversation is learned, and what is read in its place."""

from __future__ import annotations

import random

from batches import endless_batches
from hypothesis import given
from hypothesis import strategies as st
from tokenizer import Example

END = 7
TURNS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 30)), min_size=1, max_size=3)


def example(turns: list[tuple[int, int]]) -> Example:
    """Of turns with so many tokens of a question and of its answer, the thought before it not counted."""
    made = Example([], [], [])
    for asked, answered in turns:
        made.ids += [1000 + n for n in range(asked)]
        made.starts.append(len(made.ids) - 1)
        made.ids += [2000, *(100 + n for n in range(answered)), END]
        made.learned += [False] * asked + [True] * (answered + 2)
    return made


@given(turns=TURNS, seed=st.integers())
def test_a_disturbed_recital_is_misread_in_its_text_alone_and_said_as_it_is(
    turns: list[tuple[int, int]], seed: int
) -> None:
    whole = example(turns).with_given_thoughts()
    disturbed = whole.disturbed(0.5, random.Random(seed))
    assert (disturbed.ids, disturbed.learned) == (whole.ids, whole.learned)
    for seen, token, learned in zip(disturbed.read, whole.ids, whole.learned, strict=True):
        assert seen == token or (learned and token != END and 100 <= seen < 1000)


def test_so_many_tokens_are_misread() -> None:
    whole = example([(5, 10_000)]).with_given_thoughts()
    disturbed = whole.disturbed(0.1, random.Random(2))
    assert 900 < sum(seen != token for seen, token in zip(disturbed.read, whole.ids, strict=True)) < 1100


@given(turns=TURNS, length=st.integers(1, 100))
def test_what_is_cut_keeps_what_is_misread(turns: list[tuple[int, int]], length: int) -> None:
    disturbed = example(turns).with_given_thoughts().disturbed(0.5, random.Random(3))
    assert disturbed.cut(length).read == disturbed.read[:length]


def test_a_batch_shows_what_is_misread_and_asks_for_what_is_right() -> None:
    whole = example([(5, 200)]).with_given_thoughts()
    batch = next(endless_batches(lambda rng: whole.disturbed(0.1, rng), random.Random(1), batch_tokens=512))
    asked = batch.weights > 0
    places, right = batch.places[asked], batch.targets[asked]
    assert batch.conversations == 2
    assert right.tolist() == [*(100 + n for n in range(200)), END] * 2
    shown = batch.inputs.flatten()[places + 1]
    assert 0 < (shown != right).float().mean() < 0.2
