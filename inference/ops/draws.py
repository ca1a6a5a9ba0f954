"""Drawing one token per row from logits cut down by temperature, min-p, top-k and top-p, by array operations.

Every row is computed on its own, by a way that its own numbers alone decide. Rows that need the same way share the
array operations; a row's result is the same bits whether it has company or not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import mlx.core as mx

from inference.ops.noise import gumbel

COLDEST = 1e-30
"""Temperatures below this are taken as this: smaller ones would be flushed to zero in float32."""


@dataclass(frozen=True, slots=True)
class Draw:
    """How one row is drawn from; in words, see SamplingParams, whose fields most are."""

    key: int
    """The 64 bits that its noise is made from; see `noise`."""
    temperature: float
    """Above 0."""
    min_p: float = 0.0
    top_k: int = 0
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class Candidates:
    """What is left of each row to draw from.

    `token_ids` [R, n] or [1, n] uint32; `logits` [R, n] float32 relative to the row's largest, divided by the
    temperature, and -inf for what the filters removed. The largest is never removed: each row holds a 0.
    """

    token_ids: mx.array
    logits: mx.array
    short: tuple[int, ...] = ()
    """Rows whose share of top-p goes beyond the logits that were put in order."""


Largest = Callable[[mx.array, int], mx.array]
"""An implementation of the operation `largest`: see `reference`."""

HEAD = 1024
"""So many of the largest logits hold the share of top-p in nearly every row; only other rows are sorted whole."""


def draw(logits: mx.array, draws: Sequence[Draw], largest: Largest) -> mx.array:
    """One token id per row of `logits` [R, V] float32 -> [R] uint32; V for a row that is not numbers."""
    tokens: dict[int, mx.array] = {}
    for num_sorted, rows in _alike(range(len(draws)), [_num_sorted(d, logits.shape[-1]) for d in draws]).items():
        tokens |= _draw_rows(logits, rows, num_sorted, draws, largest)
    drawn = mx.concatenate([tokens[row] for row in range(len(draws))])
    # A NaN is the maximum of its row.
    return mx.where(mx.isfinite(mx.max(logits, axis=-1)), drawn, logits.shape[-1])


def _draw_rows(
    logits: mx.array, rows: list[int], num_sorted: int, draws: Sequence[Draw], largest: Largest
) -> dict[int, mx.array]:
    """A token [1] for each of some rows, which all need their `num_sorted` largest logits in order."""
    part = logits if len(rows) == logits.shape[0] else logits[mx.array(rows)]
    left = candidates(part, [draws[row] for row in rows], num_sorted, largest)
    scores = left.logits + gumbel([draws[row].key for row in rows], left.token_ids)
    best = scores == mx.max(scores, axis=-1, keepdims=True)
    chosen = mx.min(mx.where(best, left.token_ids, logits.shape[-1]).astype(mx.uint32), axis=-1)
    drawn = {row: chosen[i : i + 1] for i, row in enumerate(rows)}
    if left.short:
        drawn |= _draw_rows(logits, [rows[i] for i in left.short], logits.shape[-1], draws, largest)
    return drawn


def _alike(rows: Iterable[int], kinds: Sequence[int]) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        groups[kinds[row]].append(row)
    return groups


def _num_sorted(draw: Draw, vocab_size: int) -> int:
    """How many of a row's largest logits have to be put in order: k for top-k, a head for top-p alone, else none."""
    if 0 < draw.top_k < vocab_size:
        return draw.top_k
    return min(HEAD, vocab_size) if draw.top_p < 1 else 0


def candidates(logits: mx.array, draws: Sequence[Draw], num_sorted: int, largest: Largest) -> Candidates:
    """Apply the filters to rows [R, V] that all need their `num_sorted` largest logits in order (0: no order).

    Min-p, top-k and top-p each keep the head of the row in descending order, so with an order top-k is a cut and top-p
    a cumulative sum. Each filter sees what the one before left: top-p counts in shares of the remaining mass.
    """
    vocab_size = logits.shape[-1]
    temperature = mx.array([[max(d.temperature, COLDEST)] for d in draws], dtype=mx.float32)
    floor = mx.log(mx.array([[d.min_p] for d in draws], dtype=mx.float32)) if any(d.min_p > 0 for d in draws) else None
    if num_sorted == 0:
        token_ids = mx.arange(vocab_size, dtype=mx.uint32)[None]
        head, peak = logits, mx.max(logits, axis=-1, keepdims=True)
    else:
        token_ids = largest(logits, num_sorted)
        head = mx.take_along_axis(logits, token_ids, axis=-1)
        peak = head[:, :1]

    def relative(x: mx.array) -> mx.array:
        # To the largest, so that nothing overflows however cold it gets.
        x = (x - peak) / temperature
        return x if floor is None else mx.where(x >= floor, x, -mx.inf)

    x = relative(head)
    if all(d.top_p >= 1 for d in draws):
        return Candidates(token_ids, x)
    weights = mx.exp(x)
    # The mass that top-p takes its share of: what top-k left, or else the whole row, of which x may be only the head.
    mass = mx.sum(weights, axis=-1, keepdims=True)
    cut = [0 < d.top_k < vocab_size for d in draws]
    partial = num_sorted < vocab_size and not all(cut)
    if partial:
        mass = mx.where(mx.array(cut)[:, None], mass, mx.sum(mx.exp(relative(logits)), axis=-1, keepdims=True))
    mass_before = mx.cumsum(weights, axis=-1, inclusive=False) / mass
    # A row without top-p keeps all, whatever the sum's rounding says. The token that crosses the threshold stays.
    top_p = mx.array([[d.top_p if d.top_p < 1 else mx.inf] for d in draws], dtype=mx.float32)
    kept = mx.where(mass_before < top_p, x, -mx.inf)
    if not partial:
        return Candidates(token_ids, kept)
    reached = cast(list[bool], (mass_before[:, -1] + weights[:, -1] / mass[:, 0] >= top_p[:, 0]).tolist())
    short = [row for row, enough in enumerate(reached) if not (enough or cut[row])]
    return Candidates(token_ids, kept, tuple(short))
