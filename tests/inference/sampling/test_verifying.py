"""Verified drafts leave the distribution of what is sampled as it is, and the very tokens that would be sampled."""

from __future__ import annotations

from collections import Counter

import mlx.core as mx
import numpy as np
import pytest

from inference.ops import mlx_ops
from inference.protocol import SamplingParams
from inference.sampling.sampler import Sampled, SamplingState, accepted, choose, sample
from tests.inference.sampling import oracle
from tests.inference.sampling.test_sampler import PARAMS, chi_square

V, LENGTH, DRAWS, BATCH = 6, 3, 24_000, 1_000


def markov(rng: np.random.Generator, spread: float) -> np.ndarray:
    """Logits of the next token by the last one, [V, V]."""
    return (spread * rng.standard_normal((V, V))).astype(np.float32)


def speak(target: np.ndarray, draft: np.ndarray, params: SamplingParams, seeds: range) -> tuple[np.ndarray, float]:
    """LENGTH tokens for each seed, drafted two at a time; and the share of drafts that were accepted.

    The two models are tables, the rest is what the engine does.
    """
    states = [SamplingState(params, seed, [0]) for seed in seeds]
    texts: list[list[int]] = [[0] for _ in seeds]
    made = right = 0
    while True:
        unfinished = [i for i, text in enumerate(texts) if len(text) <= LENGTH]
        if not unfinished:
            return np.array([text[1 : LENGTH + 1] for text in texts]), right / made
        drafts: list[list[int]] = [[] for _ in unfinished]
        for _ in range(2):
            last = [([*texts[i], *d])[-1] for i, d in zip(unfinished, drafts, strict=True)]
            ahead = [states[i].ahead(d) for i, d in zip(unfinished, drafts, strict=True)]
            guesses = choose(mx.array(draft[last]), ahead, mlx_ops)
            for d, guess in zip(drafts, guesses, strict=True):
                d.append(guess)
        before = [[texts[i][-1], *d] for i, d in zip(unfinished, drafts, strict=True)]
        views = [states[i].ahead(d[:n]) for i, d in zip(unfinished, drafts, strict=True) for n in range(3)]
        rows = sample(mx.array(target[[token for each in before for token in each]]), views)
        for place, i in enumerate(unfinished):
            taken = accepted(drafts[place], rows[3 * place : 3 * place + 3])
            made, right = made + 2, right + len(taken) - 1
            for each in taken:
                texts[i].append(each.token_id)
                states[i].append(each.token_id)


@pytest.mark.parametrize("name", ["temperature", "hot", "top_k", "top_p", "min_p", "penalties"])
@pytest.mark.parametrize("quality", ["a good draft", "a bad draft"])
def test_the_joint_distribution_of_what_is_said_is_the_targets(name: str, quality: str) -> None:
    params = PARAMS[name]
    rng = np.random.default_rng(len(name))
    target = markov(rng, 1.5)
    draft = target + markov(rng, 0.3) if quality == "a good draft" else markov(rng, 1.5)
    parts = [speak(target, draft, params, range(start, start + BATCH)) for start in range(0, DRAWS, BATCH)]
    said, rate = np.concatenate([part for part, _ in parts]), np.mean([share for _, share in parts])
    truth = np.zeros(V**LENGTH)
    for text in np.ndindex(*(V,) * LENGTH):
        chance, spoken = 1.0, [0]
        for token in text:
            row = target[spoken[-1]].astype(np.float64)
            chance *= oracle.distribution(row, params, prompt=[0], output=spoken[1:])[token]
            spoken.append(token)
        truth[np.ravel_multi_index(text, (V,) * LENGTH)] = chance
    counts = Counter(np.ravel_multi_index(said.T, (V,) * LENGTH).tolist())
    assert sum(counts.values()) == DRAWS
    assert chi_square(counts, truth) < 4.5
    assert rate > (0.6 if quality == "a good draft" else 0.05)


@pytest.mark.parametrize("quality", [0.0, 0.3, 3.0])
def test_the_same_seed_says_the_same_with_any_draft_model(quality: float) -> None:
    rng = np.random.default_rng(4)
    target = markov(rng, 1.5)
    plain, _ = speak(target, target, SamplingParams(), range(500))
    said, rate = speak(target, target + markov(rng, quality), SamplingParams(), range(500))
    assert np.array_equal(plain, said)
    assert (rate == 1) == (quality == 0)


def test_shared_numbers_accept_nearly_as_often_as_any_scheme_could() -> None:
    """No scheme accepts more than the overlap of the two distributions; sharing numbers has a floor as well."""
    rng = np.random.default_rng(1)
    target, draft = rng.standard_normal((2, V)).astype(np.float32)
    p, q = (oracle.softmax(x.astype(np.float64)) for x in (target, draft))
    overlap = np.minimum(p, q).sum()
    same = 0
    for start in range(0, DRAWS, BATCH):
        states = [SamplingState(SamplingParams(), start + i, []) for i in range(BATCH)]
        ours, theirs = (choose(mx.array(np.tile(row, (BATCH, 1))), states, mlx_ops) for row in (target, draft))
        same += sum(a == b for a, b in zip(ours, theirs, strict=True))
    rate = same / DRAWS
    assert overlap / (2 - overlap) - 0.01 <= rate <= overlap + 0.01


def test_a_row_that_is_no_number_ends_the_draft_before_it_and_is_an_error_only_on_its_own() -> None:
    def row(token: int) -> Sampled:
        return Sampled(token, error="" if token >= 0 else "not a number")

    def taken(draft: list[int], *rows: int) -> list[int]:
        return [each.token_id for each in accepted(draft, [row(token) for token in rows])]

    assert taken([3, 4], 3, 4, 5) == [3, 4, 5]
    assert taken([3, 4], 3, 9, 5) == [3, 9]
    assert taken([3, 4], 9, 4, 5) == [9]
    assert taken([], 9) == [9]
    assert taken([3, 4], 3, -1, 5) == [3]
    assert taken([3, 4], 3, 4, -1) == [3, 4]
    assert taken([3, 4], -1, 4, 5) == [-1]
