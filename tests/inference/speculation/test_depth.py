"""The depth that is chosen is the one that a stopwatch would choose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.speculation.acceptance import tokens_expected
from inference.speculation.depth import LEAST_GAIN, Depth, Prices, choose

rates = st.floats(0, 1).flatmap(lambda rate: st.just((rate,) * 8))
prices = st.builds(
    lambda requests, fixed, each, draft: Prices(*requests, lambda n: fixed + each * n, lambda depth: draft * depth),
    st.integers(1, 32).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    st.floats(1e-4, 0.1),
    st.floats(0, 0.05),
    st.floats(0, 0.05),
)


def speed(depth: int, rates: tuple[float, ...], prices: Prices) -> float:
    """One request after the other, those that draft and those that don't."""
    drafted = [depth if i < prices.drafting else 0 for i in range(prices.requests)]
    seconds = prices.step(sum(1 + n for n in drafted)) + (prices.draft(depth) if depth else 0)
    return sum(tokens_expected(rates[:n]) for n in drafted) / seconds


@given(st.integers(1, 8), rates, prices)
def test_no_other_depth_is_faster(most: int, rates: tuple[float, ...], prices: Prices) -> None:
    found = choose(most, rates, prices)
    speeds = [speed(depth, rates, prices) for depth in range(most + 1)]
    if found.depth:
        assert speeds[found.depth] == pytest.approx(max(speeds))
        assert found.break_even is not None
        assert found.depth <= found.break_even
    else:
        assert max(speeds) <= LEAST_GAIN * speeds[0] * (1 + 1e-9)
    assert found.break_even is not None
    assert speeds[found.break_even] >= speeds[0] * (1 - 1e-9)
    assert all(each < speeds[0] * (1 + 1e-9) for each in speeds[found.break_even + 1 :])


def test_it_falls_as_the_batch_grows() -> None:
    def depth(requests: int) -> int:
        return choose(
            8, (0.8,) * 8, Prices(requests, requests, lambda n: 0.03 + 0.002 * n, lambda depth: 0.001 * depth)
        ).depth

    depths = [depth(requests) for requests in (1, 2, 4, 8, 16, 64)]
    assert depths == sorted(depths, reverse=True)
    assert depths[0] >= 4
    assert depths[-1] == 0


def test_the_reason_says_what_decided() -> None:
    cheap = choose(4, (0.9,) * 4, Prices(1, 1, lambda n: 0.03 + 0.001 * n, lambda depth: 0.0005 * depth))
    assert cheap.reason == "5 tokens take 1.2 times as long as one and give 4.1"
    dear = choose(4, (0.1,) * 4, Prices(1, 1, lambda n: 0.01 * n, lambda depth: 0.001 * depth))
    assert dear.depth == 0
    assert dear.reason == "it would cost more than it gives: 5 tokens take 5.4 times as long as one and give 1.1"


def test_one_text_is_drafted_for_though_sixteen_would_be_too_many() -> None:
    """Twenty tokens take no longer than sixteen, eighty do."""

    def found(drafting: int) -> Depth:
        return choose(4, (0.8,) * 4, Prices(16, drafting, lambda n: max(0.01, 0.0005 * n), lambda depth: 0.0))

    assert found(1).depth == 4
    assert found(1).reason.endswith("drafting for 1 of 16")
    assert found(16).depth < 4
