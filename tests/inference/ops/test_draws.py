"""Draws: every implementation takes the reference's tokens, and the reference follows the distribution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import metal_kernels
from inference.ops import draws, mlx_ops, native, packing, reference
from inference.ops.draws import Draw, candidates
from inference.ops.noise import draw_key
from inference.protocol import SamplingParams
from tests.inference.sampling import oracle
from tests.inference.sampling.test_sampler import chi_square

LEVELS = () if packing.why_missing() else metal_kernels.native.supported_levels()
IMPLEMENTATIONS = {"reference": reference, "mlx": mlx_ops} | {f"native at {level}": native for level in LEVELS}
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(params=list(IMPLEMENTATIONS))
def draw(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The operation by each implementation; by our own kernel for each instruction set of this processor."""
    name: str = request.param
    if IMPLEMENTATIONS[name] is not native:
        yield IMPLEMENTATIONS[name].draw
        return
    module: Any = metal_kernels.native
    best = module.level()
    module.set_level(name.split()[-1])
    yield native.draw
    module.set_level(best)


ways = st.builds(
    Draw,
    key=st.integers(0, 2**64 - 1),
    temperature=st.sampled_from([1e-40, 1e-6, 0.1, 0.7, 1.0, 3.0, 100.0]),
    min_p=st.sampled_from([0.0, 0.0, 0.02, 0.3, 1.0]),
    top_k=st.sampled_from([0, 0, 1, 5, 40, 500]),
    top_p=st.sampled_from([1.0, 1.0, 0.99, 0.7, 0.2, 1e-6]),
)


def rows_of(kind: str, seed: int, count: int, width: int) -> np.ndarray:
    numbers = np.random.default_rng(seed)
    x = numbers.standard_normal((count, width)) * (0.3 if kind == "flat" else 3)
    if kind == "few values":
        x = np.round(x)
    elif kind == "equal":
        x[:] = 2.5
    elif kind == "rising":
        x = np.sort(x, axis=-1)
    elif kind == "masked":
        x[numbers.random(x.shape) < 0.9] = -np.inf
        x[:, 0] = -20  # one is left
    elif kind == "peaked":
        x[:, numbers.integers(width)] += 30
    return x.astype(np.float32)


def on_the_edge(x: np.ndarray, way: Draw) -> bool:
    """Whether the mass of some first tokens is top_p up to rounding, so that the next may belong to it or not."""
    if way.top_p >= 1:
        return False
    wide = (x.astype(np.float64) - x.max()) / max(way.temperature, 1e-30)
    p = np.sort(np.exp(wide))[::-1]
    p = p[p >= way.min_p * (1 - 1e-6)][: way.top_k or None]
    return bool((np.abs(np.cumsum(p) / p.sum() - way.top_p) < 1e-5).any())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["normal", "flat", "few values", "equal", "rising", "masked", "peaked"]),
    seeds,
    st.sampled_from([1, 2, 15, 16, 17, 63, 64, 65, 1000, 4096, 5001]),
    st.lists(ways, min_size=1, max_size=5),
)
def test_all_implementations_draw_the_same(draw: Any, kind: str, seed: int, width: int, given_ways: list[Draw]) -> None:
    x = rows_of(kind, seed, len(given_ways), width)
    assume(not any(on_the_edge(row, way) for row, way in zip(x, given_ways, strict=True)))
    found = draw(mx.array(x), given_ways)
    assert found.dtype == mx.uint32
    assert found.tolist() == reference.draw(mx.array(x), given_ways).tolist()


def real_rows() -> mx.array:
    """Large enough for several threads to share a row, and for top-p's share to go beyond what is sorted first."""
    x = rows_of("normal", 1, 5, 151_936)
    x[1] += 40 * (np.arange(x.shape[1]) % 5000 == 7)
    x[2] *= 0.1
    return mx.array(x)


def real_ways(number: int) -> tuple[list[Draw], list[Draw]]:
    keys = [draw_key(row, number) for row in range(5)]
    plain = [Draw(key, 0.8) for key in keys]
    return plain, [Draw(key, 0.8, 0.01 * (number % 2), 50 * (number % 3), 0.9) for key in keys]


@pytest.fixture(scope="module")
def real_draws() -> list[list[Any]]:
    """By number and way, the tokens that array operations draw."""
    rows = real_rows()
    return [[mlx_ops.draw(rows, ways).tolist() for ways in real_ways(number)] for number in range(200)]


def test_a_thousand_draws_from_a_real_vocabulary(draw: Any, real_draws: list[list[Any]]) -> None:
    rows, slow = real_rows(), draw in (reference.draw, mlx_ops.draw)
    for number, expected in enumerate(real_draws[:20] if slow else real_draws):
        assert [draw(rows, ways).tolist() for ways in real_ways(number)] == expected


KINDS = {
    "temperature": {"temperature": 0.7},
    "hot": {"temperature": 4.0},
    "top_k": {"top_k": 12},
    "top_p": {"top_p": 0.6},
    "min_p": {"min_p": 0.05},
    "all filters": {"temperature": 1.4, "top_k": 30, "top_p": 0.8, "min_p": 0.01},
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("width", [23, 700])
def test_draws_follow_the_distribution(draw: Any, name: str, width: int) -> None:
    """Also without sharing the noise's computation: positions of one seed are as good as independent."""
    row = rows_of("normal", width, 1, width)
    params = SamplingParams(**KINDS[name])
    expected = oracle.distribution(row[0], params)
    count, batch = (20_000, 1_000) if draw is not reference.draw else (3_000, 500)
    counts: Counter[int] = Counter()
    array = mx.array(np.repeat(row, batch, axis=0))
    for start in range(0, count, batch):
        each = [
            Draw(draw_key(5, start + i), params.temperature, params.min_p, params.top_k, params.top_p)
            for i in range(batch)
        ]
        counts.update(draw(array, each).tolist())
    assert set(counts) <= set(np.flatnonzero(expected)), "a token of probability zero was drawn"
    assert chi_square(counts, expected) < 4.5


@pytest.mark.parametrize("way", [Draw(1, 0.8), Draw(1, 0.8, top_k=3), Draw(1, 0.8, top_p=0.5), Draw(1, 2, min_p=0.1)])
def test_rows_that_are_not_numbers_have_no_token(draw: Any, way: Draw) -> None:
    x = rows_of("normal", 3, 6, 3000)
    x[0, 2999], x[1, 0], x[2], x[3, 70], x[4, 5] = np.nan, np.inf, -np.inf, np.nan, -np.inf
    found = draw(mx.array(x), [way] * 6).tolist()
    assert found[:4] == [3000] * 4
    assert found[4:] == draw(mx.array(x[4:]), [way] * 2).tolist()
    assert all(token < 3000 for token in found[4:])


def test_a_row_is_drawn_the_same_alone_as_in_any_company(draw: Any) -> None:
    x = mx.array(rows_of("normal", 3, 4, 20_000))
    each = [Draw(5, 0.8), Draw(6, 0.8, top_k=40), Draw(7, 0.8, top_p=0.9), Draw(8, 0.8, min_p=0.1)]
    alone = [draw(x[i : i + 1], [each[i]]).item() for i in range(4)]
    assert draw(x, each).tolist() == alone
    assert draw(x[::-1], each[::-1]).tolist() == alone[::-1]


@pytest.mark.skipif(not LEVELS, reason="no native kernels here")
def test_the_kernel_refuses_what_is_no_way_to_draw() -> None:
    x = mx.zeros((2, 4))
    plain: Any = Draw(1, 1.0)
    bad: list[tuple[mx.array, Sequence[Draw], str]] = [
        (x, [plain], "one way to draw for each row"),
        (x, [plain, Draw(1, 0.0)], "temperatures are above 0"),
        (x, [plain, Draw(1, float("nan"))], "temperatures are above 0"),
        (x, [plain, Draw(1, 1.0, min_p=1.5)], "min_p from 0 to 1"),
        (x, [plain, Draw(1, 1.0, top_p=0.0)], "top_p above 0"),
        (x, [plain, Draw(1, 1.0, top_k=-1)], "top_k 0 or more"),
        (x.astype(mx.float16), [plain, plain], "float32"),
        (mx.zeros((2, 0)), [plain, plain], "at least one number"),
    ]
    for array, each, message in bad:
        with pytest.raises(ValueError, match=message):
            native.draw(array, each)


V = 23


@given(
    seed=seeds,
    temperature=st.floats(0.05, 5),
    min_p=st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]),
    top_k=st.integers(0, V + 2),
    top_p=st.sampled_from([1e-9, 0.05, 0.3, 0.7, 0.95, 0.999, 1.0]),
)
def test_the_filters_leave_what_the_oracle_leaves(
    seed: int, temperature: float, min_p: float, top_k: int, top_p: float
) -> None:
    logits = rows_of("normal", seed, 1, V)
    in_order = top_k if 0 < top_k < V else V if top_p < 1 else 0
    left = candidates(mx.array(logits), [Draw(0, temperature, min_p, top_k, top_p)], in_order, reference.largest)
    probabilities = np.zeros(V)
    ids = np.broadcast_to(np.array(left.token_ids), left.logits.shape)
    probabilities[ids[0]] = np.array(mx.softmax(left.logits, axis=-1))[0]
    params = SamplingParams(temperature=temperature, min_p=min_p, top_k=top_k, top_p=top_p)
    np.testing.assert_allclose(probabilities, oracle.distribution(logits[0], params), atol=2e-5)


@given(seed=seeds, head=st.sampled_from([1, 2, 5, V - 1]))
def test_top_p_without_a_sort_draws_the_same(seed: int, head: int) -> None:
    """A head that holds the share of top-p suffices; where it does not, the row is sorted whole, alone."""
    numbers = np.random.default_rng(seed)
    logits = mx.array(rows_of("normal", seed, 6, V))
    each = [
        Draw(
            key=draw_key(row, 0),
            temperature=float(numbers.choice([0.2, 1.0, 3.0])),
            min_p=float(numbers.choice([0.0, 0.05])),
            top_k=int(numbers.choice([0, 0, 0, 3])),
            top_p=float(numbers.choice([0.05, 0.5, 0.99, 1.0])),
        )
        for row in range(6)
    ]
    expected = mlx_ops.draw(logits, each).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draws, "HEAD", head)
        assert mlx_ops.draw(logits, each).tolist() == expected
