"""Rounding activations to int8, as array code: what `int8_linear` means."""

from __future__ import annotations

import mlx.core as mx


def to_int8(x: mx.array, group_size: int) -> mx.array:
    """x [..., I] as the float32 numbers that int8 with a scale for each group of columns can hold.

    Each group's largest magnitude becomes 127.
    """
    groups = x.astype(mx.float32).reshape(*x.shape[:-1], -1, group_size)
    largest = mx.max(mx.abs(groups), axis=-1, keepdims=True)
    # Not `largest > 0`: a NaN has to stay one.
    rounded = mx.round(groups * mx.where(largest == 0, 0, 127 / largest)) * (largest / 127)
    return rounded.reshape(x.shape)
