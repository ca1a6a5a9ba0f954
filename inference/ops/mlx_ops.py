"""Every operation through MLX's own fused ones, arranged so that a step issues few of them.

Same signatures, shapes and meaning as in `reference`.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from inference.ops import draws as by_arrays
from inference.ops.draws import Draw
from inference.ops.experts import Experts, plain_experts
from inference.ops.kv_store import GroupedStore, KVStore, arrays_of, take_blocks, to_groups
from inference.ops.packing import plain, plain_rows
from inference.ops.paged import AttentionGroup, PagedKV, RaggedLayout
from inference.ops.rounding import to_bfloat16, to_int8
from inference.ops.weights import QuantizedWeight, Weight, runs_on_cpu


def linear(x: mx.array, weight: Weight) -> mx.array:
    weight = plain(weight)
    if isinstance(weight, QuantizedWeight):
        y = _quantized_matmul(x, weight)
        return y if weight.bias is None else y + weight.bias
    if weight.bias is None:
        return x @ weight.weight.T
    return mx.addmm(weight.bias, x, weight.weight.T)


def bfloat16_linear(x: mx.array, weight: Weight) -> mx.array:
    return linear(to_bfloat16(x), weight).astype(x.dtype)


def int8_linear(x: mx.array, weight: Weight) -> mx.array:
    # MLX has no product of int8: the numbers are rounded as they would be, and multiplied as floats.
    weight = plain(weight)
    if not isinstance(weight, QuantizedWeight):
        return linear(x, weight)
    return linear(to_int8(x, weight.group_size), weight).astype(x.dtype)


def expert_linear(x: mx.array, experts: Experts, chosen: mx.array) -> mx.array:
    experts = plain_experts(experts)
    kind, parts, dtype = experts.stacked, experts.parts(), x.dtype
    if dtype != mx.float32 and runs_on_cpu():
        # There MLX's products of floats by expert take float32 alone; of integers, see _quantized_matmul.
        x, *parts = (a if a.dtype == mx.uint32 else a.astype(mx.float32) for a in (x, *parts))
    rows = x[:, None, None, :]
    if isinstance(kind, QuantizedWeight):
        words, scales, biases = parts
        y = mx.gather_qmm(rows, words, scales, biases, None, chosen, True, kind.group_size, kind.bits)
    else:
        y = mx.gather_mm(rows, parts[0].swapaxes(-1, -2), rhs_indices=chosen)
    return y[:, :, 0].astype(dtype)


def bfloat16_expert_linear(x: mx.array, experts: Experts, chosen: mx.array) -> mx.array:
    return expert_linear(to_bfloat16(x), experts, chosen).astype(x.dtype)


def int8_expert_linear(x: mx.array, experts: Experts, chosen: mx.array) -> mx.array:
    kind = plain_experts(experts).stacked
    rounded = to_int8(x, kind.group_size) if isinstance(kind, QuantizedWeight) else x
    return expert_linear(rounded, experts, chosen).astype(x.dtype)


def _quantized_matmul(x: mx.array, weight: QuantizedWeight) -> mx.array:
    scales, biases, dtype = weight.scales, weight.biases, x.dtype
    if dtype != mx.float32 and runs_on_cpu():
        # MLX's CPU kernel adds up in the type of its inputs: in bfloat16 results are 10 % off, and 9 times as slow.
        x, scales, biases = (a.astype(mx.float32) for a in (x, scales, biases))
    y = mx.quantized_matmul(x, weight.packed, scales, biases, group_size=weight.group_size, bits=weight.bits)
    return y.astype(dtype)


def embedding(ids: mx.array, weight: Weight) -> mx.array:
    places, weight = plain_rows(ids, weight)
    if isinstance(weight, QuantizedWeight):
        parts = (weight.packed[places], weight.scales[places], weight.biases[places])
        return mx.dequantize(*parts, weight.group_size, weight.bits)
    return weight.weight[places]


def rms_norm(x: mx.array, weight: mx.array, eps: float) -> mx.array:
    return mx.fast.rms_norm(x, weight, eps)


def add_rms_norm(x: mx.array, added: mx.array, weight: mx.array, eps: float) -> tuple[mx.array, mx.array]:
    total = x + added
    return mx.fast.rms_norm(total, weight, eps), total


def rope(x: mx.array, positions: mx.array, theta: float) -> mx.array:
    # mx.fast.rope takes one offset for each row of a batch: a token is a row with a sequence of length 1.
    size = x.shape[-1]
    return mx.fast.rope(x[:, :, None, :], size, traditional=False, base=theta, scale=1.0, offset=positions)[:, :, 0]


def silu_mul(gate: mx.array, up: mx.array) -> mx.array:
    return gate * mx.sigmoid(gate) * up


def write_kv(kv: PagedKV, layer: int, k: mx.array, v: mx.array, layout: RaggedLayout) -> None:
    blocks, offsets = layout.slot_indices
    for store, rows in ((kv.keys[layer], k), (kv.values[layer], v)):
        new = to_groups(rows, store.bits) if isinstance(store, GroupedStore) else rows
        for kept, part in zip(arrays_of(store), arrays_of(new), strict=True):
            kept[blocks, offsets] = part


def paged_attention(q: mx.array, keys: KVStore, values: KVStore, layout: RaggedLayout, scale: float) -> mx.array:
    groups = layout.groups
    if layout.ungroup is None and len(groups) == 1:
        return _attend(q, keys, values, groups[0], scale)
    parts = [_attend(q[group.rows], keys, values, group, scale) for group in groups]
    out = mx.concatenate(parts) if len(parts) > 1 else parts[0]
    return out if layout.ungroup is None else out[layout.ungroup]


def _attend(q: mx.array, keys: KVStore, values: KVStore, group: AttentionGroup, scale: float) -> mx.array:
    """One group: its queries [b * L, H_q, D] over the blocks of its tables; [b * L, H_q, D]."""
    num_sequences, num_blocks = group.tables.shape
    _, block_size, num_kv_heads, size = keys.shape
    num_heads = q.shape[1]
    k, v = (
        take_blocks(store, group.tables)
        .reshape(num_sequences, num_blocks * block_size, num_kv_heads, size)[:, : group.context_len]
        .transpose(0, 2, 1, 3)
        .astype(q.dtype)
        for store in (keys, values)
    )
    if group.query_len == 1:
        # A decode's query heads that share a key head become the rows of one small matrix: no broadcast of keys.
        queries = q.reshape(num_sequences, num_kv_heads, num_heads // num_kv_heads, size)
        out = mx.fast.scaled_dot_product_attention(queries, k, v, scale=scale, mask=group.mask)
        return out.reshape(num_sequences, num_heads, size)
    queries = q.reshape(num_sequences, group.query_len, num_heads, size).transpose(0, 2, 1, 3)
    out = mx.fast.scaled_dot_product_attention(queries, k, v, scale=scale, mask=group.mask)
    return out.transpose(0, 2, 1, 3).reshape(-1, num_heads, size)


def largest(x: mx.array, count: int) -> mx.array:
    # A partition is no sort, but leaves equal numbers at its border in any order.
    if count == x.shape[-1]:
        return mx.argsort(-x, axis=-1)
    ids = mx.sort(mx.argpartition(-x, count - 1, axis=-1)[:, :count], axis=-1)
    order = mx.argsort(-mx.take_along_axis(x, ids, axis=-1), axis=-1)
    return mx.take_along_axis(ids, order, axis=-1)


def greedy(x: mx.array) -> mx.array:
    # A NaN is the maximum of its row, while argmax takes any number before it.
    return mx.where(mx.isfinite(mx.max(x, axis=-1)), mx.argmax(x, axis=-1), x.shape[-1])


def draw(x: mx.array, draws: Sequence[Draw]) -> mx.array:
    return by_arrays.draw(x, draws, largest)
