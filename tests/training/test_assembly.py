"""The demo model is three learners in one Qwen2, and none is changed by the others."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer


@torch.no_grad()
def test_text_is_written_as_the_writer_alone_writes_it(learners: Any, demo: Any, inputs: torch.Tensor) -> None:
    namer, writer, _ = learners
    alone = (writer.states(inputs) @ writer.head().T).log_softmax(-1)
    together = demo(inputs).logits[..., : namer.first].log_softmax(-1)
    assert torch.allclose(together, alone, atol=2e-3 * float(alone.abs().max()))


@torch.no_grad()
def test_thoughts_are_ranked_as_namer_and_reckoner_rank_them(
    learners: Any, demo: Any, inputs: torch.Tensor, start: int
) -> None:
    namer, _, reckoner = learners
    alone = reckoner.logits(inputs, torch.tensor([start]))[0].log_softmax(-1)
    together = demo(inputs).logits[0, start, namer.first :].log_softmax(-1)
    assert torch.allclose(together, alone, atol=5e-3 * float(alone.abs().max()))


@torch.no_grad()
def test_the_reckoner_changes_the_scores_of_calculations_alone(learners: Any, inputs: torch.Tensor, start: int) -> None:
    """Whatever it has learned of words."""
    namer, _, reckoner = learners
    place = torch.tensor([start])
    change = (reckoner.logits(inputs, place) - namer.logits(inputs, place))[0]
    others = torch.ones(len(change), dtype=torch.bool).index_fill(0, reckoner.recipes, False)
    size = float(change[reckoner.recipes].abs().max())
    assert size > 0.1
    assert float(change[others].abs().max()) < 1e-4 * size


@torch.no_grad()
def test_text_is_out_of_reach_where_an_answer_begins(
    demo: Any, learners: Any, inputs: torch.Tensor, start: int
) -> None:
    logits, first = demo(inputs).logits[0, start], learners[0].first
    assert logits[:first].max() < logits[first:].max() - 30


@torch.no_grad()
def test_the_gate_is_common_to_all_thoughts(learners: Any, demo: Any) -> None:
    from assembly import OF_WRITER

    rows = demo.lm_head.weight[learners[0].first :, OF_WRITER]
    assert torch.equal(rows, rows[:1].expand_as(rows))


def test_a_place_where_a_thought_stands_out_beyond_hope_spoils_no_other() -> None:
    """It counts what one counts that can just be mended, and answers still begin with thoughts."""
    from assembly import HOPELESS, _apart, _Seen

    torch.manual_seed(5)
    starts = torch.arange(4000) < 200
    states = 0.3 * torch.randn(4000, 128) + torch.where(starts, 1.0, -1.0)[:, None]
    ahead = 20 * torch.randn(4000)
    rows = []
    for hopeless in (HOPELESS, 45_000.0):
        ahead[-8:] = -hopeless
        rows.append(_apart(_Seen(states, starts, ahead)))
    assert torch.allclose(*(torch.cat(both) for both in rows), atol=1e-2)
    for_text, for_thoughts = (states @ row for row in rows[1])
    between = torch.where(starts, for_thoughts - for_text, for_text - for_thoughts)
    assert (ahead + between)[:-8].min() > 0


def test_the_published_model_has_the_shape_that_is_assembled(tokenizer: Tokenizer) -> None:
    import json

    from assembly import SHAPE

    from tests.training.conftest import ASSETS

    config = json.loads((ASSETS / "model" / "config.json").read_text())
    assert config["hidden_size"] == SHAPE.hidden
    assert config["num_hidden_layers"] == SHAPE.layers
    assert config["num_key_value_heads"] == SHAPE.kv_heads
    assert config["vocab_size"] == tokenizer.get_vocab_size()
