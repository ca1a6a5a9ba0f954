"""Every operation in numpy and float64, written apart from the implementations that it judges."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from inference.ops.experts import StackedExperts
from inference.ops.weights import DenseWeight, QuantizedWeight, Weight
from tests.inference.ops.ragged import Batch

Array = NDArray[np.float64]


def wide(array: mx.array) -> Array:
    """An MLX array as float64."""
    return np.array(array.astype(mx.float32)).astype(np.float64)


def matrix(weight: Weight) -> Array:
    """The dense matrix that a weight stands for, unpacked bit by bit."""
    if isinstance(weight, DenseWeight):
        return wide(weight.weight)
    assert isinstance(weight, QuantizedWeight)
    words = np.array(weight.packed)
    per_word = 32 // weight.bits
    q = np.zeros((words.shape[0], words.shape[1] * per_word))
    for k in range(per_word):
        q[:, k::per_word] = (words >> np.uint32(k * weight.bits)) % 2**weight.bits
    scales, biases = (np.repeat(wide(a), weight.group_size, axis=1) for a in (weight.scales, weight.biases))
    return q * scales + biases


def linear(x: mx.array, weight: Weight) -> Array:
    return product(wide(x), weight)


def product(x: Array, weight: Weight) -> Array:
    y = x @ matrix(weight).T
    return y if weight.bias is None else y + wide(weight.bias)


def expert_product(x: Array, experts: StackedExperts, chosen: NDArray[np.int64]) -> Array:
    """One row of one expert at a time."""
    count, outputs, _ = experts.shape
    matrices = matrix(experts.stacked).reshape(count, outputs, -1)
    return np.array([[matrices[expert] @ row for expert in of_row] for row, of_row in zip(x, chosen, strict=True)])


def rounded(x: mx.array, group_size: int) -> Array:
    """x as int8 with a scale for each group. The integers are found in float32, where ties are what they are there."""
    groups = np.array(x.astype(mx.float32)).reshape(x.shape[0], -1, group_size)
    largest = np.abs(groups).max(-1, keepdims=True)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest > 0)
    scaled: Array = np.rint(groups * inverse).astype(np.float64) * (largest / np.float32(127))
    return scaled.reshape(x.shape)


def rms_norm(x: mx.array, weight: mx.array, eps: float) -> Array:
    a = wide(x)
    return a / np.sqrt((a**2).mean(-1, keepdims=True) + eps) * wide(weight)


def rope(x: mx.array, positions: mx.array, theta: float) -> Array:
    """By complex multiplication."""
    a = wide(x)
    half = a.shape[-1] // 2
    angles = np.array(positions)[:, None, None] * theta ** (-np.arange(half) / half)
    turned = (a[..., :half] + 1j * a[..., half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def silu_mul(gate: mx.array, up: mx.array) -> Array:
    g = wide(gate)
    return g / (1 + np.exp(-g)) * wide(up)


def paged_attention(q: mx.array, keys: mx.array, values: mx.array, batch: Batch, scale: float) -> Array:
    """One query, one head at a time."""
    queries, k, v = wide(q), wide(keys), wide(values)
    share = q.shape[1] // keys.shape[2]
    out = np.zeros_like(queries)
    token = 0
    for query_len, context_len, table in zip(batch.query_lens, batch.context_lens, batch.tables, strict=True):
        slots = [(table[p // batch.block_size], p % batch.block_size) for p in range(context_len)]
        for position in range(context_len - query_len, context_len):
            seen = tuple(np.array(slots[: position + 1]).T)
            for head in range(q.shape[1]):
                scores = scale * k[seen][:, head // share] @ queries[token, head]
                weights = np.exp(scores - scores.max())
                out[token, head] = weights @ v[seen][:, head // share] / weights.sum()
            token += 1
    return out
