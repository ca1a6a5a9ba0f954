"""Learners that begin with what an earlier model has learned: assembly, taken apart again.

Text and thoughts may have changed since. The tokens of text stay the earlier ones; a thought that is new begins where
those of its subject were. What a learner only uses while it learns (letters in common, parts of thoughts) is not in a
model: it begins anew, and the rest makes up for it, so that all is at first as it was.
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import singledispatch
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import Qwen2ForCausalLM

import model as models
import naming
from assembly import OF_WRITER, places_of_namer, places_of_reckoner, places_of_writer
from learner import Learner
from naming import CHOICE, Namer
from reckoning import RECKONED, RECKONED_VOLUME, Reckoner
from thoughts import subject_of
from tokenizer import first_thought, load_tokenizer, thought_tokens
from writing import LOUDNESS, SAID_AS_READ, WRITER_SHAPE, Plain, Writer


class Earlier:
    """A model that was made before, and which of its thoughts the present ones are."""

    def __init__(self, folder: Path, tokenizer: Tokenizer) -> None:
        """`tokenizer` is the present one; its tokens of text are the earlier one's."""
        self.model: Qwen2ForCausalLM = models.load(folder)
        earlier = load_tokenizer(folder)
        self.first = first_thought(tokenizer)
        if first_thought(earlier) != self.first:
            raise ValueError(f"{folder} has other tokens of text than this run: it can't go on from there")
        now, then = thought_tokens(tokenizer), thought_tokens(earlier)
        numbers = {name: number for number, name in enumerate(then)}
        by_subject: dict[str, list[int]] = defaultdict(list)
        for number, name in enumerate(then):
            by_subject[subject_of(name)].append(number)
        self.alike: list[list[int]] = [
            [numbers[name]] if name in numbers else by_subject[subject_of(name)] for name in now
        ]
        """For each thought the earlier ones that it begins as: itself, or all of its subject, or none."""

    def of_thoughts(self, rows: Tensor, otherwise: Tensor) -> Tensor:
        """[thoughts now, ...] from the earlier thoughts' rows; `otherwise` are those of thoughts that had none."""
        return torch.stack([rows[alike].mean(0) if alike else otherwise[n] for n, alike in enumerate(self.alike)])

    def of_tokens(self, rows: Tensor, otherwise: Tensor) -> Tensor:
        """The same for all tokens, those of text as they were."""
        thoughts = self.of_thoughts(rows[self.first :], otherwise[self.first :])
        return torch.cat([rows[: self.first], thoughts])


@singledispatch
def continue_from(learner: Learner, earlier: Earlier) -> None:
    """Let a learner begin with what the earlier model knows."""
    raise TypeError(f"{type(learner).__name__} is no part of a model")


@continue_from.register
@torch.no_grad()
def _(learner: Namer, earlier: Earlier) -> None:
    body = earlier.model.model
    _restrained(learner)
    read, said = body.embed_tokens.weight[:, naming.WORDS], earlier.model.lm_head.weight[earlier.first :, CHOICE]
    learner.words += earlier.of_tokens(read, learner.embedded()) - learner.embedded()
    learner.rows += earlier.of_thoughts(said, learner.head()) - learner.head()

    # The last norm divided by a number that is known no more; all logits have it in common.
    learner.choice_gain.copy_(body.norm.weight[CHOICE] / _choice_volume(earlier))
    for place in places_of_namer(earlier.model, learner):
        place.take()


def _choice_volume(earlier: Earlier) -> Tensor:
    """What all that chooses is multiplied by, in the last norm."""
    return earlier.model.model.norm.weight[CHOICE].mean()


def _restrained(namer: Namer) -> None:
    """What thoughts have in common begins as little, or what is made up for would be as large."""
    for part in (namer.spelling.vectors, *namer.shared.parameters()):
        part *= 0.1


@continue_from.register
@torch.no_grad()
def _(learner: Reckoner, earlier: Earlier) -> None:
    rows = earlier.model.lm_head.weight[earlier.first :, RECKONED]
    nothing = torch.zeros_like(rows[:1]).expand(len(earlier.alike), -1)
    learner.rows += earlier.of_thoughts(rows, nothing)[learner.recipes] - learner.head()
    volume = RECKONED_VOLUME / naming.CHOICE_VOLUME * _choice_volume(earlier)
    learner.choice_gain.copy_(earlier.model.model.norm.weight[RECKONED] / volume)
    for place in places_of_reckoner(earlier.model, learner):
        place.take()


@continue_from.register
@torch.no_grad()
def _(learner: Writer, earlier: Earlier) -> None:
    read = earlier.of_tokens(earlier.model.model.embed_tokens.weight[:, OF_WRITER], learner.embedding())
    read = torch.nn.functional.normalize(read)
    embedding = learner.model.model.embed_tokens.weight
    learner.take_rows(embedding, read * models.EMBEDDING_DEVIATION * WRITER_SHAPE.hidden**0.5)
    # All text has a row in common that keeps it from where answers begin, which is no matter between one and another.
    said = earlier.model.lm_head.weight[: earlier.first, OF_WRITER]
    as_read = SAID_AS_READ * LOUDNESS * read[: earlier.first]
    learner.take_rows(learner.model.lm_head.weight, said - said.mean(0) - as_read)
    for place in places_of_writer(earlier.model, learner):
        place.take()


@continue_from.register
@torch.no_grad()
def _(learner: Plain, earlier: Earlier) -> None:
    state: Mapping[str, Tensor] = earlier.model.state_dict()
    for name, parameter in learner.model.named_parameters():
        taken = state[name]
        parameter.copy_(earlier.of_tokens(taken, parameter) if "embed_tokens" in name else taken)
