"""Endless batches of conversations, sorted by length and padded to few distinct shapes."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from conversations import ConversationSampler
from tokenizer import ConversationEncoder

Example = tuple[list[int], list[bool]]

POOL = 2048
# A new shape costs the CPU's kernels a warm-up, so lengths are rounded up.
LENGTH_STEP = 8
OTHER_TOKENS_WEIGHT = 0.1
# How often a conversation ends early in its last answer, and after how many tokens.
CUT_SHARE = 0.6
CUT_AFTER = (8, 20)
DRILL_CUT_AFTER = (6, 13)


@dataclass
class Batch:
    """Inputs, the tokens that follow them, and the weight of each of these in the loss."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor
    tokens: int
    conversations: int


def endless_batches(
    sampler: ConversationSampler,
    encoder: ConversationEncoder,
    rng: random.Random,
    batch_tokens: int,
    longest: int,
    drill_share: float = 0.0,
) -> Iterator[Batch]:
    """Sample a pool of conversations and drills, sort it by length, cut it into batches, and begin again."""
    while True:
        pool = [_sample_example(sampler, encoder, rng, drill_share) for _ in range(POOL)]
        pool = [(ids[:longest], learned[:longest]) for ids, learned in pool if any(learned[:longest])]
        pool.sort(key=lambda example: len(example[0]))
        groups = list(_cut(pool, batch_tokens))
        rng.shuffle(groups)
        for group in groups:
            yield _collate(group)


def _sample_example(
    sampler: ConversationSampler, encoder: ConversationEncoder, rng: random.Random, drill_share: float
) -> Example:
    if rng.random() < drill_share:
        drill = sampler.drill(rng)
        example = encoder.encode(drill, rng)
        # Calls are copied to their end; answers are known by heart after their first words.
        return example if "tool_calls" in drill.messages[-1] else _cut_answer(example, rng, DRILL_CUT_AFTER)
    example = encoder.encode(sampler.conversation(rng), rng)
    return _cut_answer(example, rng, CUT_AFTER) if rng.random() < CUT_SHARE else example


def _cut_answer(example: Example, rng: random.Random, cut_after: tuple[int, int]) -> Example:
    """End the last answer early.

    Which answer it will be is decided by its first tokens and the rest is soon known by heart, so the time is better
    spent on more questions.
    """
    ids, learned = example
    if True not in learned:
        return example
    last = len(learned) - 1 - learned[::-1].index(True)
    first = last
    while first > 0 and learned[first - 1]:
        first -= 1
    end = first + rng.randint(*cut_after)
    return (ids[:end], learned[:end]) if end < last else example


def _cut(pool: list[Example], batch_tokens: int) -> Iterator[list[Example]]:
    group: list[Example] = []
    for example in pool:
        if group and (len(group) + 1) * len(example[0]) > batch_tokens:
            yield group
            group = []
        group.append(example)
    if group:
        yield group


def _collate(group: list[Example]) -> Batch:
    longest = max(len(ids) for ids, _ in group)
    length = -(-longest // LENGTH_STEP) * LENGTH_STEP
    inputs = torch.zeros(len(group), length, dtype=torch.long)
    targets = torch.zeros(len(group), length, dtype=torch.long)
    weights = torch.zeros(len(group), length)
    for row, (ids, learned) in enumerate(group):
        inputs[row, : len(ids)] = torch.tensor(ids)
        targets[row, : len(ids) - 1] = torch.tensor(ids[1:])
        weights[row, : len(ids) - 1] = torch.tensor(
            [1.0 if is_learned else OTHER_TOKENS_WEIGHT for is_learned in learned[1:]]
        )
    return Batch(inputs, targets, weights, sum(len(ids) for ids, _ in group), len(group))
