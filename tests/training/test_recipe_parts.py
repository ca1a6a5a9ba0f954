"""Recipes that are alike have parts in common, by which those that are seldom asked for are learned, too."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from recipe_parts import parts_of, shares_of_parts
from recipes import AS_WRITTEN, CALCULATOR
from tokenizers import Tokenizer

FORMS = ["a * b", "b * a", "a + b", "a * b / 100", "b - a / 100 * b", "a - b / 100 * a", "avg(a, b, …)", "60 * a"]


def named(form: str) -> str:
    return f"<think>{CALCULATOR}: {form}</think>"


def test_what_one_knows_of_a_recipe_are_its_shape_its_numbers_and_its_signs() -> None:
    assert set(parts_of(named("b - a / 100 * b"))) == {
        "shape x - x / 100 * x",
        "order b a b",
        "numbers 2",
        "first b",
        "takes a",
        "takes b",
        "operator -",
        "operator /",
        "operator *",
        "constant 100",
    }
    assert "function avg" in parts_of(named("avg(a, b, …)"))


def test_what_is_no_recipe_has_no_parts() -> None:
    assert not parts_of(f"<think>{CALCULATOR}</think>")
    assert not parts_of(f"<think>{AS_WRITTEN}</think>")


@given(st.lists(st.sampled_from(FORMS), min_size=2, unique=True))
def test_recipes_share_a_part_where_both_have_it_and_a_part_of_one_alone_is_none(forms: list[str]) -> None:
    shares = shares_of_parts([named(form) for form in forms])
    parts = [set(parts_of(named(form))) for form in forms]
    in_common = (shares > 0).float() @ (shares > 0).float().T
    for row, left in enumerate(parts):
        for column, right in enumerate(parts):
            if row != column:
                assert in_common[row, column] == len(left & right)
    assert ((shares > 0).sum(0) > 1).all()
    assert (shares.norm(dim=1) < 1 + 1e-6).all()


@torch.no_grad()
def test_what_is_learned_of_a_part_is_known_of_all_that_have_it(learners: Any, tokenizer: Tokenizer) -> None:
    reckoner = learners[2]
    before = reckoner.head().clone()
    part = int((reckoner.shares > 0).sum(0).argmax())
    reckoner.common[part] += 1.0
    changed = (reckoner.head() - before).abs().amax(1) > 0
    reckoner.common[part] -= 1.0
    assert torch.equal(changed, reckoner.shares[:, part] > 0)
    assert changed.sum() > 10
