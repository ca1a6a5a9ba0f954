"""What a change of options does to a model's predictions: the same text under two configurations, token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from inference.errors import ConfigError
from inference.model.loader import LoadedModel, load
from inference.ops.attention import spelled
from inference.ops.kv_store import KVFormat
from inference.ops.paged import RaggedLayout
from inference.protocol import EngineConfig

PASSAGE = Path(__file__).with_name("passage.txt")
_BLOCK = 16
_CHUNK = 64
"""Tokens computed at once, as in a step of the engine."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the predictions for a text are from those of the configuration it is compared with."""

    tokens: int
    """Predictions compared: one for each token but the first."""
    perplexity: float
    changed_perplexity: float
    mean: float
    """Of the absolute difference in log-probability of the text's own tokens, in nats."""
    p95: float
    largest: float
    divergence: float
    """Mean Kullback-Leibler divergence of the changed predictions from the others, in nats."""
    same_choice: float
    """The share of places where both find the same token most probable."""


def compare(
    model: str,
    config: EngineConfig,
    changed: EngineConfig,
    text: str,
    *,
    limit: int,
    progress: Callable[[str], None],
) -> Difference:
    """Predict the first `limit` tokens of a text by `config` and by `changed`.

    Raises ModelError and ConfigError like loading, and ConfigError for a text of less than two tokens.
    """
    models = []
    for each in (config, changed):
        progress(f"loading {model}")
        kernels = spelled(each.kernels, each.attention)
        models.append(load(model, dtype=each.dtype, kernels=kernels, activations=each.activations))
    one, other = models
    kept, changed_kept = (m.model.kv_format(c.kv_cache_dtype) for m, c in ((one, config), (other, changed)))
    ids = one.tokenizer.encode(text)[: min(limit, one.info.context_length)]
    if len(ids) < 2:
        raise ConfigError("the text is less than two tokens, so that nothing is there to predict: give a longer one")
    progress(f"predicting {len(ids)} tokens")
    # Piece by piece: the predictions of a whole text, for every token of a vocabulary, would fill the memory.
    pieces = zip(_predictions(one, kept, ids), _predictions(other, changed_kept, ids), _following(ids), strict=True)
    return _summary([_compared(before, after, following) for before, after, following in pieces])


def _predictions(loaded: LoadedModel, kept: KVFormat, ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    """Log-probabilities of every token at each place, [T, V] for each piece of the text."""
    blocks = -(-len(ids) // _BLOCK)
    kv = loaded.model.new_cache(blocks, _BLOCK, kept)
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        layout = RaggedLayout.build((len(chunk),), (start + len(chunk),), (range(blocks),), _BLOCK)
        logits = loaded.model.logits(loaded.model.forward(mx.array(list(chunk)), layout, kv))
        yield np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))


def _following(ids: Sequence[int]) -> Iterator[NDArray[np.int64]]:
    """The tokens that follow each piece's; one fewer at the end of the text."""
    return (np.array(ids[start + 1 : start + 1 + _CHUNK], np.int64) for start in range(0, len(ids), _CHUNK))


def _compared(
    before: NDArray[np.float32], after: NDArray[np.float32], following: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Of each prediction: log-probabilities of what follows, by both; divergence; whether both choose the same."""
    before, after = before[: len(following)], after[: len(following)]
    places = np.arange(len(following))
    divergence = (np.exp(before) * (before - after)).sum(axis=-1)
    same = before.argmax(axis=-1) == after.argmax(axis=-1)
    return np.stack([before[places, following], after[places, following], divergence, same]).astype(np.float64)


def _summary(pieces: Sequence[NDArray[np.float64]]) -> Difference:
    before, after, divergence, same = np.concatenate(pieces, axis=1)
    gaps = np.abs(after - before)
    return Difference(
        tokens=len(gaps),
        perplexity=float(np.exp(-before.mean())),
        changed_perplexity=float(np.exp(-after.mean())),
        mean=float(gaps.mean()),
        p95=float(np.quantile(gaps, 0.95)),
        largest=float(gaps.max()),
        divergence=float(divergence.mean()),
        same_choice=float(same.mean()),
    )
