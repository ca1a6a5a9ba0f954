"""Endless batches of conversations, sorted by length and padded to few distinct shapes."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from conversations import ConversationSampler, Mixture
from tokenizer import MAX_POSITIONS, ConversationEncoder, Example

POOL = 2048
# A new shape costs the CPU's kernels a warm-up, so lengths are rounded up.
LENGTH_STEP = 8
# As long as the app's: what was never met so far behind, the writer goes astray with.
LONGEST_CONVERSATION = MAX_POSITIONS

# Learned places are filled up to a multiple of this number, for the same reason.
PLACES_STEP = 256

# Where a conversation ends early in its last answer: after how many tokens.
CUT_AFTER = (8, 20)
DRILL_CUT_AFTER = (5, 11)

# Of the tokens of a disturbed recital, the share that is misread.
DISTURBED = 0.06


@dataclass(frozen=True)
class Diet:
    """What is drawn how often: drills by their mixture, answers to be known by heart, long talks; the rest are short
    conversations."""

    mixture: Mixture
    drills: float
    drills_alone: float = 0.0
    """Of the drills, those with nothing before them, which take less time."""
    recitals: float = 0.0
    talks: float = 0.0
    cut_drills: float = 0.0
    """Of the drills that copy nothing, those that end early in their answer."""
    cut_conversations: float = 0.0
    disturbed_recitals: float = 0.0
    """Of the recitals, those with misread tokens: so one that said a wrong word goes on all the same."""


@dataclass
class Batch:
    """Inputs, what is to be learned at which of their places (flattened), and where which answer begins.

    Without places the batch holds questions whose answers have only to be named.
    """

    inputs: Tensor
    places: Tensor
    targets: Tensor
    """The tokens that follow the places."""
    weights: Tensor
    """Of the targets in the loss; 0 for those that fill up."""
    starts: Tensor
    """The places of the last tokens before the answers."""
    thoughts: Tensor
    """The tokens that follow the starts."""
    tokens: int
    conversations: int

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        moved = {
            each.name: value.to(device)
            for each in fields(self)
            if isinstance(value := getattr(self, each.name), Tensor)
        }
        return replace(self, **moved)


Examples = Callable[[random.Random], Example]


def endless_batches(draw: Examples, rng: random.Random, batch_tokens: int) -> Iterator[Batch]:
    """Draw a pool of examples, sort it by length, cut it into batches, and begin again."""
    while True:
        pool = [draw(rng).cut(LONGEST_CONVERSATION) for _ in range(POOL)]
        pool = [example for example in pool if example.starts]
        pool.sort(key=lambda example: len(example.ids))
        groups = list(_cut(pool, batch_tokens))
        rng.shuffle(groups)
        for group in groups:
            yield _collate(group)


def spoken(sampler: ConversationSampler, encoder: ConversationEncoder, diet: Diet) -> Examples:
    """Drills, answers to be known by heart, and conversations; all are learned word by word."""

    def draw(rng: random.Random) -> Example:
        kind = rng.random()
        if kind < diet.drills:
            drill = sampler.drill(rng, diet.mixture, rng.random() < diet.drills_alone)
            example = encoder.encode(drill, rng)
            # What is copied or computed is learned to its end; other answers are known by heart after their beginning.
            whole = drill.copies or "tool_calls" in drill.messages[-1] or rng.random() > diet.cut_drills
            return example if whole else _cut_answer(example, rng, DRILL_CUT_AFTER)
        if kind < diet.drills + diet.recitals:
            recited = encoder.encode(sampler.recital(rng), rng).with_given_thoughts()
            return recited.disturbed(DISTURBED, rng) if rng.random() < diet.disturbed_recitals else recited
        if kind < diet.drills + diet.recitals + diet.talks:
            return encoder.encode(sampler.talk(rng), rng)
        example = encoder.encode(sampler.conversation(rng), rng)
        return _cut_answer(example, rng, CUT_AFTER) if rng.random() < diet.cut_conversations else example

    return draw


def named(sampler: ConversationSampler, encoder: ConversationEncoder, diet: Diet) -> Examples:
    """Drills and conversations without their last answer, which has only to be named: many questions in little time."""

    def draw(rng: random.Random) -> Example:
        kind = rng.random()
        if kind < diet.drills:
            drawn = sampler.drill(rng, diet.mixture, rng.random() < diet.drills_alone)
        else:
            drawn = sampler.talk(rng) if kind < diet.drills + diet.talks else sampler.conversation(rng)
        # Nothing is copied here, so that what could be copied may suffer, too.
        return encoder.encode(drawn, rng, copied_as_is=False).question()

    return draw


def _cut_answer(example: Example, rng: random.Random, cut_after: tuple[int, int]) -> Example:
    """End the last answer early: the time is better spent on more questions."""
    return example.cut(example.starts[-1] + 2 + rng.randint(*cut_after))


def _cut(pool: list[Example], batch_tokens: int) -> Iterator[list[Example]]:
    group: list[Example] = []
    for example in pool:
        if group and (len(group) + 1) * len(example.ids) > batch_tokens:
            yield group
            group = []
        group.append(example)
    if group:
        yield group


def _collate(group: list[Example]) -> Batch:
    longest = max(len(example.ids) for example in group)
    length = -(-longest // LENGTH_STEP) * LENGTH_STEP
    inputs = torch.zeros(len(group), length, dtype=torch.long)
    places: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    starts: list[int] = []
    thoughts: list[int] = []
    for row, example in enumerate(group):
        inputs[row, : len(example.ids)] = torch.tensor(example.read)
        for place in range(len(example.ids) - 1):
            if not example.learned[place + 1]:
                continue
            places.append(row * length + place)
            targets.append(example.ids[place + 1])
            weights.append(1.0)
        starts += [row * length + place for place in example.starts]
        thoughts += [example.ids[place + 1] for place in example.starts]
    filled = -len(places) % PLACES_STEP
    return Batch(
        inputs,
        torch.tensor(places + [0] * filled),
        torch.tensor(targets + [0] * filled),
        torch.tensor(weights + [0.0] * filled),
        torch.tensor(starts),
        torch.tensor(thoughts),
        sum(len(example.ids) for example in group),
        len(group),
    )
