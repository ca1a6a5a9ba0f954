"""The mean of two learners that began alike, whatever parts what they know is made of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from naming import Namer
from tokenizers import Tokenizer
from train import mean_of


@torch.no_grad()
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_what_stands_between_two_namers_lies_between_their_embeddings_and_heads(
    learners: Any, tokenizer: Tokenizer, share: float
) -> None:
    one, other, between = learners[0], Namer(tokenizer).eval(), Namer(tokenizer).eval()
    between.load_state_dict(mean_of([one.state_dict(), other.state_dict()], [share, 1 - share]))
    for part in (Namer.embedding, Namer.head):
        assert torch.allclose(part(between), share * part(one) + (1 - share) * part(other), atol=1e-5)


def test_without_shares_all_count_alike_and_what_is_no_number_stays() -> None:
    states = [{"weight": torch.tensor([value]), "places": torch.tensor([7])} for value in (1.0, 2.0, 6.0)]
    mean = mean_of(states)
    assert mean["weight"].item() == pytest.approx(3.0)
    assert mean["places"].item() == 7
