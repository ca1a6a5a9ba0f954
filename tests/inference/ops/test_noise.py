"""The noise behind every draw: independent where it should be, bounded, and of the right distribution."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from inference.ops.noise import draw_key, gumbel


def uniforms(keys: list[int], num_tokens: int) -> np.ndarray:
    """The noise mapped back to uniform numbers: [keys, tokens]."""
    noise = gumbel(keys, mx.arange(num_tokens, dtype=mx.uint32)[None])
    return np.exp(-np.exp(-np.array(noise, dtype=np.float64)))


def kolmogorov_smirnov(sample: np.ndarray) -> float:
    """Largest gap between the sample's distribution and the uniform one, times sqrt(n): above 1.95 once in 1000."""
    x = np.sort(sample.ravel())
    steps = np.arange(len(x) + 1) / len(x)
    return float(max((steps[1:] - x).max(), (x - steps[:-1]).max()) * np.sqrt(len(x)))


@pytest.mark.parametrize("across", ["tokens", "positions", "seeds"])
def test_the_noise_is_uniform_along_every_axis(across: str) -> None:
    if across == "tokens":
        sample = uniforms([draw_key(7, 0)], 200_000)
    elif across == "positions":
        sample = uniforms([draw_key(7, position) for position in range(200_000)], 1)
    else:
        sample = uniforms([draw_key(seed, 0) for seed in range(200_000)], 1)
    assert kolmogorov_smirnov(sample) < 1.95


def test_neighbouring_seeds_positions_and_tokens_are_uncorrelated() -> None:
    size = 40
    x = uniforms([draw_key(seed, position) for seed in range(size) for position in range(size)], size)
    cube = x.reshape(size, size, size) - 0.5
    for seeds, positions, tokens in np.ndindex(3, 3, 3):
        if seeds or positions or tokens:
            shifted = cube[seeds:, positions:, tokens:]
            start = cube[: size - seeds, : size - positions, : size - tokens]
            correlation = 12 * float((start * shifted).mean())
            assert abs(correlation) * np.sqrt(start.size) < 4.5, (seeds, positions, tokens)


def test_seeds_do_not_share_shifted_sequences() -> None:
    keys = {(seed, position): draw_key(seed, position) for seed in range(300) for position in range(300)}
    assert len(set(keys.values())) == len(keys)


def test_the_noise_is_finite_and_bounded() -> None:
    noise = gumbel([draw_key(seed, 0) for seed in range(20)], mx.arange(300_000, dtype=mx.uint32)[None])
    assert float(mx.min(noise)) > -2.82
    assert float(mx.max(noise)) < 22.9
    extremes = uniforms([0, 2**64 - 1], 5)
    assert np.isfinite(extremes).all()
