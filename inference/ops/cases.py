"""Random input for every operation, of a model's shapes: what kernels are compared on, and timed with.

Which cases an operation has depends on the device: see `variants`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np

from inference.ops.decoder_layer import LayerWeights
from inference.ops.demands import Demands
from inference.ops.draws import Draw
from inference.ops.experts import Experts, StackedExperts
from inference.ops.kv_store import FLOATS, INTEGERS, KVStore, to_groups
from inference.ops.native import on_gpu
from inference.ops.paged import PagedKV, RaggedLayout
from inference.ops.table import LAYER, OPERATIONS, arranged, arranged_experts
from inference.ops.weights import DenseWeight, QuantizedWeight, Weight

Operation = Callable[..., Any]
After = Callable[[mx.array], mx.array]
"""Makes an input wait for something else, so that what is computed from it comes after that."""


def at_once(x: mx.array) -> mx.array:
    """After nothing."""
    return x


Thunk = Callable[[After], list[mx.array]]
"""Computes a case once more: its results, lazy."""

_BLOCK = 16
_EPS, _THETA = 1e-6, 1e6
_EXPERTS, _CHOSEN = 4, 2
_COUNTS = (40, 1, 1024)
"""Of the largest logits. A GPU's kernel is another for each power of two."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step's tokens."""

    name: str
    query_lens: tuple[int, ...]
    context_lens: tuple[int, ...]

    @property
    def rows(self) -> int:
        return sum(self.query_lens)

    def layout(self) -> RaggedLayout:
        """Sequences on blocks in disorder; the pool has a block more than they need."""
        needed = [-(-length // _BLOCK) for length in self.context_lens]
        order = np.random.default_rng(1).permutation(sum(needed) + 1).tolist()
        tables = [[order.pop() for _ in range(count)] for count in needed]
        return RaggedLayout.build(self.query_lens, self.context_lens, tables, _BLOCK)

    @property
    def blocks(self) -> int:
        """In the pool."""
        return sum(-(-length // _BLOCK) for length in self.context_lens) + 1


# A whole prompt, a chunk on a prefix and a decode beside them.
STEPS = (Step("decode", (1,), (200,)), Step("prefill", (20, 11, 1), (20, 41, 77)))


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix [outputs, inputs] that a model multiplies by."""

    outputs: int
    inputs: int
    bias: bool
    kind: tuple[int, int]
    """Bits of an element and elements of a group, as in Demands."""


@dataclass(frozen=True, slots=True)
class Case:
    """What one run of an operation computes."""

    step: Step
    product: Product | None = None
    """Of `linear`, the only matrix; without it a stacked one of each kind that the model has."""


def as_tried(demands: Demands) -> Demands:
    """The sizes that kernels are tried with. On the CPU a smaller model of the same kind shows how they compute; on a
    GPU which of them is launched, and how fast that is, depends on each width."""
    return demands if on_gpu() else demands.cut()


def prepared(operation: str, case: Case, demands: Demands, compute: Operation, order: str) -> Thunk:
    """A case's input of an operation, made ready: weights in the order of one implementation of `linear`."""
    return _CASES[operation](_Inputs(as_tried(demands), case, order), compute)


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The same numbers for every implementation."""

    demands: Demands
    case: Case
    order: str

    @property
    def step(self) -> Step:
        return self.case.step

    @property
    def dtype(self) -> mx.Dtype:
        return FLOATS[self.demands.dtype]

    def rows(self, seed: int, *shape: int) -> mx.array:
        """[rows of the step, ...], of the activations' type."""
        return _ready(_random(seed, self.step.rows, *shape).astype(self.dtype))

    def vector(self, seed: int, size: int) -> mx.array:
        return _ready(_random(seed, size).astype(self.dtype))

    def matrix(self, seed: int, product: Product) -> Weight:
        return _ordered(seed, product, self.demands.dtype, self.order)

    def stacked(self, outputs: int, inputs: int) -> list[Product]:
        """One of each kind that the model has."""
        return [Product(outputs, inputs, True, kind) for kind in self.demands.matrices]

    def experts(self, seed: int, outputs: int, inputs: int, kind: tuple[int, int]) -> Experts:
        """Some matrices of a kind. What counts of experts is that rows go to different ones."""
        stacked = Product(_EXPERTS * outputs, inputs, False, kind)
        return _ordered_experts(seed, stacked, self.demands.dtype, self.order)

    def cache(self) -> PagedKV:
        """A pool of random keys and values, that nothing else holds."""
        shape = (self.step.blocks, _BLOCK, self.demands.kv_heads, self.demands.head_size)
        kv = PagedKV([self._store(5, shape)], [self._store(6, shape)])
        _ready(*kv.arrays)
        return kv

    def _store(self, seed: int, shape: tuple[int, ...]) -> KVStore:
        elements = _random(seed, *shape)
        kind = self.demands.kv
        return to_groups(elements, INTEGERS[kind]) if kind in INTEGERS else elements.astype(FLOATS[kind])


def _random(seed: int, *shape: int) -> mx.array:
    return mx.array(np.random.default_rng(seed).standard_normal(shape, np.float32))


def _ready(*arrays: mx.array) -> mx.array:
    mx.eval(*arrays)
    return arrays[0]


@cache
def _weight(seed: int, product: Product, dtype: str) -> DenseWeight | QuantizedWeight:
    """A matrix that keeps the size of what it multiplies. Of a quantized one the integers are drawn as they are."""
    numbers, outputs, inputs = np.random.default_rng(seed), product.outputs, product.inputs
    bias = _random(seed + 1, outputs).astype(FLOATS[dtype]) if product.bias else None
    bits, group = product.kind
    if not bits or inputs % group:  # such a row is left as it is
        return DenseWeight((_random(seed, outputs, inputs) * inputs**-0.5).astype(FLOATS[dtype]), bias)
    words = mx.array(numbers.integers(0, 2**32, (outputs, inputs * bits // 32), np.uint32))
    # Of the integers from 0 to 2^bits - 1, all alike, the standard deviation is 2^bits / sqrt(12).
    step = (12 / inputs) ** 0.5 / 2**bits
    scales = mx.array(numbers.uniform(0.5 * step, 1.5 * step, (outputs, inputs // group)).astype(np.float32))
    scales, biases = scales.astype(FLOATS[dtype]), (-scales * 2 ** (bits - 1)).astype(FLOATS[dtype])
    return QuantizedWeight(words, scales, biases, bits, group, bias)


@cache
def _ordered(seed: int, product: Product, dtype: str, order: str) -> Weight:
    weight = arranged(_weight(seed, product, dtype), order)
    mx.eval(weight.arrays)
    return weight


@cache
def _ordered_experts(seed: int, stacked: Product, dtype: str, order: str) -> Experts:
    experts = arranged_experts(StackedExperts(_weight(seed, stacked, dtype), _EXPERTS), order)
    if isinstance(experts, StackedExperts):
        mx.eval(experts.stacked.arrays)
    return experts


def forget_weights() -> None:
    """Let go of what the cases of one model share."""
    _weight.cache_clear()
    _ordered.cache_clear()
    _ordered_experts.cache_clear()


def _linear(inputs: _Inputs, compute: Operation) -> Thunk:
    demands, only = inputs.demands, inputs.case.product
    products = [only] if only else inputs.stacked(2 * demands.inner, demands.hidden)
    x = inputs.rows(3, products[0].inputs)
    matrices = [inputs.matrix(11, product) for product in products]
    return lambda after: [compute(after(x), matrix) for matrix in matrices]


def _expert_linear(inputs: _Inputs, compute: Operation) -> Thunk:
    demands, numbers = inputs.demands, np.random.default_rng(12)
    x = inputs.rows(3, demands.hidden)
    experts = [inputs.experts(13, demands.inner, demands.hidden, kind) for kind in demands.matrices]
    ranks = numbers.random((inputs.step.rows, _EXPERTS)).argsort(axis=-1)
    chosen = _ready(mx.array(ranks[:, :_CHOSEN].astype(np.int32)))
    return lambda after: [compute(after(x), each, chosen) for each in experts]


def _embedding(inputs: _Inputs, compute: Operation) -> Thunk:
    demands = inputs.demands
    matrices = [inputs.matrix(11, product) for product in inputs.stacked(2 * demands.inner, demands.hidden)]
    ids = _ready(mx.array([2 * demands.inner - 1, 0, 5, *range(inputs.step.rows)][: inputs.step.rows], mx.int32))
    return lambda after: [compute(ids, matrix) for matrix in matrices]  # ids of something else would be no rows


def _rms_norm(inputs: _Inputs, compute: Operation) -> Thunk:
    hidden = inputs.demands.hidden
    x, weight = inputs.rows(3, hidden), inputs.vector(4, hidden)
    return lambda after: [compute(after(x), weight, _EPS)]


def _add_rms_norm(inputs: _Inputs, compute: Operation) -> Thunk:
    hidden = inputs.demands.hidden
    x, added, weight = inputs.rows(3, hidden), inputs.rows(5, hidden), inputs.vector(4, hidden)
    return lambda after: list(compute(after(x), added, weight, _EPS))


def _rope(inputs: _Inputs, compute: Operation) -> Thunk:
    demands, positions = inputs.demands, _ready(inputs.step.layout().positions)
    x = inputs.rows(3, demands.heads + demands.kv_heads, demands.head_size)
    return lambda after: [compute(after(x), positions, _THETA)]


def _silu_mul(inputs: _Inputs, compute: Operation) -> Thunk:
    gate, up = (inputs.rows(seed, inputs.demands.inner) for seed in (3, 4))
    return lambda after: [compute(after(gate), up)]


def _write_kv(inputs: _Inputs, compute: Operation) -> Thunk:
    demands, layout, kv = inputs.demands, inputs.step.layout(), inputs.cache()
    keys, values = (inputs.rows(seed, demands.kv_heads, demands.head_size) for seed in (7, 8))

    def write(after: After) -> list[mx.array]:
        # Each write of a pool waits for the one before. What held the pool beside it would make it a copy.
        compute(kv, 0, keys, values, layout)
        return kv.arrays

    return write


def _paged_attention(inputs: _Inputs, compute: Operation) -> Thunk:
    demands, layout, kv = inputs.demands, inputs.step.layout(), inputs.cache()
    queries = inputs.rows(9, demands.heads, demands.head_size)
    return lambda after: [compute(after(queries), kv.keys[0], kv.values[0], layout, demands.head_size**-0.5)]


def _decoder_layer(inputs: _Inputs, compute: Operation) -> Thunk:
    demands, layout, kv = inputs.demands, inputs.step.layout(), inputs.cache()
    heads, x = demands.heads * demands.head_size, inputs.rows(3, demands.hidden)
    keys = 2 * demands.kv_heads * demands.head_size
    layers = [
        LayerWeights(
            attention_norm=inputs.vector(4, demands.hidden),
            qkv=(inputs.matrix(21, Product(heads + keys, demands.hidden, True, kind)),),
            out=inputs.matrix(31, Product(demands.hidden, heads, True, kind)),
            mlp_norm=inputs.vector(5, demands.hidden),
            # The one that `linear` is tried with: packed once for both.
            gate_up=(inputs.matrix(11, Product(2 * demands.inner, demands.hidden, True, kind)),),
            down=inputs.matrix(41, Product(demands.hidden, demands.inner, True, kind)),
            heads=demands.heads,
            kv_heads=demands.kv_heads,
            head_size=demands.head_size,
            theta=_THETA,
            eps=_EPS,
        )
        for kind in demands.matrices
    ]
    return lambda after: [compute(after(x), layer, 0, kv, layout) for layer in layers]


def _logits(inputs: _Inputs) -> mx.array:
    """Rows of numbers that all differ, so that every id is the one right answer."""
    numbers, width = np.random.default_rng(3), inputs.demands.vocabulary
    rows = min(inputs.step.rows, 3)
    return _ready(mx.array(np.stack([numbers.permutation(width) for _ in range(rows)]).astype(np.float32) - width / 2))


def _largest(inputs: _Inputs, compute: Operation) -> Thunk:
    logits = _logits(inputs)
    counts = _COUNTS if on_gpu() else _COUNTS[:1]
    return lambda after: [compute(after(logits), min(count, logits.shape[-1])) for count in counts]


def _greedy(inputs: _Inputs, compute: Operation) -> Thunk:
    logits = _logits(inputs)
    if len(logits) > 1:
        logits[0, -1], logits[1, 0], logits[2] = mx.nan, mx.inf, -mx.inf
    _ready(logits)
    return lambda after: [compute(after(logits))]


def _draw(inputs: _Inputs, compute: Operation) -> Thunk:
    logits = _logits(inputs)
    # A tenth of the tokens has nearly all of the mass.
    heat = inputs.demands.vocabulary / 30
    kinds = [
        Draw(7, heat),
        Draw(11, heat, top_k=20),
        Draw(8, heat, min_p=0.3),
        Draw(9, heat, top_k=20, top_p=0.8),
        Draw(10, heat, top_p=0.8),
    ]
    draws = [[replace(kind, key=kind.key << 32 | row) for row in range(len(logits))] for kind in kinds]
    return lambda after: [compute(after(logits), each) for each in draws]


_CASES: Mapping[str, Callable[[_Inputs, Operation], Thunk]] = {
    "linear": _linear,
    "expert_linear": _expert_linear,
    "embedding": _embedding,
    "rms_norm": _rms_norm,
    "add_rms_norm": _add_rms_norm,
    "rope": _rope,
    "silu_mul": _silu_mul,
    "write_kv": _write_kv,
    "paged_attention": _paged_attention,
    LAYER: _decoder_layer,
    "largest": _largest,
    "greedy": _greedy,
    "draw": _draw,
}
assert _CASES.keys() == OPERATIONS.keys()

CONCERNS: Mapping[str, tuple[str, ...]] = {
    "linear": ("hidden", "inner", "matrices", "dtype", "activations"),
    "expert_linear": ("hidden", "inner", "matrices", "dtype", "activations"),
    "embedding": ("hidden", "inner", "matrices", "dtype"),
    "rms_norm": ("hidden", "dtype"),
    "add_rms_norm": ("hidden", "dtype"),
    "rope": ("heads", "kv_heads", "head_size", "dtype"),
    "silu_mul": ("inner", "dtype"),
    "write_kv": ("kv_heads", "head_size", "dtype", "kv"),
    "paged_attention": ("heads", "kv_heads", "head_size", "dtype", "kv"),
    LAYER: ("hidden", "inner", "heads", "kv_heads", "head_size", "matrices", "dtype", "kv", "activations"),
    "largest": ("vocabulary",),
    "greedy": ("vocabulary",),
    "draw": ("vocabulary",),
}
"""The fields of Demands that an operation's case is made from: demands that are equal in them share a verdict."""
assert CONCERNS.keys() == OPERATIONS.keys()
