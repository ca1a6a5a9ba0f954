"""The depth that is chosen is the one that a stopwatch would choose."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inference.speculation.acceptance import tokens_expected
from inference.speculation.depth import LEAST_GAIN, Prices, choose

rates = st.floats(0, 1).flatmap(lambda rate: st.just((rate,) * 8))
prices = st.builds(
    lambda requests, fixed, each, draft: Prices(requests, lambda n: fixed + each * n, lambda depth: draft * depth),
    st.integers(1, 32),
    st.floats(1e-4, 0.1),
    st.floats(0, 0.05),
    st.floats(0, 0.05),
)


def speed(depth: int, rates: tuple[float, ...], prices: Prices) -> float:
    seconds = prices.step(prices.requests * (depth + 1)) + (prices.draft(depth) if depth else 0)
    return prices.requests * tokens_expected(rates[:depth]) / seconds


@given(st.integers(1, 8), rates, prices)
def test_no_other_depth_is_faster(most: int, rates: tuple[float, ...], prices: Prices) -> None:
    found = choose(most, rates, prices)
    speeds = [speed(depth, rates, prices) for depth in range(most + 1)]
    if found.depth:
        assert speeds[found.depth] == max(speeds)
        assert found.depth <= found.break_even
    else:
        assert max(speeds) <= LEAST_GAIN * speeds[0]
    assert speeds[found.break_even] >= speeds[0]
    assert all(each < speeds[0] for each in speeds[found.break_even + 1 :])


def test_it_falls_as_the_batch_grows() -> None:
    def depth(requests: int) -> int:
        return choose(8, (0.8,) * 8, Prices(requests, lambda n: 0.03 + 0.002 * n, lambda depth: 0.001 * depth)).depth

    depths = [depth(requests) for requests in (1, 2, 4, 8, 16, 64)]
    assert depths == sorted(depths, reverse=True)
    assert depths[0] >= 4
    assert depths[-1] == 0


def test_the_reason_says_what_decided() -> None:
    cheap = choose(4, (0.9,) * 4, Prices(1, lambda n: 0.03 + 0.001 * n, lambda depth: 0.0005 * depth))
    assert cheap.reason == "5 tokens take 1.2 times as long as one and give 4.1"
    dear = choose(4, (0.1,) * 4, Prices(1, lambda n: 0.01 * n, lambda depth: 0.001 * depth))
    assert dear.depth == 0
    assert dear.reason == "it would cost more than it gives: 5 tokens take 5.4 times as long as one and give 1.1"
