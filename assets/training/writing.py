"""Writing what a thought says: a plain Qwen2 that needs nothing of the layers that name but the thought in the text."""

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, normalize, softplus
from transformers import Qwen2ForCausalLM

import model as models
from batches import Batch
from copying_heads import set_copying_heads
from learner import Learner, Losses
from tokenizer import blanked_words, first_thought

WRITER_SHAPE = models.Shape(hidden=128, layers=4, heads=6, kv_heads=2, feed_forward=768)
LOUDNESS = 2.0
"""The length of the rows of the embedding. They are all of the same length, as `assembly.py` needs it."""
SAID_AS_READ = 0.25
"""What the head has of the embedding, besides rows of its own: so what is copied is said, however rare the token."""
OF_BLANK = 0.2
"""How much of its own a token of a blank and a word begins with, beside what it is by its word."""
MARGIN = 8.0
"""How far the gate is to be above or below zero."""


class Writer(Learner):
    """Reads thoughts and writes text, and says by a gate where a thought is to come."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.first_thought = first_thought(tokenizer)
        self.model = models.build(WRITER_SHAPE, tokenizer, tied=False)
        self.model.lm_head = torch.nn.Linear(WRITER_SHAPE.hidden, self.first_thought, bias=False)
        torch.nn.init.normal_(self.model.lm_head.weight, std=models.EMBEDDING_DEVIATION)
        blanked = blanked_words(tokenizer)
        self.register_buffer("blanked", torch.tensor(list(blanked)))
        self.register_buffer("words", torch.tensor(list(blanked.values())))
        for rows in (self.model.model.embed_tokens.weight, self.model.lm_head.weight):
            rows.data[self.blanked] *= OF_BLANK
        set_copying_heads(self.model)
        self.gate = torch.nn.Parameter(torch.zeros(1, WRITER_SHAPE.hidden))

    def embedding(self) -> Tensor:
        """[tokens, hidden], rows of length `LOUDNESS`."""
        return normalize(self._with_words(self.model.model.embed_tokens.weight)) * LOUDNESS

    def head(self) -> Tensor:
        """[tokens of text, hidden]."""
        own = self._with_words(self.model.lm_head.weight)
        return own + SAID_AS_READ * self.embedding()[: self.first_thought]

    def _with_words(self, rows: Tensor) -> Tensor:
        """A blank with a word is the word and a little of its own: or in a call, where the word stands without its
        blank, it could not be copied from a question where it stands with it."""
        return rows.index_add(0, self.blanked, rows[self.words])

    @torch.no_grad()
    def take_rows(self, parameter: Tensor, rows: Tensor) -> None:
        """Set those of the embedding or the head, so that with the words they come to `rows`."""
        parameter.copy_(rows)
        parameter[self.blanked] -= rows[self.words]

    def states(self, inputs: Tensor) -> Tensor:
        """The stream after the last norm [rows, length, hidden], from token ids [rows, length]."""
        states: Tensor = self.model.model(inputs_embeds=self.embedding()[inputs], use_cache=False).last_hidden_state
        return states

    def parts(self, inputs: Tensor, places: Tensor, targets: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
        """[2]: cross entropy of the text, and how far the gate is from telling thoughts from text."""
        with self.multiplying(inputs.device):
            states = self.states(inputs).flatten(0, 1)
            told = states[places]
            logits = linear(told, self.head())
        weights = weights * (targets < self.first_thought)
        by_token = cross_entropy(logits.float(), targets.clamp(max=self.first_thought - 1), reduction="none")
        writing = (by_token * weights).sum() / weights.sum()
        no_thought = softplus(MARGIN + (told.float() @ self.gate.T)[:, 0])
        gate = (
            softplus(MARGIN - states[starts].float() @ self.gate.T).mean()
            + (no_thought * weights).sum() / weights.sum()
        )
        return torch.stack([writing, gate])

    def losses(self, batch: Batch) -> Losses:
        """Of the text, and a little of the gate."""
        writing, gate = self.parts(batch.inputs, batch.places, batch.targets, batch.weights, batch.starts)
        return Losses(writing + 0.1 * gate, {"writing": writing.item(), "gate": gate.item()})


class Plain(Learner):
    """All weights of a plain model at once, as the draft model learns."""

    def __init__(self, shape: models.Shape, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.model: Qwen2ForCausalLM = models.build(shape, tokenizer, tied=True)

    def parts(self, inputs: Tensor, places: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Cross entropy of thoughts and text."""
        with self.multiplying(inputs.device):
            hidden = self.model.model(inputs, use_cache=False).last_hidden_state.flatten(0, 1)
            logits = self.model.lm_head(hidden[places])
        by_token = cross_entropy(logits.float(), targets, reduction="none")
        return (by_token * weights).sum() / weights.sum()

    def losses(self, batch: Batch) -> Losses:
        """Of all that is said."""
        loss = self.parts(batch.inputs, batch.places, batch.targets, batch.weights)
        return Losses(loss, {"writing": loss.item()})
