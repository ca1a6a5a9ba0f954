"""Compares implementations of the operations with the reference, here and now, on this machine's device.

What `glasschat doctor` shows: an operation is trusted where its results were seen to agree, not where they should.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import mlx.core as mx

from inference.ops.decoder_layer import LayerWeights
from inference.ops.kv_store import take_blocks, to_groups
from inference.ops.paged import PagedKV, RaggedLayout
from inference.ops.table import LAYER, OPERATIONS, OpTable, function
from inference.ops.weights import DenseWeight, QuantizedWeight, Weight

TOLERANCE = {mx.float32: 1e-4, mx.bfloat16: 1e-2, mx.float16: 2e-3}
"""Largest accepted error: a few roundings of the type, accumulated over the width of a layer."""
_CHAIN, _ROUNDED_CHAIN = 4, 8
"""A layer is a chain of operations that round what others have rounded: its error may be so many times as large, and
larger where activations are rounded on top of it, each to one side or the other of a step."""

_HEADS, _KV_HEADS, _SIZE, _WIDTH, _INNER = 8, 2, 64, 512, 1024
_BLOCKS, _BLOCK = 10, 16


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far one implementation is from the reference on random input."""

    operation: str
    implementation: str
    dtype: str
    error: float
    """Root mean square of the difference as a fraction of that of the reference; the worst of several inputs."""
    tolerance: float

    @property
    def agrees(self) -> bool:
        return self.error <= self.tolerance  # False for NaN, as it should be


def trusted(spec: str, activations: str = "exact") -> OpTable:
    """The table that is asked for, with our own kernels only where they were seen to agree here. Raises ConfigError."""
    table = OpTable.select(spec, activations=activations)
    native = [choice.operation for choice in table.choices() if choice.implementation == "native"]
    wrong = {operation: reason for operation in native if (reason := _disagreement(operation, activations))}
    return OpTable.select(spec, wrong, activations) if wrong else table


@cache
def _disagreement(operation: str, activations: str) -> str:
    """Why the native implementation can't be trusted, or nothing; looked at once in a process."""
    for dtype in TOLERANCE:
        found = compare(operation, "native", dtype, activations)
        if not found.agrees:
            return f"our own kernel differs from the reference by {found.error:.0e} in {found.dtype} on this machine"
    return ""


def compare(operation: str, implementation: str, dtype: mx.Dtype = mx.float32, activations: str = "exact") -> Agreement:
    """Run one operation on random input of ordinary shapes, by `implementation` and by the reference."""
    case = _CASES[operation]
    ours, reference = (function(operation, name, activations) for name in (implementation, "reference"))
    pairs = zip(case(ours, dtype), case(reference, dtype), strict=True)
    # A NaN must win over any number, which max() does not promise.
    errors = [_distance(found, truth) for found, truth in pairs]
    chain = _CHAIN if activations == "exact" else _ROUNDED_CHAIN
    tolerance = TOLERANCE[dtype] * (chain if operation == LAYER else 1)
    error = float("nan") if any(e != e for e in errors) else max(errors)
    return Agreement(operation, implementation, str(dtype).removeprefix("mlx.core."), error, tolerance)


def _distance(ours: mx.array, truth: mx.array) -> float:
    wide = truth.astype(mx.float32)
    difference = ours.astype(mx.float32) - wide
    return math.sqrt(_mean_square(difference) / _mean_square(wide))


def _mean_square(x: mx.array) -> float:
    mean: Any = mx.mean(x * x).item()
    return float(mean)


_Case = Callable[[Callable[..., mx.array], mx.Dtype], list[mx.array]]


def _random(seed: int, shape: tuple[int, ...], dtype: mx.Dtype) -> mx.array:
    """The same numbers for both implementations: every case is run twice."""
    return mx.random.normal(shape, key=mx.random.key(seed)).astype(dtype)


def _weights(dtype: mx.Dtype) -> list[Weight]:
    dense = _random(1, (_INNER, _WIDTH), dtype) * (_WIDTH**-0.5)
    bias = _random(2, (_INNER,), dtype)
    quantized = [QuantizedWeight(*mx.quantize(dense, group_size=64, bits=bits), bits, 64, bias) for bits in (4, 8)]
    return [DenseWeight(dense, bias), *quantized]


def _linear(operation: Callable[..., mx.array], dtype: mx.Dtype) -> list[mx.array]:
    return [operation(_random(3, (rows, _WIDTH), dtype), weight) for weight in _weights(dtype) for rows in (1, 7)]


def _embedding(operation: Callable[..., mx.array], dtype: mx.Dtype) -> list[mx.array]:
    ids = mx.array([0, _INNER - 1, 5, 5], mx.int32)
    return [operation(ids, weight) for weight in _weights(dtype)]


def _rms_norm(operation: Callable[..., mx.array], dtype: mx.Dtype) -> list[mx.array]:
    return [operation(_random(3, (7, _WIDTH), dtype), _random(4, (_WIDTH,), dtype), 1e-6)]


def _rope(operation: Callable[..., mx.array], dtype: mx.Dtype) -> list[mx.array]:
    # Angles of far positions are where float32 itself runs out; a chat's length is what is asked of it.
    positions = mx.array([0, 1, 17, 1000, 1001], mx.int32)
    return [operation(_random(3, (5, _HEADS, _SIZE), dtype), positions, 1e6)]


def _silu_mul(operation: Callable[..., mx.array], dtype: mx.Dtype) -> list[mx.array]:
    return [operation(_random(3, (7, _INNER), dtype), _random(4, (7, _INNER), dtype))]


def _layout() -> RaggedLayout:
    """A decode, a chunk on a prefix and a whole prompt in one batch, on blocks in disorder."""
    return RaggedLayout.build((1, 5, 20), (33, 40, 20), ((4, 1, 7), (0, 9, 2), (8, 3)), _BLOCK)


def _pools(dtype: mx.Dtype) -> list[PagedKV]:
    """One of each format."""
    shape = (_BLOCKS, _BLOCK, _KV_HEADS, _SIZE)
    keys, values = _random(5, shape, dtype), _random(6, shape, dtype)
    return [PagedKV([keys], [values]), *(PagedKV([to_groups(keys, n)], [to_groups(values, n)]) for n in (8, 4))]


def _write_kv(operation: Callable[..., mx.array], dtype: mx.Dtype) -> list[mx.array]:
    layout = _layout()
    shape = (layout.num_tokens, _KV_HEADS, _SIZE)
    written = []
    for kv in _pools(dtype):
        operation(kv, 0, _random(7, shape, dtype), _random(8, shape, dtype), layout)
        written += [take_blocks(store, mx.arange(_BLOCKS)) for store in (kv.keys[0], kv.values[0])]
    return written


def _paged_attention(operation: Callable[..., mx.array], dtype: mx.Dtype) -> list[mx.array]:
    layout = _layout()
    queries = _random(9, (layout.num_tokens, _HEADS, _SIZE), dtype)
    return [operation(queries, kv.keys[0], kv.values[0], layout, _SIZE**-0.5) for kv in _pools(dtype)]


def _decoder_layer(operation: Callable[..., mx.array], dtype: mx.Dtype) -> list[mx.array]:
    layout = _layout()
    x = _random(3, (layout.num_tokens, _WIDTH), dtype)
    heads = _HEADS + 2 * _KV_HEADS
    found = []
    for kv, bits in zip(_pools(dtype), (4, 8, 8), strict=True):

        def matrix(seed: int, outputs: int, inputs: int, bits: int = bits) -> Weight:
            dense = _random(seed, (outputs, inputs), dtype) * (inputs**-0.5)
            return QuantizedWeight(*mx.quantize(dense, group_size=64, bits=bits), bits, 64)

        weights = LayerWeights(
            attention_norm=_random(4, (_WIDTH,), dtype),
            qkv=(matrix(10, heads * _SIZE, _WIDTH),),
            out=matrix(11, _WIDTH, _HEADS * _SIZE),
            mlp_norm=_random(5, (_WIDTH,), dtype),
            gate_up=(matrix(12, _INNER, _WIDTH), matrix(13, _INNER, _WIDTH)),
            down=matrix(14, _WIDTH, _INNER),
            heads=_HEADS,
            kv_heads=_KV_HEADS,
            head_size=_SIZE,
            theta=1e6,
            eps=1e-6,
        )
        found.append(operation(x, weights, 0, kv, layout))
    return found


def _largest(operation: Callable[..., mx.array], dtype: mx.Dtype) -> list[mx.array]:
    # Ids are compared, and so all numbers of a row differ. Logits are float32 whatever the model's type.
    rows = mx.concatenate([_random(3, (1, 5000), mx.float32), mx.arange(5000, dtype=mx.float32)[None] - 2500])
    return [operation(rows, count) for count in (1, 40, 5000)]


def _greedy(operation: Callable[..., mx.array], dtype: mx.Dtype) -> list[mx.array]:
    rows = _random(3, (4, 5000), mx.float32)
    rows[1, 4321], rows[2, 7], rows[3] = mx.nan, mx.inf, -mx.inf
    return [operation(rows)]


_CASES: Mapping[str, _Case] = {
    "linear": _linear,
    "embedding": _embedding,
    "rms_norm": _rms_norm,
    "rope": _rope,
    "silu_mul": _silu_mul,
    "write_kv": _write_kv,
    "paged_attention": _paged_attention,
    LAYER: _decoder_layer,
    "largest": _largest,
    "greedy": _greedy,
}
assert _CASES.keys() == OPERATIONS.keys()
