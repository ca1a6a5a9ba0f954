"""Log-probabilities as the model gave them: from the raw logits, before bias, penalties, temperature and filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import mlx.core as mx

from inference.protocol import TokenLogprob


def logprobs(
    logits: mx.array, token_ids: Sequence[int], num_top: Sequence[int], largest: Callable[[mx.array, int], mx.array]
) -> list[TokenLogprob]:
    """For each row of `logits` [R, V]: the chosen token's log-probability and those of the `num_top` most probable.

    `largest` is the implementation of that operation in force.
    """
    total = mx.logsumexp(logits, axis=-1, keepdims=True)
    ids = mx.array(list(token_ids), dtype=mx.uint32)[:, None]
    chosen = cast(list[list[float]], (mx.take_along_axis(logits, ids, axis=-1) - total).tolist())
    count = min(max(num_top), logits.shape[-1])
    if count == 0:
        return [TokenLogprob(token, logprob) for token, (logprob,) in zip(token_ids, chosen, strict=True)]
    best_ids = largest(logits, count)
    best = mx.take_along_axis(logits, best_ids, axis=-1) - total
    mx.eval(best_ids, best)
    alternatives = zip(
        cast(list[list[int]], best_ids.tolist()), cast(list[list[float]], best.tolist()), num_top, strict=True
    )
    return [
        TokenLogprob(token, logprob, _top(ids_of_row, values, n))
        for token, (logprob,), (ids_of_row, values, n) in zip(token_ids, chosen, alternatives, strict=True)
    ]


def _top(token_ids: list[int], values: list[float], count: int) -> tuple[tuple[int, float], ...]:
    """The `count` best pairs, best first; of equal ones the smaller id comes first."""
    return tuple(sorted(zip(token_ids, values, strict=True), key=lambda pair: (-pair[1], pair[0]))[:count])
