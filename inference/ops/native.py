"""Operations through our own kernels: the CPU side of `metal_kernels`.

Same signatures, shapes and meaning as in `reference`. Weights are best packed beforehand, once, when a model is loaded;
a plain one is packed anew at every call.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import mlx.core as mx

import metal_kernels
from inference.ops.decoder_layer import LayerWeights
from inference.ops.kv_store import GroupedStore, KVStore, arrays_of
from inference.ops.packing import pack
from inference.ops.paged import PagedKV, RaggedLayout
from inference.ops.weights import Weight

if TYPE_CHECKING:
    from metal_kernels import _native as native
else:
    native = metal_kernels.native  # None where it can't be used, and then the table offers none of these


def linear(x: mx.array, weight: Weight) -> mx.array:
    return native.packed_linear(x, pack(weight).matrix)


def bfloat16_linear(x: mx.array, weight: Weight) -> mx.array:
    return native.bfloat16_linear(x, pack(weight).matrix)


def int8_linear(x: mx.array, weight: Weight) -> mx.array:
    matrix = pack(weight).matrix
    return native.int8_linear(x, matrix) if matrix.group_size else native.packed_linear(x, matrix)


def embedding(ids: mx.array, weight: Weight) -> mx.array:
    return native.take_rows(pack(weight).matrix, ids, weight.dtype)


def rms_norm(x: mx.array, weight: mx.array, eps: float) -> mx.array:
    return native.rms_norm(x, weight, eps)


def rope(x: mx.array, positions: mx.array, theta: float) -> mx.array:
    return native.rope(x, positions, theta)


def silu_mul(gate: mx.array, up: mx.array) -> mx.array:
    return native.silu_mul(gate, up)


def write_kv(kv: PagedKV, layer: int, k: mx.array, v: mx.array, layout: RaggedLayout) -> None:
    # Assigning lets go of the old arrays, and so the write is in place.
    for pool, rows in ((kv.keys, k), (kv.values, v)):
        store = pool[layer]
        written = native.write_kv(arrays_of(store), rows, layout.native)
        pool[layer] = replace(store, words=written) if isinstance(store, GroupedStore) else written


def paged_attention(q: mx.array, keys: KVStore, values: KVStore, layout: RaggedLayout, scale: float) -> mx.array:
    return native.paged_attention(q, arrays_of(keys), arrays_of(values), layout.native, scale)


def decoder_layer(
    x: mx.array, weights: LayerWeights, layer: int, kv: PagedKV, layout: RaggedLayout, activations: str
) -> mx.array:
    # The cache stays the same arrays, and is written once the result is evaluated.
    keys, values = arrays_of(kv.keys[layer]), arrays_of(kv.values[layer])
    return native.decoder_layer(x, weights.packed, keys, values, layout.native, activations)


def largest(x: mx.array, count: int) -> mx.array:
    return native.largest(x, count)


def greedy(x: mx.array) -> mx.array:
    return native.greedy(x)
