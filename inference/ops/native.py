"""Operations through our own kernels: `metal_kernels`, on the CPU or on a Metal GPU, whichever MLX's default device is.

Same signatures, shapes and meaning as in `reference`. For the CPU, weights are best packed beforehand, once, when a
model is loaded; a plain one is packed anew at every call. A GPU reads plain ones, and unpacks a packed one anew.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import mlx.core as mx

import metal_kernels
from inference.ops import draws as by_arrays
from inference.ops import mlx_ops
from inference.ops.decoder_layer import LayerWeights
from inference.ops.draws import COLDEST, Draw
from inference.ops.experts import Experts, pack_experts, plain_experts
from inference.ops.kv_store import GroupedStore, KVStore, arrays_of
from inference.ops.packing import pack, plain
from inference.ops.packing import why_missing as why_missing_on_cpu
from inference.ops.paged import PagedKV, RaggedLayout
from inference.ops.rounding import PRODUCTS
from inference.ops.weights import DenseWeight, Weight

if TYPE_CHECKING:
    from metal_kernels import _native as native
else:
    native = metal_kernels.native  # None where it can't be used, and then the table offers none of these


_CPU_ALONE = ("embedding", "decoder_layer")
_MOST_SORTED = 1024
"""Numbers of a row that the GPU's kernel puts in order."""
_PRIMITIVES = {
    "QuantizedLinear": PRODUCTS,
    "RMSNorm": ("rms_norm",),
    "AddRMSNorm": ("add_rms_norm",),
    "RoPE": ("rope",),
    "SiluMul": ("silu_mul",),
    "WriteKV": ("write_kv",),
    "PagedAttention": ("paged_attention",),
    "Largest": ("largest", "draw"),
    "Greedy": ("greedy",),
    "Draw": ("draw",),
}
"""The operations that a GPU's kernels are launched for, by the names that they go by where they fail."""
_FEW_ROWS = 8
"""Up to this many rows, the GPU's kernel has one to a threadgroup, and no use for those of an expert side by side."""


def on_gpu() -> bool:
    """Whether our own kernels run on a GPU now."""
    return metal_kernels.native is not None and native.gpu_in_use()


def failed_operations(error: BaseException) -> tuple[str, ...]:
    """The operations whose kernel raised an error when it was to be launched on a GPU; none if it is no such error."""
    found = re.search(r"Metal kernel (\w+): ", str(error))
    return _PRIMITIVES.get(found[1], ()) if found else ()


def why_missing(operation: str, activations: str, quantized: bool) -> str:
    """Why there is no kernel of our own for an operation on the default device, as a sentence; empty if there is.

    `quantized` says whether the model has any quantized matrix.
    """
    if not on_gpu():
        return why_missing_on_cpu()
    if operation in _CPU_ALONE:
        return f"our own kernel of {operation} is for the CPU alone"
    if operation in PRODUCTS and activations != "exact":
        return f"our own kernel for {activations} activations is for the CPU alone"
    if operation in PRODUCTS and not quantized:
        return "our own kernel on the GPU is for quantized matrices, and this model has none"
    return ""


def linear(x: mx.array, weight: Weight) -> mx.array:
    if not on_gpu():
        return native.packed_linear(x, pack(weight).matrix)
    matrix = plain(weight)
    if isinstance(matrix, DenseWeight):  # a model may have them beside quantized ones
        return mlx_ops.linear(x, matrix)
    words, scales, biases = matrix.packed, matrix.scales, matrix.biases
    return native.quantized_linear(x, words, scales, biases, matrix.bits, matrix.group_size, matrix.bias)


def bfloat16_linear(x: mx.array, weight: Weight) -> mx.array:
    return native.bfloat16_linear(x, pack(weight).matrix)


def int8_linear(x: mx.array, weight: Weight) -> mx.array:
    matrix = pack(weight).matrix
    return native.int8_linear(x, matrix) if matrix.group_size else native.packed_linear(x, matrix)


def expert_linear(x: mx.array, experts: Experts, chosen: mx.array) -> mx.array:
    if not on_gpu():
        return _packed_expert_linear(x, experts, chosen, "exact")
    stacked = plain_experts(experts)
    kind, count = stacked.stacked, chosen.shape[-1]
    if isinstance(kind, DenseWeight):
        return mlx_ops.expert_linear(x, stacked, chosen)
    ids = chosen.reshape(-1)
    order = mx.argsort(ids) if ids.size > _FEW_ROWS else mx.arange(ids.size)
    words, scales, biases = stacked.parts()
    found = native.gather_quantized_linear(
        x, words, scales, biases, kind.bits, kind.group_size, ids[order], order // count
    )
    if ids.size > _FEW_ROWS:
        found = found[mx.argsort(order)]
    return found.reshape(*chosen.shape, found.shape[-1])


def bfloat16_expert_linear(x: mx.array, experts: Experts, chosen: mx.array) -> mx.array:
    return _packed_expert_linear(x, experts, chosen, "bfloat16")


def int8_expert_linear(x: mx.array, experts: Experts, chosen: mx.array) -> mx.array:
    return _packed_expert_linear(x, experts, chosen, "int8")


def _packed_expert_linear(x: mx.array, experts: Experts, chosen: mx.array, activations: str) -> mx.array:
    matrices = [weight.matrix for weight in pack_experts(experts).matrices]
    return native.expert_linear(x, matrices, chosen, activations)


def embedding(ids: mx.array, weight: Weight) -> mx.array:
    return native.take_rows(pack(weight).matrix, ids, weight.dtype)


def rms_norm(x: mx.array, weight: mx.array, eps: float) -> mx.array:
    return native.rms_norm(x, weight, eps)


def add_rms_norm(x: mx.array, added: mx.array, weight: mx.array, eps: float) -> tuple[mx.array, mx.array]:
    return native.add_rms_norm(x, added, weight, eps)


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
    if count > _MOST_SORTED and on_gpu():
        return mlx_ops.largest(x, count)
    return native.largest(x, count)


def greedy(x: mx.array) -> mx.array:
    return native.greedy(x)


def draw(x: mx.array, draws: Sequence[Draw]) -> mx.array:
    if on_gpu():
        return _draw_on_gpu(x, draws)
    return native.draw(x, [(d.temperature, d.min_p, d.top_k, d.top_p, d.key) for d in draws])


def _draw_on_gpu(x: mx.array, draws: Sequence[Draw]) -> mx.array:
    """By a kernel, of all ids or of the largest. Shares of the mass are array operations, but for putting in order."""
    width = x.shape[-1]
    ways = [None if d.top_p < 1 or d.min_p > 0 else d.top_k if 0 < d.top_k < width else 0 for d in draws]
    if len(set(ways)) == 1:
        return _draw_alike(x, draws, ways[0])
    drawn = mx.zeros(len(draws), mx.uint32)
    for way in dict.fromkeys(ways):
        places = [row for row, each in enumerate(ways) if each == way]
        at = mx.array(places)
        drawn[at] = _draw_alike(x[at], [draws[place] for place in places], way)
    return drawn


def _draw_alike(x: mx.array, draws: Sequence[Draw], count: int | None) -> mx.array:
    """Of the `count` largest of each row, of all for 0; where None, of what filters of another kind leave."""
    if count is None:
        return by_arrays.draw(x, draws, largest)
    keys = mx.array([[d.key & 0xFFFFFFFF, d.key >> 32] for d in draws], mx.uint32)
    temperatures = mx.array([max(d.temperature, COLDEST) for d in draws], mx.float32)
    if not count:
        return native.gpu_draw(x, None, keys, temperatures)
    drawn = native.gpu_draw(x, largest(x, count), keys, temperatures)
    # A number that is none may be no candidate.
    return mx.where(mx.isfinite(mx.max(x, axis=-1)), drawn, x.shape[-1]).astype(mx.uint32)
