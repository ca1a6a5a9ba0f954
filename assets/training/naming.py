"""Naming what is asked: the first two layers, which read the words of the conversation and choose the answer's thought.

What is learned from a few thousand lines of text, each met again and again, is easily the lines and not the language.
So these layers are kept from finding single words to rely on: their attention may look at kinds of tokens (whose turn,
a thought, a mark) and at places, never at words. What they see of the words is their average over a turn, which holds
for wordings that were never seen. It is a plain Qwen2 all the same, with zeros in some of its matrices:

- `KINDS`, the last places of the stream, tell the kind of a token; the embedding has one of them set for each kind of
  mark, and none for words. The first layer adds whose turn a token is in.
- Queries and keys of both layers are computed from these places alone.
- The second layer writes to the `NAMED` places alone, and not many times what the embedding holds, so that those above
  still find in the stream which token is at a place.
- A thought is read off the `CHOICE` places of the stream at the end. The layers above write to the others alone, so
  that what they learn later cannot change what is named.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from transformers import Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from thoughts import CLOSE, OPEN
from tokenizer import END_OF_TEXT, TOOL_TAGS, TURN_END, TURN_START, first_thought

MASKED = -1e9
NAMING_LAYERS = 2
CHOICE = slice(0, 128)
NAMED = slice(0, 160)
WORDS = slice(0, 224)
KINDS = slice(224, 256)
GATE = 223
"""The place by which the layers above say that it is no time for a thought; all thoughts' rows read it alike."""
GATE_GAIN, GATE_WEIGHT = 8.0, 8.0
KIND_VALUE = 0.4
FIRST_SHARE, ATTENTION_SHARE, MLP_SHARE = 1 / 8, 1 / 16, 1 / 8
"""What the outputs of the first layer, and of the second's attention and MLP are multiplied by."""
GAIN = 4.0
"""What the last norm multiplies the `CHOICE` places by at first."""
MARKS = (TURN_START, TURN_END, END_OF_TEXT, *TOOL_TAGS, "system", "user", "assistant", "\n")


@dataclass(frozen=True)
class Bound:
    """Where a matrix may differ from zero."""

    parameter: torch.nn.Parameter
    mask: Tensor

    def bound_gradient(self) -> None:
        """Keep the gradient within."""
        if self.parameter.grad is not None:
            self.parameter.grad *= self.mask


def prepare(model: Qwen2ForCausalLM, tokenizer: Tokenizer) -> list[Bound]:
    """Set what naming needs, and return what has to stay zero (or as it is) while it is learned."""
    body = model.model
    thoughts = first_thought(tokenizer)
    bounds = []

    with torch.no_grad():
        embedding = body.embed_tokens.weight
        embedding[:, KINDS] = 0
        for number, mark in enumerate(MARKS):
            token = tokenizer.encode(mark).ids
            assert len(token) == 1, mark
            embedding[token[0], KINDS.start + number] = KIND_VALUE
        embedding[thoughts:, KINDS.start + len(MARKS)] = KIND_VALUE
        bounds.append(_bound(embedding, WORDS))

        head = model.lm_head.weight
        head[thoughts:] = 0
        torch.nn.init.normal_(head[thoughts:, CHOICE], std=0.02)
        mask = torch.ones_like(head)
        mask[thoughts:] = 0
        mask[thoughts:, CHOICE] = 1
        bounds.append(Bound(head, mask))

        for layer in body.layers[:NAMING_LAYERS]:
            attention = layer.self_attn
            for project in (attention.q_proj, attention.k_proj):
                torch.nn.init.normal_(project.weight, std=0.2)
                torch.nn.init.normal_(project.bias, std=0.3)
                bounds.append(_bound(project.weight, KINDS))
            torch.nn.init.normal_(attention.o_proj.weight, std=attention.o_proj.in_features**-0.5)
        first = body.layers[0]
        # Its heads tell whose turn it is, and nothing of the words; it has no MLP.
        output_mask = torch.zeros_like(first.self_attn.o_proj.weight)
        output_mask[KINDS] = 1
        bounds += [
            _bound(first.self_attn.v_proj.weight, KINDS),
            Bound(first.self_attn.o_proj.weight, output_mask),
            Bound(first.mlp.down_proj.weight, torch.zeros_like(first.mlp.down_proj.weight)),
        ]
        second = body.layers[1]
        torch.nn.init.normal_(second.mlp.down_proj.weight, std=second.mlp.down_proj.in_features**-0.5)
        for matrix in (second.self_attn.o_proj.weight, second.mlp.down_proj.weight):
            mask = torch.zeros_like(matrix)
            mask[NAMED] = 1
            bounds.append(Bound(matrix, mask))
        body.norm.weight[CHOICE] = GAIN
        for bound in bounds:
            if bound.parameter is not embedding:
                bound.parameter.mul_(bound.mask)
    return bounds


def _bound(matrix: torch.nn.Parameter, columns: slice) -> Bound:
    mask = torch.zeros_like(matrix)
    mask[:, columns] = 1
    return Bound(matrix, mask)


class ThoughtParts(torch.nn.Module):
    """What thoughts have in common: their subject, the words of what is asked about it, and those of the answer.

    "kv cache: why" and "kv cache: is it exact" share the subject, "rope: is it exact" shares the words. Each subject
    and each word has a vector that is added to the rows of its thoughts, in the head and (subjects alone) in the
    embedding, while they are learned; `fold` leaves plain matrices. So an answer that is seldom asked for is found by
    its parts.
    """

    def __init__(self, tokenizer: Tokenizer, answers: Sequence[tuple[str, str]]) -> None:
        """`answers` are all of them, with their subjects."""
        super().__init__()
        self.first = first_thought(tokenizer)
        names = [tokenizer.id_to_token(token) for token in range(self.first, tokenizer.get_vocab_size())]
        names = [name.removeprefix(OPEN).removesuffix(CLOSE) for name in names]
        subjects = {name: number for number, name in enumerate(dict.fromkeys(n.partition(": ")[0] for n in names))}
        self.register_buffer("subject_of", torch.tensor([subjects[n.partition(": ")[0]] for n in names]))
        wordings = [n.partition(": ")[2].split() for n in names]
        words = {word: number for number, word in enumerate(dict.fromkeys(w for each in wordings for w in each))}
        share = torch.zeros(len(names), len(words))
        for number, wording in enumerate(wordings):
            for word in wording:
                share[number, words[word]] = len(wording) ** -0.5
        self.register_buffer("share", share)
        self.register_buffer("told", _words_of_answers(tokenizer, names, answers))
        self.tellings = torch.nn.Parameter(torch.randn(self.told.shape[1], CHOICE.stop) * 0.02)
        self.subjects = torch.nn.Parameter(torch.randn(len(subjects), CHOICE.stop) * 0.02)
        self.words = torch.nn.Parameter(torch.randn(len(words), CHOICE.stop) * 0.02)
        self.read_subjects = torch.nn.Parameter(torch.randn(len(subjects), WORDS.stop) * 0.02)

    def rows(self) -> Tensor:
        """[thoughts, choice], to be added to those of the head."""
        return self.subjects[self.subject_of] + self.share @ self.words + self.told @ self.tellings

    def read(self, inputs: Tensor) -> Tensor:
        """[rows, length, hidden up to the kinds], to be added to the embedding of the inputs; zero but for thoughts."""
        return self.read_rows()[(inputs - self.first + 1).clamp(min=0)]

    def read_rows(self) -> Tensor:
        """[1 + thoughts, hidden up to the kinds]; the first stands for all other tokens."""
        rows = self.read_subjects[self.subject_of]
        return torch.cat([rows.new_zeros(1, rows.shape[1]), rows])

    @torch.no_grad()
    def fold(self, model: Qwen2ForCausalLM) -> None:
        """Add the vectors to the model's own matrices, and be zero from now on."""
        model.lm_head.weight[self.first :, CHOICE] += self.rows()
        model.model.embed_tokens.weight[self.first :, WORDS] += self.read_rows()[1:]
        for parameter in self.parameters():
            parameter.zero_()


def _words_of_answers(tokenizer: Tokenizer, names: list[str], answers: Sequence[tuple[str, str]]) -> Tensor:
    """[thoughts, tokens of text]: what each answer is made of, rare tokens weighing more, rows of length one."""
    numbers = {name: number for number, name in enumerate(names)}
    counts = torch.zeros(len(names), first_thought(tokenizer))
    for name, text in answers:
        for token in tokenizer.encode(text.lower()).ids:
            counts[numbers[name], token] += 1
    seen = (counts > 0).sum(0)
    weights = counts.log1p() * (len(names) / seen.clamp(min=1)).log()
    weights = weights[:, seen > 1]
    return weights / weights.norm(dim=1, keepdim=True).clamp(min=1e-6)


class Namer:
    """Computes the thoughts of a model's first layers, at the places where answers begin alone."""

    def __init__(self, model: Qwen2ForCausalLM, tokenizer: Tokenizer, answers: Sequence[tuple[str, str]] = ()) -> None:
        self.model = model
        self.first = first_thought(tokenizer)
        self.parts = ThoughtParts(tokenizer, answers)
        self.shares = (FIRST_SHARE, ATTENTION_SHARE, MLP_SHARE)

    def logits(self, inputs: Tensor, places: Tensor) -> Tensor:
        """Scores [places, thoughts]. `inputs` are token ids [rows, length]; places count through the flattened rows."""
        body = self.model.model
        length = inputs.shape[1]
        positions = torch.arange(length, device=inputs.device)
        hidden = body.embed_tokens(inputs)
        hidden = torch.cat([hidden[..., WORDS] + self.parts.read(inputs), hidden[..., KINDS]], -1)
        cosine, sine = body.rotary_emb(hidden, positions[None])
        mask = torch.full((length, length), MASKED, device=inputs.device).triu(1)[None, None]
        layer = body.layers[0]
        mixed, _ = layer.self_attn(layer.input_layernorm(hidden), (cosine, sine), mask)
        first_share, attention_share, mlp_share = self.shares
        hidden = hidden + first_share * mixed
        rows, columns = places // length, places % length
        layer = body.layers[1]
        attention = layer.self_attn
        normed = layer.input_layernorm(hidden)
        keys, values = (
            project(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for project in (attention.k_proj, attention.v_proj)
        )
        queries = attention.q_proj(normed[rows, columns]).unflatten(-1, (-1, attention.head_dim))
        _, keys = apply_rotary_pos_emb(keys, keys, cosine, sine)
        queries, _ = apply_rotary_pos_emb(queries, queries, cosine[0, columns], sine[0, columns])
        # [places, KV heads, query heads of each, head size] against the keys of the place's row.
        queries = queries.unflatten(1, (keys.shape[1], -1))
        scores = queries @ keys[rows].transpose(-1, -2) * attention.scaling
        scores = scores.masked_fill(positions > columns[:, None, None, None], MASKED)
        weights = scores.softmax(-1, dtype=torch.float32).to(values.dtype)
        mixed = (weights @ values[rows]).flatten(1)
        chosen = hidden[rows, columns] + attention_share * attention.o_proj(mixed)
        chosen = chosen + mlp_share * layer.mlp(layer.post_attention_layernorm(chosen))
        chosen = body.norm(chosen)[:, CHOICE]
        return linear(chosen, self.model.lm_head.weight[self.first :, CHOICE] + self.parts.rows())

    @torch.no_grad()
    def fold(self) -> None:
        """Leave in the model alone what was learned."""
        self.parts.fold(self.model)
        first, second = self.model.model.layers[:NAMING_LAYERS]
        matrices = (first.self_attn.o_proj.weight, second.self_attn.o_proj.weight, second.mlp.down_proj.weight)
        for matrix, share in zip(matrices, self.shares, strict=True):
            matrix.mul_(share)
        self.shares = (1.0, 1.0, 1.0)
        # All thoughts alike, so that the order among them stays.
        self.model.lm_head.weight[self.first :, GATE] = GATE_WEIGHT
        self.model.model.norm.weight[GATE] = GATE_GAIN
        # Nobody reads a thought off other places; the words there are for the layers above.
        second.mlp.down_proj.weight[CHOICE.stop :] = 0

    def loss(self, inputs: Tensor, places: Tensor, targets: Tensor) -> Tensor:
        """Mean cross entropy of the thoughts."""
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
            logits = self.logits(inputs, places)
        return cross_entropy(logits.float(), targets - self.first)
