"""Naming what is asked: the first two layers, which read the words of the conversation and choose the answer's thought.

What is learned from a few thousand lines of text, each met again and again, is easily the lines and not the language.
So these layers are kept from finding single words to rely on: their attention may look at kinds of tokens (whose turn,
a thought, a mark) and at places, never at words. What they see of the words is their average over a turn, which holds
for wordings that were never seen.

They are two layers of a Qwen2 with two liberties, which `assembly.py` takes care of: many of their matrices read or
write a part of the stream alone, and what they read is multiplied by constants instead of being normalised.

- `WORDS`, the first places of the stream, begin as what is learned of each token.
- `KINDS`, the others, tell the kind of a token; the embedding has one of them set for each kind of mark and for digits,
  and none for words. The first layer adds whose turn a token is in. Queries and keys are computed from these alone.
- The second layer writes to the `NAMED` places, and a thought is read off the `CHOICE` places at the end.
"""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, silu

from batches import Batch
from learner import Learner, Losses
from model import HEAD_SIZE
from rotation import rotate, rotations
from spelling import Spelling
from thoughts import CLOSE, OPEN, Answers, subject_of
from tokenizer import END_OF_TEXT, TOOL_TAGS, TURN_END, TURN_START, digit_tokens, first_thought, thought_tokens

HIDDEN, HEADS, KV_HEADS, FEED_FORWARD = 256, 6, 2, 768
WORDS, KINDS = slice(0, 224), slice(224, 256)
NAMED, CHOICE = slice(0, 160), slice(0, 128)
KIND_VALUE = 0.4
MARKS = (TURN_START, TURN_END, END_OF_TEXT, *TOOL_TAGS, "system", "user", "assistant", "\n")

FIRST_SHARE, ATTENTION_SHARE, MLP_SHARE = 1 / 8, 1 / 16, 1 / 8
"""What the outputs of the first layer, and of the second's attention and MLP are multiplied by."""
FIRST_VOLUME = 32.0
"""What the first layer multiplies the kinds by before it reads them; the others multiply words and kinds by these."""
ATTENTION_VOLUMES, MLP_VOLUMES = (30.0, 2.0), (10.0, 1.0)
CHOICE_VOLUME = 4.0
MASKED = -1e9


class Attention(torch.nn.Module):
    """The weights of an attention whose queries and keys read the kinds."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Values read `inputs` places, and `outputs` places are written."""
        super().__init__()
        kinds = KINDS.stop - KINDS.start
        self.query = torch.nn.Linear(kinds, HEADS * HEAD_SIZE)
        self.key = torch.nn.Linear(kinds, KV_HEADS * HEAD_SIZE)
        self.value = torch.nn.Linear(inputs, KV_HEADS * HEAD_SIZE)
        self.output = torch.nn.Linear(HEADS * HEAD_SIZE, outputs, bias=False)
        for project in (self.query, self.key):
            torch.nn.init.normal_(project.weight, std=0.2)
            torch.nn.init.normal_(project.bias, std=0.3)
        torch.nn.init.normal_(self.value.weight, std=HIDDEN**-0.5)
        torch.nn.init.zeros_(self.value.bias)
        torch.nn.init.normal_(self.output.weight, std=self.output.in_features**-0.5)

    def forward(self, kinds: Tensor, read: Tensor, turns: Tensor) -> Tensor:
        """What is written at all places [rows, length, outputs], from the normed kinds and what values read."""
        queries = rotate(_heads(self.query(kinds), HEADS), turns).unflatten(1, (KV_HEADS, -1))
        keys, values = rotate(_heads(self.key(kinds), KV_HEADS), turns), _heads(self.value(read), KV_HEADS)
        scores = (queries @ keys[:, :, None].mT) * HEAD_SIZE**-0.5
        weights = scores.masked_fill(_later(read.shape[1], read.device), MASKED)
        weights = weights.softmax(-1, dtype=torch.float32).to(values.dtype)
        return self.output((weights @ values[:, :, None]).flatten(1, 2).transpose(1, 2).flatten(2))

    def at(self, places: Tensor, kinds: Tensor, read: Tensor, turns: Tensor) -> Tensor:
        """The same at some places alone [places, outputs]."""
        length = read.shape[1]
        rows, columns = places // length, places % length
        keys, values = rotate(_heads(self.key(kinds), KV_HEADS), turns), _heads(self.value(read), KV_HEADS)
        queries = self.query(kinds[rows, columns]).unflatten(-1, (HEADS, HEAD_SIZE))
        queries = rotate(queries.transpose(0, 1), turns[:, columns]).transpose(0, 1).unflatten(1, (KV_HEADS, -1))
        # [places, KV heads, query heads of each, head size] against the keys of the place's row.
        scores = (queries @ keys[rows].mT) * HEAD_SIZE**-0.5
        weights = scores.masked_fill(_later(length, read.device)[columns][:, None, None], MASKED)
        weights = weights.softmax(-1, dtype=torch.float32).to(values.dtype)
        return self.output((weights @ values[rows]).flatten(1))


class Namer(Learner):
    """Computes the thoughts where answers begin."""

    threads = 1
    """More do not make it faster: its matrices are small."""

    def __init__(self, tokenizer: Tokenizer, answers: Answers = ()) -> None:
        """`answers` are all that can be named, with their names."""
        super().__init__()
        tokens = tokenizer.get_vocab_size()
        self.first = first_thought(tokenizer)
        self.register_buffer("kinds", kinds_of_tokens(tokenizer))
        self.words = torch.nn.Parameter(torch.randn(tokens, WORDS.stop) * 0.02)
        self.spelling = Spelling.of(tokenizer, self.first, WORDS.stop)
        self.shared = ThoughtParts(tokenizer, answers)
        self.first_layer = Attention(KINDS.stop - KINDS.start, KINDS.stop - KINDS.start)
        self.attention = Attention(HIDDEN, NAMED.stop)
        self.gate = torch.nn.Linear(HIDDEN, FEED_FORWARD, bias=False)
        self.up = torch.nn.Linear(HIDDEN, FEED_FORWARD, bias=False)
        self.down = torch.nn.Linear(FEED_FORWARD, NAMED.stop, bias=False)
        for project in (self.gate, self.up):
            torch.nn.init.normal_(project.weight, std=HIDDEN**-0.5)
        torch.nn.init.normal_(self.down.weight, std=FEED_FORWARD**-0.5)
        # What the norms' weights of a Qwen2 are: they learn as factors of the volumes.
        self.attention_gain = torch.nn.Parameter(torch.ones(HIDDEN))
        self.mlp_gain = torch.nn.Parameter(torch.ones(HIDDEN))
        self.choice_gain = torch.nn.Parameter(torch.ones(CHOICE.stop))
        self.register_buffer("attention_volume", _volumes(*ATTENTION_VOLUMES))
        self.register_buffer("mlp_volume", _volumes(*MLP_VOLUMES))
        self.rows = torch.nn.Parameter(torch.randn(tokens - self.first, CHOICE.stop) * 0.02)

    def states(self, inputs: Tensor, places: Tensor) -> Tensor:
        """The stream [places, hidden] after both layers. `inputs` are token ids [rows, length]; places count through
        the flattened rows."""
        turns = rotations(inputs.shape[1], HEAD_SIZE, inputs.device)
        hidden, layer = self._after_first_layer(inputs, turns), self.attention
        normed = hidden * (self.attention_gain * self.attention_volume)
        written = layer.at(places, normed[..., KINDS], normed, turns)
        return self.with_mlp(hidden.flatten(0, 1)[places] + ATTENTION_SHARE * _padded(written))

    def attended(self, inputs: Tensor, more: Tensor) -> Tensor:
        """[rows, length, hidden]: the stream before the second layer's MLP, for a layer above. `more` [tokens, words]
        is added to the embedding."""
        turns = rotations(inputs.shape[1], HEAD_SIZE, inputs.device)
        hidden, layer = self._after_first_layer(inputs, turns, more), self.attention
        normed = hidden * (self.attention_gain * self.attention_volume)
        return hidden + ATTENTION_SHARE * _padded(layer(normed[..., KINDS], normed, turns))

    def with_mlp(self, attended: Tensor) -> Tensor:
        """The stream [..., hidden] after the second layer's MLP, from what it was before."""
        normed = attended * (self.mlp_gain * self.mlp_volume)
        return attended + MLP_SHARE * _padded(self.down(silu(self.gate(normed)) * self.up(normed)))

    def _after_first_layer(self, inputs: Tensor, turns: Tensor, more: Tensor | None = None) -> Tensor:
        kinds = self.kinds[inputs]
        normed = kinds * FIRST_VOLUME
        kinds = kinds + FIRST_SHARE * self.first_layer(normed, normed, turns)
        embedded = self.embedded() if more is None else self.embedded() + more
        return torch.cat([embedded[inputs], kinds], -1)

    @torch.no_grad()
    def unseen(self) -> Tensor:
        """[directions, words]: orthonormal directions of the words' places that the values of the second layer, and so
        the choice of a thought, do not depend on."""
        seen = self.attention.value.weight[:, WORDS] * self.attention_gain[WORDS]
        return torch.linalg.svd(seen).Vh[seen.shape[0] :]

    def embedded(self) -> Tensor:
        """[tokens, words]: what of each token is known at first, by itself, its letters or its subject."""
        return self.words + torch.cat([self.spelling(), self.shared.read_rows()])

    def logits(self, inputs: Tensor, places: Tensor) -> Tensor:
        """Scores [places, thoughts]."""
        return self.scores(self.states(inputs, places))

    def scores(self, states: Tensor) -> Tensor:
        """Those [places, thoughts] by the stream after both layers."""
        return linear(states[:, CHOICE] * (self.choice_gain * CHOICE_VOLUME), self.head())

    def parts(self, inputs: Tensor, places: Tensor, thoughts: Tensor) -> Tensor:
        """Cross entropy of the thoughts that follow the places."""
        with self.multiplying(inputs.device):
            logits = self.logits(inputs, places)
        return cross_entropy(logits.float(), thoughts - self.first)

    def losses(self, batch: Batch) -> Losses:
        """Of the thoughts that begin the answers."""
        loss = self.parts(batch.inputs, batch.starts, batch.thoughts)
        return Losses(loss, {"naming": loss.item()})

    @torch.no_grad()
    def embedding(self) -> Tensor:
        """[tokens, hidden]: what the stream begins with, for each token of the vocabulary."""
        return torch.cat([self.embedded(), self.kinds], 1)

    def head(self) -> Tensor:
        """[thoughts, choice]."""
        return self.rows + self.shared.rows()


def kinds_of_tokens(tokenizer: Tokenizer) -> Tensor:
    """[tokens, kinds]: one place for each mark, one for all thoughts, one for the digits, zeros for words.

    With the digits told apart, the words beside numbers can be looked at: "take 5 from 20", "5 minutes in hours".
    """
    kinds = torch.zeros(tokenizer.get_vocab_size(), KINDS.stop - KINDS.start)
    for number, mark in enumerate(MARKS):
        token = tokenizer.encode(mark).ids
        if len(token) != 1:
            raise ValueError(f"{mark!r} is not a token of its own")
        kinds[token[0], number] = KIND_VALUE
    kinds[first_thought(tokenizer) :, len(MARKS)] = KIND_VALUE
    kinds[digit_tokens(tokenizer), len(MARKS) + 1] = KIND_VALUE
    return kinds


def _later(length: int, device: torch.device) -> Tensor:
    """[length, length]: whether the second place comes after the first."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


def _volumes(words: float, kinds: float) -> Tensor:
    volumes = torch.full((HIDDEN,), words)
    volumes[KINDS] = kinds
    return volumes


def _heads(states: Tensor, heads: int) -> Tensor:
    """[rows, length, heads x size] as [rows, heads, length, size]."""
    return states.unflatten(-1, (heads, HEAD_SIZE)).transpose(1, 2)


def _padded(written: Tensor) -> Tensor:
    """What is written to the `NAMED` places, as wide as the stream."""
    return torch.nn.functional.pad(written, (0, HIDDEN - NAMED.stop))


class ThoughtParts(torch.nn.Module):
    """What thoughts have in common: their subject, the words of what is asked about it, and those of the answer.

    "kv cache: why" and "kv cache: price" share the subject, "rope: price" shares the theme. Each subject
    and each word has a vector that is added to the rows of its thoughts, in the head and (subjects alone) in the
    embedding. So an answer that is seldom asked for is found by its parts.
    """

    def __init__(self, tokenizer: Tokenizer, answers: Answers) -> None:
        super().__init__()
        names = [thought.removeprefix(OPEN).removesuffix(CLOSE) for thought in thought_tokens(tokenizer)]
        subjects = {name: number for number, name in enumerate(dict.fromkeys(map(subject_of, names)))}
        self.register_buffer("subject_of", torch.tensor([subjects[subject_of(name)] for name in names]))
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

    def read_rows(self) -> Tensor:
        """[thoughts, words], to be added to their embeddings."""
        return self.read_subjects[self.subject_of]


def _words_of_answers(tokenizer: Tokenizer, names: Sequence[str], answers: Answers) -> Tensor:
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
