"""Two learners in one Qwen2: the layers that name, and above them the layers that write.

The stream has places of either, and no matrix joins them: layers 0 and 1 read and write the places of the namer, all
others those of the writer. What they share is the norm, which divides all places by one number. The writer's places
are made so loud that this number is theirs alone. In the first two layers they still hold the embedding, whose rows
are all of one length: what is divided there by a constant is as good as not divided, which is what the namer has
learned with. Above, the number is the one that the writer has learned with.

At the end the rows of the head for text read the writer's places, those for thoughts the namer's. Which of both is to
come the writer tells by its gate, which all thoughts have in common; and where answers begin, where it has not learned
what not to write, all text is made unlikely.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import linear
from transformers import Qwen2ForCausalLM

import model as models
import naming
from naming import CHOICE, KINDS, NAMED, Namer
from tokenizer import Example
from writing import LOUDNESS, WRITER_SHAPE, Writer

NAMING_LAYERS = 2
OF_NAMER = slice(0, naming.HIDDEN)
OF_WRITER = slice(naming.HIDDEN, naming.HIDDEN + WRITER_SHAPE.hidden)
SHAPE = models.Shape(
    hidden=OF_WRITER.stop,
    layers=NAMING_LAYERS + WRITER_SHAPE.layers,
    heads=WRITER_SHAPE.heads,
    kv_heads=WRITER_SHAPE.kv_heads,
    feed_forward=max(naming.FEED_FORWARD, WRITER_SHAPE.feed_forward),
)
LOUD = 512.0
"""The length of the writer's embedding in the stream; the namer's places come to some 40."""
GATE_LOUD = 4.0
"""What the gate is multiplied by: it is at most -10 where there is text, and names may seem likely by some 40 there."""
TEXT_AWAY = 100.0
"""How much less likely all text is made where answers begin."""


@torch.no_grad()
def assemble(namer: Namer, writer: Writer, tokenizer: Tokenizer, examples: Sequence[Example]) -> Qwen2ForCausalLM:
    """The demo model. The head is adjusted by `examples` of conversations."""
    model = models.build(SHAPE, tokenizer, tied=False)
    for parameter in model.parameters():
        parameter.zero_()
    body = model.model
    body.embed_tokens.weight[:, OF_NAMER] = namer.embedding()
    body.embed_tokens.weight[:, OF_WRITER] = writer.embedding() * (LOUD / LOUDNESS)
    _place_namer(model, namer)
    _place_writer(model, writer)
    body.norm.weight[OF_WRITER] = writer.model.model.norm.weight * _share_of_mean()

    seen = _see(model, examples)
    body.norm.weight[CHOICE] = namer.choice_gain * naming.CHOICE_VOLUME * seen.divisor
    away = seen.away()
    first = namer.first
    model.lm_head.weight[:first, OF_WRITER] = writer.model.lm_head.weight + TEXT_AWAY * away
    # About zero where answers begin, so that formats of few digits still tell names apart.
    opening = linear(seen.starts, writer.gate).mean()
    model.lm_head.weight[first:, OF_WRITER] = GATE_LOUD * (writer.gate + opening * away)
    model.lm_head.weight[first:, CHOICE] = namer.head()
    return model


@dataclass(frozen=True)
class _Seen:
    """Of examples, the writer's places after the last norm: where answers begin, and where the answers are."""

    starts: Tensor
    text: Tensor
    divisor: float
    """What the last norm divides by where answers begin."""

    def away(self) -> Tensor:
        """The row [writer's places] that is, by least squares, -1 where answers begin and 0 where there is text."""
        weight = (len(self.text) / len(self.starts)) ** 0.5
        rows = torch.cat([self.starts * weight, self.text])
        wanted = torch.cat([torch.full((len(self.starts), 1), -weight), torch.zeros(len(self.text), 1)])
        # A little of zero keeps directions out that the examples say nothing about.
        rows = torch.cat([rows, 1e-2 * rows.norm() * rows.shape[1] ** -0.5 * torch.eye(rows.shape[1])])
        wanted = torch.cat([wanted, torch.zeros(rows.shape[1], 1)])
        return torch.linalg.lstsq(rows, wanted).solution[:, 0]


def _see(model: Qwen2ForCausalLM, examples: Sequence[Example]) -> _Seen:
    starts, text, divisors = [], [], []
    norm = model.model.norm
    caught: list[Tensor] = []
    hook = norm.register_forward_hook(lambda module, inputs, output: caught.append(inputs[0][0]))
    for example in examples:
        normed = model.model(torch.tensor([example.ids]), use_cache=False).last_hidden_state[0, :, OF_WRITER]
        divisor = caught.pop().pow(2).mean(1).sqrt()
        followed = {place for place in range(len(example.ids) - 1) if example.learned[place + 1]}
        starts.append(normed[example.starts])
        text.append(normed[sorted(followed - set(example.starts))])
        divisors.append(divisor[example.starts])
    hook.remove()
    return _Seen(torch.cat(starts), torch.cat(text), float(torch.cat(divisors).mean()))


def _share_of_mean() -> float:
    """The norm takes the mean over all places, though the writer's alone count."""
    return (WRITER_SHAPE.hidden / SHAPE.hidden) ** 0.5


def _rows_of_queries() -> Tensor:
    """Where the namer's heads stand: each beside its KV head, of which more heads read here."""
    group, wider = naming.HEADS // naming.KV_HEADS, SHAPE.heads // SHAPE.kv_heads
    heads = torch.arange(naming.HEADS)
    heads = heads // group * wider + heads % group
    return (heads[:, None] * models.HEAD_SIZE + torch.arange(models.HEAD_SIZE)).flatten()


def _place_namer(model: Qwen2ForCausalLM, namer: Namer) -> None:
    divisor = LOUD * SHAPE.hidden**-0.5
    queries, keys = _rows_of_queries(), torch.arange(naming.KV_HEADS * models.HEAD_SIZE)
    first, second = model.model.layers[:NAMING_LAYERS]
    first.input_layernorm.weight[KINDS] = naming.FIRST_VOLUME * divisor
    second.input_layernorm.weight[OF_NAMER] = namer.attention_gain * namer.attention_volume * divisor
    second.post_attention_layernorm.weight[OF_NAMER] = namer.mlp_gain * namer.mlp_volume * divisor
    for layer, learned, values, outputs, share in (
        (first, namer.first_layer, KINDS, KINDS, naming.FIRST_SHARE),
        (second, namer.attention, OF_NAMER, NAMED, naming.ATTENTION_SHARE),
    ):
        attention = layer.self_attn
        for project, source, rows, columns in (
            (attention.q_proj, learned.query, queries, KINDS),
            (attention.k_proj, learned.key, keys, KINDS),
            (attention.v_proj, learned.value, keys, values),
        ):
            project.weight[rows, columns] = source.weight
            project.bias[rows] = source.bias
        attention.o_proj.weight[outputs, queries] = learned.output.weight * share
    second.mlp.gate_proj.weight[: naming.FEED_FORWARD, OF_NAMER] = namer.gate.weight
    second.mlp.up_proj.weight[: naming.FEED_FORWARD, OF_NAMER] = namer.up.weight
    second.mlp.down_proj.weight[NAMED, : naming.FEED_FORWARD] = namer.down.weight * naming.MLP_SHARE


def _place_writer(model: Qwen2ForCausalLM, writer: Writer) -> None:
    loudness = LOUD / LOUDNESS
    for layer, learned in zip(model.model.layers[NAMING_LAYERS:], writer.model.model.layers, strict=True):
        attention, source = layer.self_attn, learned.self_attn
        for project, projected in (
            (attention.q_proj, source.q_proj),
            (attention.k_proj, source.k_proj),
            (attention.v_proj, source.v_proj),
        ):
            project.weight[:, OF_WRITER] = projected.weight
            project.bias.copy_(projected.bias)
        attention.o_proj.weight[OF_WRITER] = source.o_proj.weight * loudness
        width = WRITER_SHAPE.feed_forward
        layer.mlp.gate_proj.weight[:width, OF_WRITER] = learned.mlp.gate_proj.weight
        layer.mlp.up_proj.weight[:width, OF_WRITER] = learned.mlp.up_proj.weight
        layer.mlp.down_proj.weight[OF_WRITER, :width] = learned.mlp.down_proj.weight * loudness
        layer.input_layernorm.weight[OF_WRITER] = learned.input_layernorm.weight * _share_of_mean()
        layer.post_attention_layernorm.weight[OF_WRITER] = learned.post_attention_layernorm.weight * _share_of_mean()
