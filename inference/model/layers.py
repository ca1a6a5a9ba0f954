"""The parts of a decoder layer, as data and the arithmetic between operations. B sequences, T tokens, E hidden size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import mlx.core as mx

from inference.model.config import ModelConfig
from inference.ops.paged import PagedKV, RaggedLayout
from inference.ops.table import OpTable
from inference.ops.weights import Weight


@dataclass(frozen=True, slots=True)
class Step:
    """What every layer needs to know of the step being computed."""

    ops: OpTable
    layout: RaggedLayout
    kv: PagedKV


Rearrange = Callable[[Weight], Weight]
"""Gives a weight in another order in memory."""


@dataclass(frozen=True, slots=True)
class Projections:
    """Several linear layers of the same input, stacked into one where their kinds allow."""

    parts: tuple[Weight, ...]

    def __call__(self, x: mx.array, ops: OpTable) -> mx.array:
        """x [T, I] to all outputs side by side, [T, sum of O]."""
        outputs = [ops.linear(x, part) for part in self.parts]
        return outputs[0] if len(outputs) == 1 else mx.concatenate(outputs, axis=-1)

    def rearranged(self, change: Rearrange) -> Projections:
        return Projections(tuple(change(part) for part in self.parts))


@dataclass(frozen=True, slots=True)
class Attention:
    """Grouped-query attention with rotary positions; queries, keys and values have biases in Qwen2."""

    qkv: Projections
    """To H_q query heads, then H key heads, then H value heads, of D each."""
    out: Weight
    config: ModelConfig

    def __call__(self, x: mx.array, layer: int, step: Step) -> mx.array:
        """x [T, E], already normalized; writes this step's keys and values to the cache; returns [T, E]."""
        config, ops, layout = self.config, step.ops, step.layout
        heads, kv_heads, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        qkv = self.qkv(x, ops).reshape(-1, heads + 2 * kv_heads, size)
        # Queries and keys turn by the same angles, so one call turns both.
        turned = ops.rope(qkv[:, : heads + kv_heads], layout.positions, config.rope_theta)
        ops.write_kv(step.kv, layer, turned[:, heads:], qkv[:, heads + kv_heads :], layout)
        mixed = ops.paged_attention(turned[:, :heads], step.kv.keys[layer], step.kv.values[layer], layout, size**-0.5)
        return ops.linear(mixed.reshape(-1, heads * size), self.out)


@dataclass(frozen=True, slots=True)
class SwiGLU:
    """The MLP: silu(gate(x)) * up(x), then down (Shazeer 2020, "GLU variants improve transformer")."""

    gate_up: Projections
    down: Weight

    def __call__(self, x: mx.array, ops: OpTable) -> mx.array:
        """x [T, E], already normalized, to [T, E]."""
        gate, up = mx.split(self.gate_up(x, ops), 2, axis=-1)
        return ops.linear(ops.silu_mul(gate, up), self.down)


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """Attention, then MLP, each on a normalized copy of the stream and added back to it."""

    attention_norm: mx.array
    attention: Attention
    mlp_norm: mx.array
    mlp: SwiGLU
    eps: float

    def __call__(self, x: mx.array, layer: int, step: Step) -> mx.array:
        """x [T, E] to [T, E]."""
        ops = step.ops
        x = x + self.attention(ops.rms_norm(x, self.attention_norm, self.eps), layer, step)
        return x + self.mlp(ops.rms_norm(x, self.mlp_norm, self.eps), ops)

    def rearranged(self, change: Rearrange) -> DecoderLayer:
        """The same layer with each of its matrices changed."""
        attention, mlp = self.attention, self.mlp
        return replace(
            self,
            attention=replace(attention, qkv=attention.qkv.rearranged(change), out=change(attention.out)),
            mlp=SwiGLU(mlp.gate_up.rearranged(change), change(mlp.down)),
        )
