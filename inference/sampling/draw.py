"""Drawing one token per row from logits cut down by temperature, min-p, top-k and top-p.

Every row is computed on its own, by a way that its own parameters alone decide. Rows that need the same way share the
array operations; a row's result is the same bits whether it has company or not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from inference.protocol import SamplingParams
from inference.sampling.noise import gumbel

_COLDEST = 1e-30
"""Temperatures below this are taken as this: smaller ones would be flushed to zero in float32."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What is left of each row to draw from.

    `token_ids` [R, n] or [1, n] uint32; `logits` [R, n] float32 relative to the row's largest, divided by the
    temperature, and -inf for what the filters removed. The largest is never removed: each row holds a 0.
    """

    token_ids: mx.array
    logits: mx.array


def draw(logits: mx.array, params: Sequence[SamplingParams], keys: Sequence[int]) -> mx.array:
    """One token id per row of `logits` [R, V] float32 -> [R] uint32. All temperatures are above 0."""
    groups: dict[int, list[int]] = defaultdict(list)
    for row, p in enumerate(params):
        groups[_num_sorted(p, logits.shape[-1])].append(row)
    tokens = []
    for num_sorted, rows in groups.items():
        part = logits if len(rows) == len(params) else logits[mx.array(rows)]
        left = candidates(part, [params[row] for row in rows], num_sorted)
        scores = left.logits + gumbel([keys[row] for row in rows], left.token_ids)
        best = mx.argmax(scores, axis=-1, keepdims=True)
        token_ids = mx.broadcast_to(left.token_ids, scores.shape)
        tokens.append(mx.take_along_axis(token_ids, best, axis=-1).squeeze(-1))
    order = [row for rows in groups.values() for row in rows]
    drawn = mx.concatenate(tokens)
    return drawn if order == sorted(order) else drawn[mx.argsort(mx.array(order))]


def _num_sorted(params: SamplingParams, vocab_size: int) -> int:
    """How many of a row's largest logits have to be put in order: k for top-k, all for top-p alone, else none."""
    if 0 < params.top_k < vocab_size:
        return params.top_k
    return vocab_size if params.top_p < 1 else 0


def candidates(logits: mx.array, params: Sequence[SamplingParams], num_sorted: int) -> Candidates:
    """Apply the filters to rows [R, V] that all need their `num_sorted` largest logits in order (0: no order).

    Min-p, top-k and top-p each keep the head of the row in descending order, so with an order top-k is a cut and top-p
    a cumulative sum. Each filter sees what the one before left: top-p counts in shares of the remaining mass.
    """
    vocab_size = logits.shape[-1]
    temperature = mx.array([[max(p.temperature, _COLDEST)] for p in params], dtype=mx.float32)
    if num_sorted == 0:
        token_ids = mx.arange(vocab_size, dtype=mx.uint32)[None]
        x = logits
    else:
        token_ids = _largest(logits, num_sorted)
        x = mx.take_along_axis(logits, token_ids, axis=-1)
    # Relative to the largest, nothing overflows however cold it gets.
    x = (x - mx.max(x, axis=-1, keepdims=True)) / temperature
    if any(p.min_p > 0 for p in params):
        floor = mx.log(mx.array([[p.min_p] for p in params], dtype=mx.float32))
        x = mx.where(x >= floor, x, -mx.inf)
    if any(p.top_p < 1 for p in params):
        mass_before = mx.cumsum(mx.softmax(x, axis=-1), axis=-1, inclusive=False)
        # A row without top-p keeps all, whatever the sum's rounding says. The token that crosses the threshold stays.
        top_p = mx.array([[p.top_p if p.top_p < 1 else mx.inf] for p in params], dtype=mx.float32)
        x = mx.where(mass_before < top_p, x, -mx.inf)
    return Candidates(token_ids, x)


def _largest(logits: mx.array, count: int) -> mx.array:
    """Ids of the `count` largest logits of each row, largest first: [R, V] -> [R, count] uint32."""
    if count == logits.shape[-1]:
        return mx.argsort(-logits, axis=-1)
    ids = mx.argpartition(-logits, count - 1, axis=-1)[:, :count]
    order = mx.argsort(-mx.take_along_axis(logits, ids, axis=-1), axis=-1)
    return mx.take_along_axis(ids, order, axis=-1)
