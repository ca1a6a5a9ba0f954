"""What a change of options does to a model's predictions: the same text under two configurations, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from inference.errors import ConfigError
from inference.model.loader import LoadedModel, load
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

    Raises ModelError and ConfigError like loading, and ConfigError for a text of a single token.
    """
    predictions = []
    ids: Sequence[int] = ()
    for each in (config, changed):
        progress(f"loading {model}")
        loaded = load(model, dtype=each.dtype, kernels=each.kernels, activations=each.activations)
        ids = loaded.tokenizer.encode(text)[: min(limit, loaded.info.context_length)]
        if len(ids) < 2:
            raise ConfigError("the text is a single token, but there must be something to predict: give a longer one")
        progress(f"predicting {len(ids)} tokens")
        predictions.append(_log_probabilities(loaded, ids))
    before, after = predictions
    return _difference(before, after, ids)


def _log_probabilities(loaded: LoadedModel, ids: Sequence[int]) -> NDArray[np.float32]:
    """[T - 1, V]: of every token at each place, given those before it."""
    blocks = -(-len(ids) // _BLOCK)
    kv = loaded.model.new_cache(blocks, _BLOCK)
    rows = []
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        layout = RaggedLayout.build((len(chunk),), (start + len(chunk),), (range(blocks),), _BLOCK)
        logits = loaded.model.logits(loaded.model.forward(mx.array(list(chunk)), layout, kv))
        rows.append(np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True)))
    return np.concatenate(rows)[:-1]


def _difference(ours: NDArray[np.float32], changed: NDArray[np.float32], ids: Sequence[int]) -> Difference:
    places, following = np.arange(len(ids) - 1), np.array(ids[1:])
    before, after = ours[places, following], changed[places, following]
    gaps = np.abs(after - before)
    return Difference(
        tokens=len(places),
        perplexity=float(np.exp(-before.mean())),
        changed_perplexity=float(np.exp(-after.mean())),
        mean=float(gaps.mean()),
        p95=float(np.quantile(gaps, 0.95)),
        largest=float(gaps.max()),
        divergence=float((np.exp(ours) * (ours - changed)).sum(axis=-1).mean()),
        same_choice=float((ours.argmax(axis=-1) == changed.argmax(axis=-1)).mean()),
    )
