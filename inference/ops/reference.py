"""Every operation in plain array arithmetic: the definition that other implementations are compared with.

Written to be read. Sums, exponentials and angles are in float32, and the result is rounded once to the input's type.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from inference.ops.draws import COLDEST, Draw
from inference.ops.experts import Experts, plain_experts
from inference.ops.kv_store import GroupedStore, KVStore, take_blocks, to_groups
from inference.ops.noise import gumbel
from inference.ops.packing import plain, plain_rows
from inference.ops.paged import PagedKV, RaggedLayout
from inference.ops.rounding import to_bfloat16, to_int8
from inference.ops.weights import DenseWeight, QuantizedWeight, Weight


def linear(x: mx.array, weight: Weight) -> mx.array:
    """x [T, I] times the matrix [O, I], plus its bias: [T, O]."""
    y = x.astype(mx.float32) @ _matrix(weight).astype(mx.float32).T
    if weight.bias is not None:
        y = y + weight.bias.astype(mx.float32)
    return y.astype(x.dtype)


def bfloat16_linear(x: mx.array, weight: Weight) -> mx.array:
    """The same with x rounded to bfloat16."""
    return linear(to_bfloat16(x), weight).astype(x.dtype)


def int8_linear(x: mx.array, weight: Weight) -> mx.array:
    """The same with x rounded to int8, where the matrix is quantized; a dense one takes x as it is.

    Each of the matrix' groups of columns has a scale in each row of x.
    """
    matrix = plain(weight)
    if isinstance(matrix, DenseWeight):
        return linear(x, matrix)
    return linear(to_int8(x, matrix.group_size), matrix).astype(x.dtype)


def expert_linear(x: mx.array, experts: Experts, chosen: mx.array) -> mx.array:
    """x [T, I], each row times the matrices of the K experts that `chosen` [T, K] names: [T, K, O].

    Weighing and adding up the K results is the caller's. Ids are from 0 to N - 1; what others give is undefined.
    """
    wide = x.astype(mx.float32)
    every = [wide @ _matrix(matrix).astype(mx.float32).T for matrix in plain_experts(experts).matrices]
    return mx.take_along_axis(mx.stack(every, axis=1), chosen[..., None], axis=1).astype(x.dtype)


def bfloat16_expert_linear(x: mx.array, experts: Experts, chosen: mx.array) -> mx.array:
    """The same with x rounded to bfloat16."""
    return expert_linear(to_bfloat16(x), experts, chosen).astype(x.dtype)


def int8_expert_linear(x: mx.array, experts: Experts, chosen: mx.array) -> mx.array:
    """The same with x rounded to int8, as in `int8_linear`, where the matrices are quantized."""
    stacked = plain_experts(experts).stacked
    rounded = to_int8(x, stacked.group_size) if isinstance(stacked, QuantizedWeight) else x
    return expert_linear(rounded, experts, chosen).astype(x.dtype)


def embedding(ids: mx.array, weight: Weight) -> mx.array:
    """Rows `ids` [T] of the matrix [V, E]: [T, E]."""
    places, weight = plain_rows(ids, weight)
    return _matrix(weight)[places]


def rms_norm(x: mx.array, weight: mx.array, eps: float) -> mx.array:
    """x [T, E] over the root of its mean square, times weight [E] (Zhang and Sennrich 2019)."""
    wide = x.astype(mx.float32)
    mean_square = mx.mean(wide * wide, axis=-1, keepdims=True)
    return (wide * mx.rsqrt(mean_square + eps) * weight.astype(mx.float32)).astype(x.dtype)


def add_rms_norm(x: mx.array, added: mx.array, weight: mx.array, eps: float) -> tuple[mx.array, mx.array]:
    """The normalized sum of x and `added`, both [T, E], and that sum, which is rounded first: a residual's end."""
    total = x + added
    return rms_norm(total, weight, eps), total


def rope(x: mx.array, positions: mx.array, theta: float) -> mx.array:
    """Turn x [T, H, D] by its position: element i and i + D/2 are a point, turned by `position / theta^(2i / D)`.

    The pairing is GPT-NeoX's, which Qwen2 uses (Su et al. 2021 pair neighbours instead).
    """
    half = x.shape[-1] // 2
    frequencies = mx.power(theta, -mx.arange(half, dtype=mx.float32) / half)
    angles = (positions.astype(mx.float32)[:, None] * frequencies)[:, None, :]
    cos, sin = mx.cos(angles), mx.sin(angles)
    a, b = mx.split(x.astype(mx.float32), 2, axis=-1)
    return mx.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def silu_mul(gate: mx.array, up: mx.array) -> mx.array:
    """SwiGLU's middle (Shazeer 2020): `gate * sigmoid(gate) * up`, all [T, I]."""
    wide = gate.astype(mx.float32)
    return (wide * mx.sigmoid(wide) * up.astype(mx.float32)).astype(gate.dtype)


def write_kv(kv: PagedKV, layer: int, k: mx.array, v: mx.array, layout: RaggedLayout) -> None:
    """Put k and v [T, H, D] into the layer's pool, each token in its slot."""
    for pool, new in ((kv.keys, k), (kv.values, v)):
        store = pool[layer]
        if isinstance(store, GroupedStore):
            parts = zip(store.arrays, to_groups(new, store.bits).arrays, strict=True)
            pool[layer] = GroupedStore(*(_put(kept, part, layout) for kept, part in parts))
        else:
            pool[layer] = _put(store, new, layout)


def _put(kept: mx.array, rows: mx.array, layout: RaggedLayout) -> mx.array:
    """`kept` [N, P, ...] with rows [T, ...] in the slots of the step's tokens."""
    flat = kept.reshape(-1, *kept.shape[2:])
    flat[layout.slots] = rows
    return flat.reshape(kept.shape)


def paged_attention(q: mx.array, keys: KVStore, values: KVStore, layout: RaggedLayout, scale: float) -> mx.array:
    """Grouped-query attention of q [T, H_q, D] over the cached keys and values [N, P, H, D] of each sequence.

    A query at position p sees the keys of its own sequence at positions 0 to p, this step's included. Query heads
    share key heads in runs of H_q / H (Ainslie et al. 2023). Returns [T, H_q, D].
    """
    _, block_size, num_kv_heads, size = keys.shape
    num_heads = q.shape[1]
    out, start = [], 0
    for i, (query_len, context_len) in enumerate(zip(layout.query_lens, layout.context_lens, strict=True)):
        table = mx.array(layout.tables[i, : -(-context_len // block_size)])
        k, v = (
            take_blocks(store, table).reshape(-1, num_kv_heads, size)[:context_len].astype(mx.float32)
            for store in (keys, values)
        )
        k, v = (each.transpose(1, 0, 2)[:, None] for each in (k, v))
        # [H, H_q / H, L, D], so that the query heads of one key head lie together.
        queries = q[start : start + query_len].astype(mx.float32).transpose(1, 0, 2)
        queries = queries.reshape(num_kv_heads, num_heads // num_kv_heads, query_len, size)
        scores = scale * queries @ k.swapaxes(-1, -2)
        positions = mx.arange(context_len - query_len, context_len)
        scores = mx.where(mx.arange(context_len) <= positions[:, None], scores, -mx.inf)
        weights = mx.exp(scores - mx.max(scores, axis=-1, keepdims=True))
        mixed = (weights / mx.sum(weights, axis=-1, keepdims=True)) @ v
        out.append(mixed.reshape(num_heads, query_len, size).transpose(1, 0, 2))
        start += query_len
    return mx.concatenate(out).astype(q.dtype)


def _matrix(weight: Weight) -> mx.array:
    """The weight as a dense matrix in its own type."""
    weight = plain(weight)
    return weight.weight if isinstance(weight, DenseWeight) else _dequantize(weight)


def _dequantize(weight: QuantizedWeight) -> mx.array:
    """Unpack 32 / bits elements from each word, lowest bits first, and scale each group: [O, I]."""
    outputs, inputs = weight.shape
    shifts = mx.arange(0, 32, weight.bits, dtype=mx.uint32)
    q = (weight.packed[:, :, None] >> shifts) & ((1 << weight.bits) - 1)
    groups = q.reshape(outputs, -1, weight.group_size).astype(mx.float32)
    matrix = groups * weight.scales[..., None].astype(mx.float32) + weight.biases[..., None].astype(mx.float32)
    return matrix.reshape(outputs, inputs).astype(weight.dtype)


def largest(x: mx.array, count: int) -> mx.array:
    """Ids of the `count` largest of each row, the largest first, of equal ones the lower id: [R, V] -> [R, count]."""
    return mx.argsort(-x, axis=-1)[:, :count].astype(mx.uint32)


def greedy(x: mx.array) -> mx.array:
    """The id of the largest of each row, of equal ones the lowest: [R, V] -> [R].

    V, which is no id, where the largest is not finite or any number of the row is NaN.
    """
    usable = mx.isfinite(mx.max(x, axis=-1)) & ~mx.any(mx.isnan(x), axis=-1)
    return mx.where(usable, mx.argmax(x, axis=-1), x.shape[-1]).astype(mx.uint32)


def draw(x: mx.array, draws: Sequence[Draw]) -> mx.array:
    """The id of a token drawn from each row: [R, V] float32 -> [R] uint32; V as of `greedy`.

    Adding noise to what the filters leave and taking the largest draws from the distribution; see `noise`.
    """
    drawn = [_drawn(row, draw) for row, draw in zip(x, draws, strict=True)]
    return mx.where(greedy(x) < x.shape[-1], mx.stack(drawn), x.shape[-1]).astype(mx.uint32)


def _drawn(x: mx.array, draw: Draw) -> mx.array:
    """One row [V]: min-p leaves what is so likely beside the likeliest, top-k so many of that, and top-p what holds so
    much of the mass that is left, the token that reaches it included. The lowest id of equal sums."""
    order = mx.argsort(-x)
    rank = mx.argsort(order)
    logits = (x - mx.max(x)) / mx.array(max(draw.temperature, COLDEST), dtype=mx.float32)
    kept = logits >= mx.log(mx.array(draw.min_p, dtype=mx.float32))
    if draw.top_k > 0:
        kept = kept & (rank < draw.top_k)
    if draw.top_p < 1:
        weights = mx.where(kept, mx.exp(logits), 0)
        before = mx.cumsum(weights[order], inclusive=False)[rank]
        kept = kept & (before / mx.sum(weights) < draw.top_p)
    ids = mx.arange(len(x), dtype=mx.uint32)
    return mx.argmax(mx.where(kept, logits, -mx.inf) + gumbel([draw.key], ids[None])[0])
