"""Random numbers that belong to a token: a pure function of (seed, position in the output, token id).

A draw must not depend on what else is in the batch, nor on which filters other rows use. So there is no generator with
a state to share: each candidate token of each position has its own number, found by hashing. Adding Gumbel noise to
log-probabilities and taking the largest draws from the distribution (Gumbel 1954; Maddison et al. 2014, "A* sampling").
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

_MASK64 = (1 << 64) - 1


def _mix64(x: int) -> int:
    """The output function of SplitMix64 (Steele et al. 2014): every input bit reaches every output bit."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
    return x ^ (x >> 31)


def draw_key(seed: int, position: int) -> int:
    """The 64-bit key of one draw: the `position`-th output token of a request with this seed.

    The seed is mixed before the position is added, so that neighbouring seeds don't share shifted sequences.
    """
    return _mix64((_mix64((seed + 0x9E3779B97F4A7C15) & _MASK64) + position * 0x9E3779B97F4A7C15) & _MASK64)


def gumbel(keys: Sequence[int], token_ids: mx.array) -> mx.array:
    """Standard Gumbel noise for candidates `token_ids` ([R, n] or [1, n], uint32) of R draws -> [R, n] float32.

    Always finite: it lies in [-2.81, 22.9], so no sum with a finite logit overflows and a masked token (-inf) can't
    win. The 32 random bits are spent on the upper tail, the end that decides which token wins.
    """
    low = mx.array([[key & 0xFFFFFFFF] for key in keys], dtype=mx.uint32)
    high = mx.array([[key >> 32] for key in keys], dtype=mx.uint32)
    bits = _mix32(_mix32(token_ids ^ low) + high)
    # Uniform in (0, 1): half a step above 0, and held below 1, where float32 would round it up to.
    uniform = mx.minimum(bits.astype(mx.float32) * 2.0**-32 + 2.0**-33, 1 - 2.0**-24)
    return -mx.log(-mx.log1p(-uniform))


def _mix32(x: mx.array) -> mx.array:
    """A 32-bit hash of low bias; constants found by Wellons 2018, "Prospecting for hash functions"."""
    x = (x ^ (x >> 16)) * mx.array(0x7FEB352D, dtype=mx.uint32)
    x = (x ^ (x >> 15)) * mx.array(0x846CA68B, dtype=mx.uint32)
    return x ^ (x >> 16)
