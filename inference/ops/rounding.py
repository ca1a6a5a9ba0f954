"""Rounding activations, as array code: what `bfloat16_linear` and `int8_linear` mean."""

from __future__ import annotations

import mlx.core as mx

PRODUCTS = ("linear", "expert_linear")
"""The operations that multiply by weights, and whose activations may be rounded."""


def to_bfloat16(x: mx.array) -> mx.array:
    """x [..., I] as the nearest float32 numbers that bfloat16 can hold."""
    return x.astype(mx.bfloat16).astype(mx.float32)


def to_int8(x: mx.array, group_size: int) -> mx.array:
    """x [..., I] as the float32 numbers that int8 with a scale for each group of columns can hold.

    Each group's largest magnitude becomes 127.
    """
    groups = x.astype(mx.float32).reshape(*x.shape[:-1], -1, group_size)
    largest = mx.max(mx.abs(groups), axis=-1, keepdims=True)
    # Not `largest > 0`: a NaN has to stay one.
    rounded = mx.round(groups * mx.where(largest == 0, 0, 127 / largest)) * (largest / 127)
    return rounded.reshape(x.shape)
