"""What a long context costs a decode, and what contexts of many lengths cost a batch.

The cache is filled with random keys and values instead of by reading a text, which would take far longer than what is
measured. What a step reads and computes depends on no value of theirs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import mlx.core as mx

from inference.bench.measure import Spread
from inference.errors import ConfigError
from inference.model.qwen2 import Qwen2
from inference.ops.kv_store import GroupedStore, KVFormat, KVStore
from inference.ops.paged import PagedKV, RaggedLayout

SESSIONS = 16
"""Of a batch with contexts of many lengths."""
STEPS = 5
"""Of each kind in a run, of which the median counts."""


@dataclass(frozen=True, slots=True)
class AtLength:
    """One session's decode."""

    context: int
    speed: Spread
    """Tokens per second, of what the model computes and the greedy choice."""
    ratio: Spread
    """That by the speed at the first length, run by run."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """A decode step of sessions with contexts of many lengths, beside one of as many tokens in equal contexts.

    Times in seconds. What the lengths waste (on padding, or on a thread that waits for the longest) is what the ratio
    is above 1.
    """

    contexts: tuple[int, ...]
    mixed: Spread
    equal: Spread
    ratio: Spread
    """`mixed` by `equal`, run by run."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How decodes are measured: of which model, over which cache, and how often."""

    model: Qwen2
    block_size: int
    kept: KVFormat
    runs: int
    progress: Callable[[str], None]

    def at_lengths(self, contexts: Sequence[int]) -> tuple[AtLength, ...]:
        """One session at each length of its context, in turns. Raises ConfigError like `check`."""
        check(self.model, contexts)
        step = _Steps(self, max(contexts))
        times = self._in_turns(step, [(context,) for context in contexts], "one session")
        speeds = [[1 / seconds for seconds in row] for row in times]
        return tuple(
            AtLength(context, Spread.of(own), Spread.of(b / a for a, b in zip(speeds[0], own, strict=True)))
            for context, own in zip(contexts, speeds, strict=True)
        )

    def mixed(self, shortest: int, longest: int) -> Mixed:
        """A batch with contexts at even distances between two lengths. Raises ConfigError like `check`."""
        check(self.model, (shortest, longest))
        contexts = tuple(shortest + (longest - shortest) * i // (SESSIONS - 1) for i in range(SESSIONS))
        total = sum(contexts)
        equal = tuple(total * (i + 1) // SESSIONS - total * i // SESSIONS for i in range(SESSIONS))
        step = _Steps(self, max(_room(each, self.block_size) for each in (contexts, equal)))
        times = self._in_turns(step, [contexts, equal], f"{SESSIONS} sessions")
        ratios = [a / b for a, b in zip(*times, strict=True)]
        return Mixed(contexts, Spread.of(times[0]), Spread.of(times[1]), Spread.of(ratios))

    def _in_turns(self, step: _Steps, batches: Sequence[Sequence[int]], who: str) -> list[list[float]]:
        """For each batch the median of each run's steps; after one to warm up."""
        medians: list[list[float]] = [[] for _ in batches]
        lengths = sorted({length for batch in batches for length in batch})
        for batch in batches:
            step(batch)
        for run in range(self.runs):
            self.progress(f"decoding: {who} at {lengths[0]} to {lengths[-1]} tokens, run {run + 1} of {self.runs}")
            times = [[step(batch) for batch in batches] for _ in range(STEPS)]
            for found, own in zip(medians, zip(*times, strict=True), strict=True):
                found.append(statistics.median(own))
        return medians


def check(model: Qwen2, contexts: Sequence[int]) -> None:
    """Raises ConfigError for a context that the model was not made for."""
    most = model.config.max_position_embeddings
    if max(contexts) > most:
        raise ConfigError(f"a context of {max(contexts)} tokens is more than the model's {most}")


class _Steps:
    """Decode steps over a pool that is full of random numbers."""

    def __init__(self, how: Decoding, tokens: int) -> None:
        self._model, self._block_size = how.model, how.block_size
        config = how.model.config
        shape = (-(-tokens // how.block_size), how.block_size, config.num_key_value_heads, config.head_dim)
        keys, values = ([_random(how.kept, shape) for _ in range(config.num_hidden_layers)] for _ in range(2))
        self._kv = PagedKV(keys, values)

    def __call__(self, contexts: Sequence[int]) -> float:
        """Seconds that a step takes of sequences with these contexts, the new token included."""
        ends = [_room(contexts[: i + 1], self._block_size) // self._block_size for i in range(len(contexts))]
        tables = [range(start, end) for start, end in pairwise((0, *ends))]
        layout = RaggedLayout.build((1,) * len(contexts), contexts, tables, self._block_size)
        ids = mx.zeros(len(contexts), mx.int32)
        start = time.perf_counter()
        logits = self._model.logits(self._model.forward(ids, layout, self._kv))
        mx.eval(self._model.ops.greedy(logits), self._kv.arrays)
        return time.perf_counter() - start


def _random(kept: KVFormat, shape: tuple[int, int, int, int]) -> KVStore:
    store = kept.allocate(shape)
    if isinstance(store, GroupedStore):
        words = mx.random.randint(0, 2**31, store.words.shape, mx.uint32)
        store = GroupedStore(words, store.scales + 2 / 2**store.bits, store.biases - 1)
        mx.eval(store.arrays)
        return store
    filled = mx.random.normal(shape, kept.dtype)
    mx.eval(filled)
    return filled


def _room(contexts: Sequence[int], block_size: int) -> int:
    """Tokens of the blocks that they take."""
    return sum(-(-context // block_size) * block_size for context in contexts)
