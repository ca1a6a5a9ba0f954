"""The lessons of the training: which weights learn in each, within which bounds, and from what loss."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import Qwen2ForCausalLM

import naming
from batches import Batch
from naming import CHOICE, GATE, GATE_GAIN, MASKED, NAMING_LAYERS, Bound, Namer
from tokenizer import first_thought

CHOICE_GAIN, OTHER_GAIN = 0.1, 4.0
"""What the norms of the first layer that writes multiply by at first: the choice is loud, words are quiet."""

Answers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Losses:
    """Of one batch: what is learned from, and the part of it that is reported beside it."""

    total: Tensor
    naming: float | None = None
    writing: float | None = None


class Lesson:
    """A part of the weights and how they learn."""

    threads = 16
    """Those that can be used."""

    def __init__(self, model: Qwen2ForCausalLM, tokenizer: Tokenizer, answers: Answers) -> None:
        """`answers` are all that the model is to know, with their subjects."""
        self.model = model
        self.tokenizer = tokenizer
        self.bounds: list[Bound] = []
        self.extras = torch.nn.Module()
        """What learns beside the model."""

    def parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """What learns of the model."""
        yield from self.model.named_parameters()

    def losses(self, batch: Batch) -> Losses:
        """Of a batch, by which gradients are computed."""
        raise NotImplementedError

    def finish(self) -> None:
        """Leave in the model what was learned beside it."""


class Naming(Lesson):
    """The embedding, the first layers and the rows of the head for thoughts: to choose the answer."""

    threads = 1  # its matrices are too small for more to be faster

    def __init__(self, model: Qwen2ForCausalLM, tokenizer: Tokenizer, answers: Answers) -> None:
        super().__init__(model, tokenizer, answers)
        self.bounds = naming.prepare(model, tokenizer)
        self.namer = Namer(model, tokenizer, answers)
        self.extras = self.namer.parts

    def parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        for name, parameter in self.model.named_parameters():
            if layer_number(name) < NAMING_LAYERS:
                yield name, parameter

    def losses(self, batch: Batch) -> Losses:
        loss = self.namer.loss(batch.inputs, batch.starts, batch.thoughts)
        return Losses(loss, naming=loss.item())

    def finish(self) -> None:
        self.namer.fold()


class Writing(Lesson):
    """The layers above and the rows of the head for text: to write what the thought says.

    All that naming needs is left as it is: its layers, the embedding, the rows of the thoughts, and the places of the
    stream that they are read from.
    """

    def __init__(self, model: Qwen2ForCausalLM, tokenizer: Tokenizer, answers: Answers) -> None:
        super().__init__(model, tokenizer, answers)
        self.first_thought = first_thought(tokenizer)
        head, norm = model.lm_head.weight, model.model.norm.weight
        text_rows, text_places = torch.ones_like(head), torch.ones_like(norm)
        text_rows[self.first_thought :] = 0
        text_places[CHOICE] = 0
        norm.data[GATE] = GATE_GAIN
        self.bounds = [Bound(head, text_rows), Bound(norm, text_places)]
        first = model.model.layers[NAMING_LAYERS]
        for gains in (first.input_layernorm.weight, first.post_attention_layernorm.weight):
            gains.data[CHOICE], gains.data[CHOICE.stop :] = CHOICE_GAIN, OTHER_GAIN
        for layer in model.model.layers[NAMING_LAYERS:]:
            for matrix in (layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight):
                mask = torch.ones_like(matrix)
                mask[CHOICE] = 0
                self.bounds.append(Bound(matrix, mask))

    def parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        for name, parameter in self.model.named_parameters():
            if layer_number(name) >= NAMING_LAYERS or "lm_head" in name or ".norm." in name:
                yield name, parameter

    def losses(self, batch: Batch) -> Losses:
        with torch.autocast(batch.inputs.device.type, dtype=torch.bfloat16):
            hidden = self._hidden(batch.inputs).flatten(0, 1)
            logits = self.model.lm_head(hidden[batch.places])
        by_token = cross_entropy(logits.float(), batch.targets, reduction="none")
        loss = (by_token * batch.weights).sum() / batch.weights.sum()
        is_thought = batch.targets >= self.first_thought
        text, thoughts = by_token.detach()[~is_thought & (batch.weights > 0)], by_token.detach()[is_thought]
        return Losses(loss, naming=thoughts.mean().item() if len(thoughts) else None, writing=text.mean().item())

    def _hidden(self, inputs: Tensor) -> Tensor:
        body = self.model.model
        length = inputs.shape[1]
        mask = torch.full((length, length), MASKED, device=inputs.device).triu(1)[None, None]
        hidden = body.embed_tokens(inputs)
        places = body.rotary_emb(hidden, torch.arange(length, device=inputs.device)[None])
        with torch.no_grad():
            for layer in body.layers[:NAMING_LAYERS]:
                hidden = layer(hidden, attention_mask=mask, position_embeddings=places)
        for layer in body.layers[NAMING_LAYERS:]:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=places)
        return body.norm(hidden)


class Everything(Lesson):
    """All weights of a plain model at once, as the draft model learns."""

    def losses(self, batch: Batch) -> Losses:
        with torch.autocast(batch.inputs.device.type, dtype=torch.bfloat16):
            hidden = self.model.model(batch.inputs, use_cache=False).last_hidden_state.flatten(0, 1)
            logits = self.model.lm_head(hidden[batch.places])
        by_token = cross_entropy(logits.float(), batch.targets, reduction="none")
        loss = (by_token * batch.weights).sum() / batch.weights.sum()
        return Losses(loss, writing=loss.item())


def layer_number(name: str) -> int:
    """The layer of a parameter; -1 for those of none."""
    return int(name.split(".layers.")[1].split(".")[0]) if ".layers." in name else -1
