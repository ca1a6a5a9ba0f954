"""Runs a model by hand, step by step, as the engine would: several sequences over one pool of blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mlx.core as mx
import numpy as np

from inference.model.qwen2 import Qwen2
from inference.ops.paged import RaggedLayout


class Sequences:
    """`count` sequences of up to `max_tokens` tokens, whose blocks lie shuffled in the pool."""

    def __init__(self, model: Qwen2, count: int, max_tokens: int, block_size: int = 16, seed: int = 0) -> None:
        blocks = -(-max_tokens // block_size)
        # One block more than needed, which stays unused, so that the tables don't cover the pool.
        order = np.random.default_rng(seed).permutation(count * blocks + 1)[1:].reshape(count, blocks)
        self.tables = [row.tolist() for row in order]
        self.lengths = [0] * count
        self.block_size = block_size
        self._model = model
        self._kv = model.new_cache(count * blocks + 1, block_size)

    def step(self, chunks: Mapping[int, Sequence[int]]) -> dict[int, np.ndarray]:
        """Feed each of the sequences named its next tokens; log-probabilities [L, V] after each of them."""
        for i, tokens in chunks.items():
            self.lengths[i] += len(tokens)
        layout = RaggedLayout.build(
            [len(tokens) for tokens in chunks.values()],
            [self.lengths[i] for i in chunks],
            [self.tables[i] for i in chunks],
            self.block_size,
        )
        flat = mx.array([token for tokens in chunks.values() for token in tokens])
        rows = log_softmax(self._model.logits(self._model.forward(flat, layout, self._kv)))
        ends = np.cumsum([len(tokens) for tokens in chunks.values()])
        return dict(zip(chunks, np.split(rows, ends[:-1]), strict=True))


def log_softmax(logits: mx.array) -> np.ndarray:
    return np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))


def logprobs(model: Qwen2, tokens: Sequence[int], chunk: int | None = None) -> np.ndarray:
    """Log-probabilities [L, V] after each token of one sequence, computed in chunks; None: all at once."""
    sequences = Sequences(model, 1, len(tokens))
    size = chunk or len(tokens)
    parts = [sequences.step({0: tokens[start : start + size]})[0] for start in range(0, len(tokens), size)]
    return np.concatenate(parts)


def greedy(model: Qwen2, prompt: Sequence[int], count: int) -> list[int]:
    """The `count` most probable tokens after a prompt, one at a time through the cache."""
    sequences = Sequences(model, 1, len(prompt) + count)
    out = [int(sequences.step({0: prompt})[0][-1].argmax())]
    while len(out) < count:
        out.append(int(sequences.step({0: out[-1:]})[0][-1].argmax()))
    return out
