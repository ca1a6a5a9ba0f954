"""What a plan says about the text holds while its learner learns."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from batches import Batch, Diet
from calculations import NO_PRACTICE
from learner import Learner, Losses
from tokenizer import ConversationEncoder, Example
from tokenizers import Tokenizer
from train import PLANS, Schedule, Trainer


class Indifferent(Learner):
    """Learns nothing from anything."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)

    def losses(self, batch: Batch) -> Losses:
        return Losses(sum(parameter.sum() for parameter in self.parameters()), {})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [plan.name for plan in PLANS])
def test_a_learner_meets_calculations_as_its_plan_has_them(
    name: str, sampler: Any, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = next(plan for plan in PLANS if plan.name == name)
    met = []

    def draw(sampler: Any, encoder: ConversationEncoder, diet: Diet) -> Any:
        def example(rng: random.Random) -> Example:
            met.append((sampler.tools.calculations.practice, sampler.noise.level, encoder.veil))
            return Example([1, 2, 3, 4], [False, False, True, True], [1])

        return example

    # What the trainer sets is undone with this: other tests have the sampler, too.
    monkeypatch.setattr(sampler.noise, "level", sampler.noise.level)
    monkeypatch.setattr(sampler.tools.calculations, "practice", NO_PRACTICE)
    plan = replace(planned, draw=draw, batch_tokens=64, from_nothing=Schedule([1], 1e-3))
    Trainer(plan, plan.from_nothing, Indifferent(), torch.device("cpu")).run(
        sampler, ConversationEncoder(tokenizer), tmp_path / "checkpoint.pt"
    )
    assert set(met) == {(planned.practice, planned.noise, planned.veil)}
    assert (planned.practice != NO_PRACTICE) == (name == "writer")
