"""Weights in the order in memory that our own CPU kernels read, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx

import metal_kernels
from inference.ops.weights import DenseWeight, PackedWeight, QuantizedWeight, Weight, runs_on_cpu

if TYPE_CHECKING:
    from metal_kernels import _native as native
else:
    native = metal_kernels.native  # None where `why_missing` says so, and then nothing below is called

_NARROW = (mx.bfloat16, mx.float16)


def why_missing() -> str:
    """Why our own kernels for the CPU can't be used here, as a sentence; empty if they can."""
    if metal_kernels.native is None:
        return metal_kernels.why_missing
    if not runs_on_cpu():
        return "this build's own kernels are for the CPU, and this engine runs on the GPU"
    return ""


def pack(weight: Weight) -> PackedWeight:
    """The same weight, packed. Nothing is lost: `plain` turns it back."""
    if isinstance(weight, PackedWeight):
        return weight
    if isinstance(weight, DenseWeight):
        (elements,) = _narrow(weight.weight)
        return PackedWeight(native.pack(elements, weight.bias), weight.dtype, weight.bias)
    scales, biases = _narrow(weight.scales, weight.biases)
    matrix = native.pack_quantized(weight.packed, scales, biases, weight.bits, weight.group_size, weight.bias)
    return PackedWeight(matrix, weight.dtype, weight.bias)


def _narrow(*arrays: mx.array) -> tuple[mx.array, ...]:
    """The arrays in a type of half the width, if they all have it without loss: less to read from memory."""
    for dtype in _NARROW:
        if all(a.dtype == mx.float32 and mx.array_equal(a.astype(dtype).astype(a.dtype), a) for a in arrays):
            return tuple(a.astype(dtype) for a in arrays)
    return arrays


def plain(weight: Weight) -> DenseWeight | QuantizedWeight:
    """A packed weight as it was before, for the implementations that know no other form."""
    return _unpack(weight, None, weight.bias) if isinstance(weight, PackedWeight) else weight


def plain_rows(ids: mx.array, weight: Weight) -> tuple[mx.array, DenseWeight | QuantizedWeight]:
    """A plain weight with the rows `ids` [T] somewhere in it, and where: of a packed one, these rows alone."""
    if not isinstance(weight, PackedWeight):
        return ids, weight
    return mx.arange(ids.size), _unpack(weight, ids, None)


def _unpack(weight: PackedWeight, ids: mx.array | None, bias: mx.array | None) -> DenseWeight | QuantizedWeight:
    matrix = weight.matrix
    elements, scales, biases = native.unpack(matrix, ids)
    if not matrix.group_size:
        return DenseWeight(elements.astype(weight.dtype), bias)
    scales, biases = scales.astype(weight.dtype), biases.astype(weight.dtype)
    return QuantizedWeight(elements, scales, biases, matrix.bits, matrix.group_size, bias)
