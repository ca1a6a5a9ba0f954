"""A decoder layer of Qwen2: its weights, and its arithmetic operation by operation. T tokens, E hidden size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import mlx.core as mx

from inference.ops.kv_store import KVStore
from inference.ops.paged import PagedKV, RaggedLayout
from inference.ops.weights import Weight

if TYPE_CHECKING:
    from metal_kernels._native import PackedLayer


@dataclass(frozen=True)
class LayerWeights:
    """Attention, then MLP, each on a normalized copy of the stream and added back to it.

    `qkv` leads to H_q query heads, then H key heads, then H value heads, of D each; `gate_up` to the MLP's gate, then
    as much that is gated. Either is one stacked matrix, or several where their kinds did not allow it.
    """

    attention_norm: mx.array
    qkv: tuple[Weight, ...]
    out: Weight
    mlp_norm: mx.array
    gate_up: tuple[Weight, ...]
    down: Weight
    heads: int
    kv_heads: int
    head_size: int
    theta: float
    """Base of the rotary positions' angles."""
    eps: float
    """Of the norms."""

    def rearranged(self, change: Callable[[Weight], Weight]) -> LayerWeights:
        """The same layer with each of its matrices changed."""
        return replace(
            self,
            qkv=tuple(map(change, self.qkv)),
            out=change(self.out),
            gate_up=tuple(map(change, self.gate_up)),
            down=change(self.down),
        )

    @cached_property
    def packed(self) -> PackedLayer:
        """The same for our own kernels; matrices that are packed already are shared, not copied."""
        from inference.ops.packing import pack
        from metal_kernels import _native

        return _native.pack_layer(
            self.attention_norm,
            [pack(weight).matrix for weight in self.qkv],
            pack(self.out).matrix,
            self.mlp_norm,
            [pack(weight).matrix for weight in self.gate_up],
            pack(self.down).matrix,
            self.heads,
            self.kv_heads,
            self.head_size,
            self.theta,
            self.eps,
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """The operations that a layer is made of; see `reference` for what each computes."""

    linear: Callable[[mx.array, Weight], mx.array]
    rms_norm: Callable[[mx.array, mx.array, float], mx.array]
    add_rms_norm: Callable[[mx.array, mx.array, mx.array, float], tuple[mx.array, mx.array]]
    rope: Callable[[mx.array, mx.array, float], mx.array]
    silu_mul: Callable[[mx.array, mx.array], mx.array]
    write_kv: Callable[[PagedKV, int, mx.array, mx.array, RaggedLayout], None]
    paged_attention: Callable[[mx.array, KVStore, KVStore, RaggedLayout, float], mx.array]


def by_parts(ops: Parts, x: mx.array, weights: LayerWeights, layer: int, kv: PagedKV, layout: RaggedLayout) -> mx.array:
    """x [T, E] to [T, E]; puts this step's keys and values into layer number `layer` of the cache."""
    attended = _attention(ops, ops.rms_norm(x, weights.attention_norm, weights.eps), weights, layer, kv, layout)
    normed, x = ops.add_rms_norm(x, attended, weights.mlp_norm, weights.eps)
    return x + _mlp(ops, normed, weights)


def _attention(
    ops: Parts, x: mx.array, weights: LayerWeights, layer: int, kv: PagedKV, layout: RaggedLayout
) -> mx.array:
    """Grouped-query attention with rotary positions; queries, keys and values have biases in Qwen2."""
    heads, kv_heads, size = weights.heads, weights.kv_heads, weights.head_size
    qkv = _side_by_side(ops, x, weights.qkv).reshape(-1, heads + 2 * kv_heads, size)
    # Queries and keys turn by the same angles, so one call turns both.
    turned = ops.rope(qkv[:, : heads + kv_heads], layout.positions, weights.theta)
    ops.write_kv(kv, layer, turned[:, heads:], qkv[:, heads + kv_heads :], layout)
    mixed = ops.paged_attention(turned[:, :heads], kv.keys[layer], kv.values[layer], layout, size**-0.5)
    return ops.linear(mixed.reshape(-1, heads * size), weights.out)


def _mlp(ops: Parts, x: mx.array, weights: LayerWeights) -> mx.array:
    """SwiGLU: silu(gate(x)) * up(x), then down (Shazeer 2020, "GLU variants improve transformer")."""
    gate, up = mx.split(_side_by_side(ops, x, weights.gate_up), 2, axis=-1)
    return ops.linear(ops.silu_mul(gate, up), weights.down)


def _side_by_side(ops: Parts, x: mx.array, matrices: tuple[Weight, ...]) -> mx.array:
    outputs = [ops.linear(x, matrix) for matrix in matrices]
    return outputs[0] if len(outputs) == 1 else mx.concatenate(outputs, axis=-1)
