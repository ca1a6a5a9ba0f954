"""How far ahead to draft: as far as it saves time.

A draft of k tokens costs a longer step and the drafting, and gives the tokens that are expected to be accepted. With
more requests in the batch, or a machine that computes slowly beside its memory, the step grows faster than the gain.
All of that is measured here and now; nothing is assumed of model or machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inference.speculation.acceptance import tokens_expected

LEAST_GAIN = 1.03
"""A depth that promises less than this over none is not worth the swings of what is measured."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What the next step's batch costs, in seconds."""

    requests: int
    """That decode, and so can have drafts."""
    drafting: int
    """Of these, those for which there is something to draft: an n-gram is not found in every text."""
    step: Callable[[int], float]
    """The step, by the number of tokens of those requests together."""
    draft: Callable[[int], float]
    """Drafting, by the depth."""


@dataclass(frozen=True, slots=True)
class Depth:
    """A choice, and what it was made by."""

    depth: int
    break_even: int | None
    """The largest that is no slower than none; None where nothing was measured yet."""
    reason: str


def choose(most: int, rates: Sequence[float], prices: Prices) -> Depth:
    """The depth, up to `most`, that gives the most tokens per second; `rates` as in `Acceptance.rates`."""
    speeds = [_tokens_per_second(depth, rates, prices) for depth in range(most + 1)]
    plain = speeds[0]
    break_even = max(depth for depth in range(most + 1) if speeds[depth] >= plain)
    best = max(range(most + 1), key=lambda depth: speeds[depth])

    def verdict(depth: int) -> str:
        dearer = _seconds(depth, prices) / _seconds(0, prices)
        given = tokens_expected(rates[:depth])
        some = f", drafting for {prices.drafting} of {prices.requests}" if prices.drafting < prices.requests else ""
        return f"{1 + depth} tokens take {dearer:.1f} times as long as one and give {given:.1f}{some}"

    if not best:
        return Depth(0, break_even, f"it would cost more than it gives: {verdict(most)}")
    if speeds[best] < LEAST_GAIN * plain:
        return Depth(0, break_even, f"it would cost more than it gives, or nearly: {verdict(best)}")
    return Depth(best, break_even, verdict(best))


def _seconds(depth: int, prices: Prices) -> float:
    return prices.step(prices.requests + prices.drafting * depth) + (prices.draft(depth) if depth else 0.0)


def _tokens_per_second(depth: int, rates: Sequence[float], prices: Prices) -> float:
    gained = prices.drafting * (tokens_expected(rates[:depth]) - 1)
    return (prices.requests + gained) / _seconds(depth, prices)
