"""Sampling as SamplingParams documents it, one row at a time in float64: what the batched code is compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inference.protocol import SamplingParams

Row = NDArray[np.float64]


def edited(logits: Row, params: SamplingParams, prompt: Sequence[int] = (), output: Sequence[int] = ()) -> Row:
    """Logits after bias and penalties."""
    x = logits.astype(np.float64).copy()
    for token, bias in params.logit_bias.items():
        x[token] += bias
    for token in set(prompt) | set(output):
        x[token] = x[token] / params.repetition_penalty if x[token] > 0 else x[token] * params.repetition_penalty
    for token, count in Counter(output).items():
        x[token] -= params.presence_penalty + params.frequency_penalty * count
    return x


def distribution(logits: Row, params: SamplingParams, prompt: Sequence[int] = (), output: Sequence[int] = ()) -> Row:
    """Probability of each token being sampled next."""
    x = edited(logits, params, prompt, output)
    if params.temperature == 0:
        return np.eye(len(x))[np.argmax(x)]
    p = softmax(x / params.temperature)
    if params.min_p > 0:
        p = np.where(p >= params.min_p * p.max(), p, 0)
    if 0 < params.top_k < len(p):
        p[np.argsort(-p, kind="stable")[params.top_k :]] = 0
    if params.top_p < 1:
        p /= p.sum()
        total = 0.0
        for token in np.argsort(-p, kind="stable"):
            if total >= params.top_p:
                p[token] = 0
            total += p[token]
    return p / p.sum()


def softmax(x: Row) -> Row:
    e = np.exp(x - x.max())
    return e / e.sum()
