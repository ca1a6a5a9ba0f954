"""Why a request found no more of its beginning in the prefix cache than it did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inference.scheduling.request import Request


@dataclass(frozen=True, slots=True)
class Comparison:
    """A request beside the one among others that begins most alike."""

    other: Request | None
    """None if there is no other, or none that begins with the same token."""
    common: int
    """Tokens that both begin with."""


def most_alike(request: Request, others: Iterable[Request]) -> Comparison:
    """Compare with all others, prompt and output; among equals the latest given wins."""
    tokens = request.token_ids(0, request.num_tokens)
    best = Comparison(None, 0)
    for other in others:
        if other.request_id == request.request_id:
            continue
        common = common_prefix(tokens, other.token_ids(0, other.num_tokens))
        if common and common >= best.common:
            best = Comparison(other, common)
    return best


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """The number of tokens that two sequences begin with alike."""
    length = min(len(left), len(right))
    return next((i for i in range(length) if left[i] != right[i]), length)
