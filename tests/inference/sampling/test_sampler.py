"""Batched sampling against the float64 oracle, row by row."""

from __future__ import annotations

import math
from collections import Counter
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.ops import mlx_ops
from inference.protocol import SamplingParams
from inference.sampling import sampler
from inference.sampling.sampler import Sampled, SamplingState, sample
from tests.inference.sampling import oracle

V = 23


def random_logits(rng: np.random.Generator, rows: int, spread: float = 2.0) -> np.ndarray:
    return (spread * rng.standard_normal((rows, V))).astype(np.float32)


def state(params: SamplingParams, seed: int = 0, prompt: list[int] | None = None, output: tuple[int, ...] = ()) -> Any:
    s = SamplingState(params, seed, prompt or [])
    for token in output:
        s.append(token)
    return s


def chi_square(counts: Counter[int], p: np.ndarray) -> float:
    """In standard deviations: how far the counts are from `p`. Rare tokens are pooled."""
    n = sum(counts.values())
    rare = p * n < 5
    observed = np.array([counts[t] for t in range(len(p))], dtype=float)
    pairs = [*zip(observed[~rare], p[~rare] * n, strict=True)]
    if p[rare].sum() > 0:
        pairs.append((observed[rare].sum(), p[rare].sum() * n))
    freedom = len(pairs) - 1
    if freedom == 0:
        return 0.0
    return (sum((o - e) ** 2 / max(e, 1e-9) for o, e in pairs) - freedom) / math.sqrt(2 * freedom)


PARAMS = {
    "temperature": SamplingParams(temperature=0.7),
    "hot": SamplingParams(temperature=3.0),
    "top_k": SamplingParams(top_k=4),
    "top_p": SamplingParams(top_p=0.6),
    "min_p": SamplingParams(min_p=0.2),
    "all filters": SamplingParams(temperature=1.4, top_k=7, top_p=0.8, min_p=0.05),
    "penalties": SamplingParams(
        repetition_penalty=1.4, presence_penalty=0.5, frequency_penalty=0.3, logit_bias={3: 2.0, 5: -4.0}
    ),
    "greedy": SamplingParams(temperature=0),
}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", PARAMS)
def test_the_draws_follow_the_distribution_of_their_own_row(name: str, batch: int) -> None:
    """Each row has other logits, so a filter that reached across rows would show."""
    rng = np.random.default_rng(batch)
    logits = random_logits(rng, batch)
    prompt, output = [1, 2, 3], (2, 2, 4)
    neighbours = [PARAMS["top_p"], PARAMS["all filters"]]
    params = [PARAMS[name], *neighbours][:batch]
    rows = [state(p, seed=11 + row, prompt=prompt, output=output) for row, p in enumerate(params)]
    counts: list[Counter[int]] = [Counter() for _ in rows]
    array = mx.array(logits)
    for _ in range(1500):
        for row, drawn in enumerate(sample(array, rows)):
            counts[row][drawn.token_id] += 1
            rows[row].position += 1
    for row, p in enumerate(params):
        expected = oracle.distribution(logits[row], p, prompt, output)
        assert set(counts[row]) <= set(np.flatnonzero(expected)), "a token of probability zero was drawn"
        assert chi_square(counts[row], expected) < 4.5, (row, p)


def test_top_p_keeps_the_token_that_crosses_the_threshold() -> None:
    logits = mx.log(mx.array([[0.25, 0.4, 0.35]]))
    drawn = {sample(logits, [state(SamplingParams(top_p=0.7), seed=s)])[0].token_id for s in range(200)}
    assert drawn == {1, 2}


def test_top_k_of_one_is_greedy_in_every_row() -> None:
    logits = random_logits(np.random.default_rng(0), 3)
    drawn = sample(mx.array(logits), [state(SamplingParams(top_k=1, temperature=50), seed=s) for s in range(3)])
    assert [d.token_id for d in drawn] == logits.argmax(axis=-1).tolist()


@st.composite
def sampling_params(draw: st.DrawFn) -> SamplingParams:
    return SamplingParams(
        temperature=draw(st.sampled_from([0, 0.3, 1.0, 2.5])),
        top_p=draw(st.sampled_from([0.5, 0.9, 1.0])),
        top_k=draw(st.sampled_from([0, 0, 1, 3, 3, 8])),
        min_p=draw(st.sampled_from([0, 0, 0.1])),
        repetition_penalty=draw(st.sampled_from([1.0, 1.3])),
        frequency_penalty=draw(st.sampled_from([0, 0, 0.7])),
        presence_penalty=draw(st.sampled_from([0, -0.5])),
        logit_bias=draw(st.sampled_from([{}, {4: 3.0}])),
        logprobs=draw(st.sampled_from([None, 0, 3])),
    )


@given(st.integers(0, 2**32), st.lists(sampling_params(), min_size=1, max_size=6), st.randoms())
def test_a_row_is_sampled_the_same_alone_as_in_any_company(
    seed: int, params: list[SamplingParams], random: Any
) -> None:
    logits = mx.array(random_logits(np.random.default_rng(seed), len(params)))
    rows = [state(p, seed=i, prompt=[i], output=(7, 4)) for i, p in enumerate(params)]
    together = sample(logits, rows)
    alone = [sample(logits[i : i + 1], [row])[0] for i, row in enumerate(rows)]
    assert [t.token_id for t in together] == [a.token_id for a in alone]
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = sample(logits[mx.array(order)], [rows[i] for i in order])
    assert [s.token_id for s in shuffled] == [together[i].token_id for i in order]


@given(st.integers(0, 2**32), st.lists(sampling_params(), min_size=1, max_size=4))
def test_greedy_rows_take_the_largest_logit_after_bias_and_penalties(seed: int, params: list[SamplingParams]) -> None:
    logits = random_logits(np.random.default_rng(seed), len(params))
    output = (1, 1, 9)
    drawn = sample(mx.array(logits), [state(p, prompt=[2, 9], output=output) for p in params])
    for row, p in enumerate(params):
        if p.temperature == 0:
            assert drawn[row].token_id == oracle.edited(logits[row], p, [2, 9], output).argmax()


def test_log_probabilities_are_the_models_own() -> None:
    logits = random_logits(np.random.default_rng(5), 3)
    params = [
        SamplingParams(temperature=0.1, top_k=1, logit_bias={6: 100}, logprobs=4),
        SamplingParams(logprobs=None),
        SamplingParams(temperature=0, logprobs=0),
    ]
    drawn = sample(mx.array(logits), [state(p, seed=i) for i, p in enumerate(params)])
    expected = np.log(oracle.softmax(logits[0].astype(np.float64)))
    assert drawn[0].token_id == 6
    assert drawn[0].logprob is not None
    assert drawn[0].logprob.logprob == pytest.approx(expected[6], abs=1e-5)
    best = np.argsort(-expected)[:4]
    assert [t for t, _ in drawn[0].logprob.top] == best.tolist()
    assert [lp for _, lp in drawn[0].logprob.top] == pytest.approx(expected[best].tolist(), abs=1e-5)
    assert drawn[1].logprob is None
    assert drawn[2].logprob is not None
    assert drawn[2].logprob.top == ()


@pytest.mark.parametrize("bad", [[math.nan], [math.inf], [math.nan] * V, [-math.inf] * V])
def test_a_row_of_bad_logits_fails_alone(bad: list[float]) -> None:
    logits = random_logits(np.random.default_rng(0), 3)
    logits[1, : len(bad)] = bad
    rows = [state(SamplingParams(top_p=0.9, logprobs=2)), state(SamplingParams(logprobs=2)), state(SamplingParams())]
    drawn = sample(mx.array(logits), rows)
    assert "not a number" in drawn[1].error
    healthy = sample(mx.array(logits[[0, 2]]), [rows[0], rows[2]])
    assert [drawn[0].token_id, drawn[2].token_id] == [h.token_id for h in healthy]
    assert not drawn[0].error
    assert not drawn[2].error


def test_a_masked_token_is_never_drawn_even_where_all_others_are_unlikely() -> None:
    logits = np.full((1, V), -np.inf, dtype=np.float32)
    logits[0, 8] = -300
    for params in (SamplingParams(temperature=100), SamplingParams(top_k=5), SamplingParams(top_p=0.99)):
        assert {sample(mx.array(logits), [state(params, seed=s)])[0].token_id for s in range(100)} == {8}


@pytest.mark.parametrize("temperature", [1e-45, 1e-38, 1e-20, 1e-6])
def test_a_very_low_temperature_is_greedy_not_nan(temperature: float) -> None:
    logits = random_logits(np.random.default_rng(3), 1)
    drawn = sample(mx.array(logits), [state(SamplingParams(temperature=temperature))])
    assert drawn == [Sampled(int(logits.argmax()))]


def test_the_seed_and_the_position_decide_the_draw() -> None:
    logits = mx.zeros((1, 5000))

    def run(seed: int) -> list[int]:
        s = state(SamplingParams(), seed=seed)
        tokens = []
        for _ in range(5):
            tokens.append(sample(logits, [s])[0].token_id)
            s.append(tokens[-1])
        return tokens

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert len(set(run(1))) > 1


def test_an_all_greedy_batch_does_no_more_than_an_argmax(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("not needed for greedy rows")

    monkeypatch.setattr(sampler, "logprobs", never)
    ops = SimpleNamespace(greedy=mlx_ops.greedy, draw=never, largest=never)
    logits = random_logits(np.random.default_rng(1), 4)
    drawn = sample(mx.array(logits), [state(SamplingParams(temperature=0, top_p=0.5, top_k=3))] * 4, ops)
    assert [d.token_id for d in drawn] == logits.argmax(axis=-1).tolist()
