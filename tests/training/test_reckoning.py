"""The layer that tells calculations apart learns to be quiet where nothing is to be named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from tests.training.conftest import shaken


@pytest.fixture
def reckoner(tokenizer: Tokenizer) -> Any:
    from naming import Namer
    from reckoning import Reckoner
    from writing import Writer

    torch.manual_seed(3)
    namer = shaken(Namer(tokenizer))
    return shaken(Reckoner(tokenizer, namer, Writer(tokenizer))).train()


def parts(reckoner: Any, inputs: torch.Tensor, start: int) -> torch.Tensor:
    torch.manual_seed(4)
    return reckoner.parts(inputs, torch.tensor([start]), torch.tensor([reckoner.first]))


def test_what_is_quiet_costs_nothing(reckoner: Any, inputs: torch.Tensor, start: int) -> None:
    _, loud, favoured = parts(reckoner, inputs, start).tolist()
    assert (loud, favoured) == (0, 0)


@pytest.mark.parametrize(("part", "of"), [("down.weight", 1), ("rows", 2)])
def test_what_is_too_loud_learns_to_be_quieter(
    reckoner: Any, inputs: torch.Tensor, start: int, part: str, of: int
) -> None:
    """Whether it writes too much, or gives the calculator's thoughts too high scores."""
    reckoner.get_parameter(part).data *= 300
    assert_quieter_after_a_step(reckoner, inputs, start, part, of)


def test_its_words_learn_not_to_make_the_namer_loud(reckoner: Any, inputs: torch.Tensor, start: int) -> None:
    reckoner.rows.data.zero_()
    reckoner.words.data *= 40
    assert_quieter_after_a_step(reckoner, inputs, start, "words", 2)


def assert_quieter_after_a_step(reckoner: Any, inputs: torch.Tensor, start: int, part: str, of: int) -> None:
    parameter = reckoner.get_parameter(part)
    before = parts(reckoner, inputs, start)[of]
    before.backward()
    parameter.data -= 0.001 * parameter.norm() * torch.nn.functional.normalize(parameter.grad, dim=None)
    assert before > 0
    assert parts(reckoner, inputs, start)[of] < before


def test_learning_leaves_the_layers_below_as_they_are(reckoner: Any, inputs: torch.Tensor, start: int) -> None:
    below = {name: value.clone() for name, value in reckoner.namer.state_dict().items()}
    optimizer = torch.optim.SGD(reckoner.parameters(), lr=0.1)
    parts(reckoner, inputs, start).sum().backward()
    optimizer.step()
    assert all(torch.equal(value, below[name]) for name, value in reckoner.namer.state_dict().items())
