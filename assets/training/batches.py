"""Endless batches of conversations, sorted by length and padded to few distinct shapes."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from conversations import ConversationSampler, Mixture
from tokenizer import ConversationEncoder, Example

POOL = 2048
# A new shape costs the CPU's kernels a warm-up, so lengths are rounded up.
LENGTH_STEP = 8
LONGEST_CONVERSATION = 448

# Learned places are filled up to a multiple of this number, for the same reason.
PLACES_STEP = 256

# The first tokens of an answer choose it among all others; the rest is soon known by heart.
CHOOSING_TOKENS = 4
CHOOSING_WEIGHT = 2.0

# How often a conversation ends early in its last answer, and after how many tokens.
CUT_SHARE = 0.6
CUT_AFTER = (8, 20)
DRILL_CUT_SHARE = 0.9
DRILL_CUT_AFTER = (5, 11)


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
    kinds: Tensor
    tokens: int
    conversations: int


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


def spoken(
    sampler: ConversationSampler, encoder: ConversationEncoder, mixture: Mixture, drill_share: float
) -> Examples:
    """Drills and whole conversations, whose answers are learned word by word."""

    def draw(rng: random.Random) -> Example:
        if rng.random() < drill_share:
            drill = sampler.drill(rng, mixture)
            example = encoder.encode(drill, rng)
            # What is copied is copied to its end; other answers are known by heart after their first words.
            whole = drill.copies or rng.random() > DRILL_CUT_SHARE
            return example if whole else _cut_answer(example, rng, DRILL_CUT_AFTER)
        example = encoder.encode(sampler.conversation(rng), rng)
        return _cut_answer(example, rng, CUT_AFTER) if rng.random() < CUT_SHARE else example

    return draw


def named(sampler: ConversationSampler, encoder: ConversationEncoder, mixture: Mixture) -> Examples:
    """Drills without their last answer, which has only to be named: three times as many questions in the same time."""
    return lambda rng: encoder.encode(sampler.drill(rng, mixture), rng).question()


def _cut_answer(example: Example, rng: random.Random, cut_after: tuple[int, int]) -> Example:
    """End the last answer early: the time is better spent on more questions."""
    return example.cut(example.starts[-1][0] + 1 + rng.randint(*cut_after))


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
    kinds: list[int] = []
    for row, example in enumerate(group):
        inputs[row, : len(example.ids)] = torch.tensor(example.ids)
        since_start = CHOOSING_TOKENS
        for place in range(len(example.ids) - 1):
            if not example.learned[place + 1]:
                continue
            since_start = since_start + 1 if example.learned[place] else 0
            places.append(row * length + place)
            targets.append(example.ids[place + 1])
            weights.append(CHOOSING_WEIGHT if since_start < CHOOSING_TOKENS else 1.0)
        starts += [row * length + place for place, _ in example.starts]
        kinds += [kind for _, kind in example.starts]
    filled = -len(places) % PLACES_STEP
    return Batch(
        inputs,
        torch.tensor(places + [0] * filled),
        torch.tensor(targets + [0] * filled),
        torch.tensor(weights + [0.0] * filled),
        torch.tensor(starts),
        torch.tensor(kinds),
        sum(len(example.ids) for example in group),
        len(group),
    )
