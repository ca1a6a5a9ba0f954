"""Three learners in one Qwen2: the layers that name, one that reckons, and above them the layers that write.

The stream has places of the namer and of the writer: layers 0 and 1 read and write those of the namer, layer 2 reads
all and writes to places of the namer that are needed no more, and all others read and write those of the writer. What
they share is the norm, which divides all places by one number. The writer's places are made so loud that this number is
theirs alone. In the first three layers they still hold the embedding, whose rows are all of one length: what is divided
there by a constant is as good as not divided, which is what namer and reckoner have learned with. Above, the number is
the one that the writer has learned with.

At the end the rows of the head for text read the writer's places, those for thoughts the namer's. Which of both is to
come the writer has learned to tell, by its gate: so there is a direction of its places, common to all thoughts, that
makes them unlikely where there is text, and another that makes all text unlikely where answers begin.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

import model as models
import naming
import reckoning
from naming import CHOICE, KINDS, NAMED, Namer
from reckoning import RECKONED, RECKONED_VOLUME, Reckoner
from tokenizer import Example
from writing import LOUDNESS, WRITER_SHAPE, Writer

NAMING_LAYERS, RECKONING_LAYERS = 2, 1
EVERYTHING = slice(None)
OF_NAMER = slice(0, naming.HIDDEN)
OF_WRITER = slice(naming.HIDDEN, naming.HIDDEN + WRITER_SHAPE.hidden)
SHAPE = models.Shape(
    hidden=OF_WRITER.stop,
    layers=NAMING_LAYERS + RECKONING_LAYERS + WRITER_SHAPE.layers,
    heads=naming.HEADS,
    kv_heads=naming.KV_HEADS,
    feed_forward=max(naming.FEED_FORWARD, WRITER_SHAPE.feed_forward),
)
LOUD = 2048.0
"""The length of the writer's embedding in the stream; the namer's places come to some 40, and to 500 where nothing is
named."""
DIVISOR = LOUD * SHAPE.hidden**-0.5
"""What the norms of the first layers divide by, for the writer's places there are the embedding alone."""
DIVISORS = 100
"""Examples by which the namer's part of the last norm is set."""
APART_AT_STARTS, APART_IN_TEXT = 50.0, 150.0
"""How much more likely what is to come, a thought or text, is made than what is not. In the midst of text the layers
that name have never learned anything, and their favourite may stand out by hundreds."""
TEXT_AWAY, THOUGHTS_AWAY = 100.0, 300.0
"""That much to begin with, by least squares."""
APART_STEP, APART_STEPS = 0.5, 600
UNMEANT_AT_STARTS, UNMEANT_IN_TEXT = 0.01, 0.1
"""What it counts that thoughts change among thoughts, and text among text, beside falling short of that."""
STRAY = 1e-4
"""What the fourth power of falling short counts in text, beside its square: one place in thousands ends an answer."""
HOPELESS = 400.0
"""No more is counted of how far ahead the wrong one is. A word that decides calculations ("exponent", "KiB") may, in
the midst of an answer, make a thought stand out by tens of thousands: some places of text in thousands, which no
direction mends, and whose fourth powers would undo what all others need."""


@torch.no_grad()
def assemble(
    namer: Namer, writer: Writer, reckoner: Reckoner, tokenizer: Tokenizer, examples: Sequence[Example]
) -> Qwen2ForCausalLM:
    """The demo model. The head is adjusted by `examples` of conversations, as they are read."""
    model = models.build(SHAPE, tokenizer, tied=False)
    for parameter in model.parameters():
        parameter.zero_()
    body = model.model
    body.embed_tokens.weight[:, OF_NAMER] = namer.embedding()
    body.embed_tokens.weight[:, naming.WORDS] += reckoner.more()
    body.embed_tokens.weight[:, OF_WRITER] = writer.embedding() * (LOUD / LOUDNESS)
    body.layers[0].input_layernorm.weight[KINDS] = naming.FIRST_VOLUME * DIVISOR
    places = (*places_of_namer(model, namer), *places_of_reckoner(model, reckoner), *places_of_writer(model, writer))
    for place in places:
        place.put()

    first = namer.first
    model.lm_head.weight[:first, OF_WRITER] = writer.head()
    model.lm_head.weight[first:, CHOICE] = namer.head()
    model.lm_head.weight[first + reckoner.recipes, RECKONED] = reckoner.head()
    divisor = torch.cat([_divisors(model, example) for example in examples[:DIVISORS]]).mean()
    body.norm.weight[CHOICE] = namer.choice_gain * naming.CHOICE_VOLUME * divisor
    body.norm.weight[RECKONED] = reckoner.choice_gain * RECKONED_VOLUME * divisor
    for_text, for_thoughts = _apart(_see(model, examples, first))
    model.lm_head.weight[:first, OF_WRITER] += for_text
    model.lm_head.weight[first:, OF_WRITER] += for_thoughts
    return model


@dataclass(frozen=True)
class _Seen:
    """Of examples, the places where answers begin, and those where there is text."""

    states: Tensor
    """[places, writer's], after the last norm."""
    starts: Tensor
    """[places]: whether an answer begins there."""
    ahead: Tensor
    """[places]: by how much what is to come, text or a thought, is more likely than what is not, as it is so far."""


def _divisors(model: Qwen2ForCausalLM, example: Example) -> Tensor:
    """What the last norm divides by where answers begin."""
    caught: list[Tensor] = []
    hook = model.model.norm.register_forward_hook(lambda module, inputs, output: caught.append(inputs[0][0]))
    model.model(torch.tensor([example.read]), use_cache=False)
    hook.remove()
    return caught[0][example.starts].pow(2).mean(1).sqrt()


def _see(model: Qwen2ForCausalLM, examples: Sequence[Example], first: int) -> _Seen:
    states, starts, ahead = [], [], []
    for example in examples:
        followed = {place for place in range(len(example.ids) - 1) if example.learned[place + 1]}
        places = [*example.starts, *sorted(followed - set(example.starts))]
        begins = torch.arange(len(places)) < len(example.starts)
        normed = model.model(torch.tensor([example.read]), use_cache=False).last_hidden_state[0, places]
        logits = model.lm_head(normed)
        over = logits[:, first:].amax(1) - logits[:, :first].amax(1)
        states.append(normed[:, OF_WRITER])
        starts.append(begins)
        ahead.append(torch.where(begins, over, -over))
    return _Seen(torch.cat(states), torch.cat(starts), torch.cat(ahead))


def _apart(seen: _Seen) -> list[Tensor]:
    """Rows of the writer's places for all text, and for all thoughts, so that neither gets in the other's way: where
    there is text every thought, and where answers begin all text, is by far less likely than what is to come.

    Neither is to change anything where it is not meant: then formats of few digits still tell words, and names, apart.
    """
    starts, ahead = seen.starts, seen.ahead.clamp(min=-HOPELESS)
    wanted = torch.where(starts, APART_AT_STARTS, APART_IN_TEXT)
    sides = ((starts, UNMEANT_AT_STARTS), (~starts, UNMEANT_IN_TEXT))
    rows = [
        loudness * _direction(seen.states, starts, *at)
        for loudness, at in ((TEXT_AWAY, (-1.0, 0.0)), (THOUGHTS_AWAY, (0.0, -1.0)))
    ]
    with torch.enable_grad():
        optimizer = torch.optim.Adam([row.requires_grad_() for row in rows], lr=APART_STEP)
        for step in range(APART_STEPS):
            optimizer.param_groups[0]["lr"] = APART_STEP * (1 - step / APART_STEPS)
            for_text, for_thoughts = (seen.states @ row for row in rows)
            between = torch.where(starts, for_thoughts - for_text, for_text - for_thoughts)
            unmeant = torch.where(starts, for_thoughts, for_text)
            short = (wanted - ahead - between).relu()
            loss = sum(short[of].square().mean() + costs * unmeant[of].square().mean() for of, costs in sides)
            loss = loss + STRAY * short[~starts].pow(4).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return [row.detach() for row in rows]


def _direction(places: Tensor, starts: Tensor, at_starts: float, at_text: float) -> Tensor:
    """The row that comes, by least squares, to the one where answers begin and to the other where there is text."""
    weights = torch.where(starts, ((~starts).sum() / starts.sum()).sqrt(), 1.0)[:, None]
    rows, wanted = places * weights, torch.where(starts, at_starts, at_text)[:, None] * weights
    # A little of zero keeps directions out that the examples say nothing about.
    size = rows.shape[1]
    rows = torch.cat([rows, 1e-2 * rows.norm() * size**-0.5 * torch.eye(size)])
    return torch.linalg.lstsq(rows, torch.cat([wanted, torch.zeros(size, 1)])).solution[:, 0]


def _share_of_mean() -> float:
    """The norm takes the mean over all places, though the writer's alone count."""
    return (WRITER_SHAPE.hidden / SHAPE.hidden) ** 0.5


@dataclass(frozen=True)
class Place:
    """Where in the model something stands that a learner has learned, and what it is multiplied by there."""

    parameter: Tensor
    index: Any
    learned: Tensor
    factor: float | Tensor = 1.0

    def put(self) -> None:
        """Into the model."""
        self.parameter[self.index] = self.learned * self.factor

    def take(self) -> None:
        """Back from it."""
        self.learned.copy_(self.parameter[self.index] / self.factor)


def places_of_namer(model: Qwen2ForCausalLM, namer: Namer) -> Iterator[Place]:
    """Of its layers; not of embedding, head and the last norm."""
    first, second = model.model.layers[:NAMING_LAYERS]
    yield Place(second.input_layernorm.weight, OF_NAMER, namer.attention_gain, namer.attention_volume * DIVISOR)
    yield Place(second.post_attention_layernorm.weight, OF_NAMER, namer.mlp_gain, namer.mlp_volume * DIVISOR)
    yield from _places_of_attention(first, namer.first_layer, KINDS, KINDS, naming.FIRST_SHARE)
    yield from _places_of_attention(second, namer.attention, OF_NAMER, NAMED, naming.ATTENTION_SHARE)
    yield from _places_of_mlp(second, namer, OF_NAMER, NAMED, naming.MLP_SHARE)


def places_of_reckoner(model: Qwen2ForCausalLM, reckoner: Reckoner) -> Iterator[Place]:
    """Of its layer; not of the head and the last norm."""
    layer = model.model.layers[NAMING_LAYERS]
    volume = reckoner.volume * DIVISOR
    volume[OF_WRITER] *= LOUDNESS / LOUD
    yield Place(layer.input_layernorm.weight, EVERYTHING, reckoner.attention_gain, volume)
    yield Place(layer.post_attention_layernorm.weight, EVERYTHING, reckoner.mlp_gain, volume)
    yield from _places_of_attention(layer, reckoner.attention, EVERYTHING, RECKONED, reckoning.ATTENTION_SHARE)
    yield from _places_of_mlp(layer, reckoner, EVERYTHING, RECKONED, reckoning.MLP_SHARE)


def _places_of_attention(
    layer: Qwen2DecoderLayer, learned: naming.Attention, read: slice, written: slice, share: float
) -> Iterator[Place]:
    attention = layer.self_attn
    for project, source, columns in (
        (attention.q_proj, learned.query, KINDS),
        (attention.k_proj, learned.key, KINDS),
        (attention.v_proj, learned.value, read),
    ):
        yield Place(project.weight, (EVERYTHING, columns), source.weight)
        yield Place(project.bias, EVERYTHING, source.bias)
    yield Place(attention.o_proj.weight, (written, EVERYTHING), learned.output.weight, share)


def _places_of_mlp(
    layer: Qwen2DecoderLayer, learned: Namer | Reckoner, read: slice, written: slice, share: float
) -> Iterator[Place]:
    width = slice(0, naming.FEED_FORWARD)
    yield Place(layer.mlp.gate_proj.weight, (width, read), learned.gate.weight)
    yield Place(layer.mlp.up_proj.weight, (width, read), learned.up.weight)
    yield Place(layer.mlp.down_proj.weight, (written, width), learned.down.weight, share)


def places_of_writer(model: Qwen2ForCausalLM, writer: Writer) -> Iterator[Place]:
    """Of its layers and the last norm; not of embedding and head."""
    loudness, share = LOUD / LOUDNESS, _share_of_mean()
    body = writer.model.model
    for layer, learned in zip(model.model.layers[NAMING_LAYERS + RECKONING_LAYERS :], body.layers, strict=True):
        attention, source = layer.self_attn, learned.self_attn
        for project, projected in (
            (attention.q_proj, source.q_proj),
            (attention.k_proj, source.k_proj),
            (attention.v_proj, source.v_proj),
        ):
            yield Place(project.weight, (slice(None), OF_WRITER), projected.weight)
            yield Place(project.bias, slice(None), projected.bias)
        yield Place(attention.o_proj.weight, OF_WRITER, source.o_proj.weight, loudness)
        width = slice(0, WRITER_SHAPE.feed_forward)
        yield Place(layer.mlp.gate_proj.weight, (width, OF_WRITER), learned.mlp.gate_proj.weight)
        yield Place(layer.mlp.up_proj.weight, (width, OF_WRITER), learned.mlp.up_proj.weight)
        yield Place(layer.mlp.down_proj.weight, (OF_WRITER, width), learned.mlp.down_proj.weight, loudness)
        yield Place(layer.input_layernorm.weight, OF_WRITER, learned.input_layernorm.weight, share)
        yield Place(layer.post_attention_layernorm.weight, OF_WRITER, learned.post_attention_layernorm.weight, share)
    yield Place(model.model.norm.weight, OF_WRITER, body.norm.weight, share)
