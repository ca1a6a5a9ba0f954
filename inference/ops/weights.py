"""What a linear layer or an embedding can hold: a dense matrix, one quantized in groups, or either of them packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlx.core as mx

if TYPE_CHECKING:
    from metal_kernels._native import PackedMatrix


@dataclass(frozen=True, slots=True)
class DenseWeight:
    """`weight` [O, I], rows are outputs. `bias` [O] or None."""

    weight: mx.array
    bias: mx.array | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.weight.shape[0], self.weight.shape[1]

    @property
    def dtype(self) -> mx.Dtype:
        return self.weight.dtype

    @property
    def arrays(self) -> list[mx.array]:
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """MLX's affine quantization of [O, I]: an element is `q * scale + bias` of its group of `group_size` along I.

    `packed` [O, I * bits / 32] uint32 holds the q, lowest bits first; `scales` and `biases` are [O, I / group_size].
    `bias` [O] is the layer's own, or None.
    """

    packed: mx.array
    scales: mx.array
    biases: mx.array
    bits: int
    group_size: int
    bias: mx.array | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.packed.shape[0], self.packed.shape[1] * 32 // self.bits

    @property
    def dtype(self) -> mx.Dtype:
        """The type that it dequantizes to."""
        return self.scales.dtype

    @property
    def arrays(self) -> list[mx.array]:
        arrays = [self.packed, self.scales, self.biases]
        return arrays if self.bias is None else [*arrays, self.bias]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A dense or quantized weight in the order in memory that our own kernels read; see `packing.pack`."""

    matrix: PackedMatrix
    """With the layer's bias in it."""
    dtype: mx.Dtype
    """Of the weight that was packed; the matrix may hold its numbers in a narrower type that loses nothing."""
    bias: mx.array | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape

    @property
    def arrays(self) -> list[mx.array]:
        return []

    @property
    def nbytes(self) -> int:
        return self.matrix.nbytes


Weight = DenseWeight | QuantizedWeight | PackedWeight


def stack_rows(weights: Sequence[Weight]) -> tuple[Weight, ...]:
    """One weight whose outputs are those of `weights` in turn, or `weights` as they are if they differ in kind.

    One matrix multiplication of a tall matrix costs less than several of short ones. A checkpoint quantized layer by
    layer may have unlike neighbours, which stay apart.
    """
    first = weights[0]
    bias = _stack_biases(weights)
    dense = [w.weight for w in weights if isinstance(w, DenseWeight)]
    if len(dense) == len(weights):
        return (DenseWeight(mx.concatenate(dense), bias),)
    if isinstance(first, QuantizedWeight):
        same = [
            w
            for w in weights
            if isinstance(w, QuantizedWeight) and (w.bits, w.group_size) == (first.bits, first.group_size)
        ]
        if len(same) == len(weights):
            packed, scales, biases = (
                mx.concatenate(list(part)) for part in zip(*((w.packed, w.scales, w.biases) for w in same), strict=True)
            )
            return (QuantizedWeight(packed, scales, biases, first.bits, first.group_size, bias),)
    return tuple(weights)


def runs_on_cpu() -> bool:
    """Whether operations go to the CPU, whose kernels want other types and orders in memory than a GPU's."""
    return mx.default_device().type == mx.DeviceType.cpu


def arrange(weight: Weight) -> Weight:
    """The same weight, in the order in memory that the default device multiplies fastest by.

    On a CPU, `x @ weight.T` in float32 goes to BLAS, whose reference version (MLX's Linux wheels bring it) takes half
    the time when `weight.T` rather than `weight` is contiguous.
    """
    if isinstance(weight, DenseWeight) and runs_on_cpu() and weight.dtype == mx.float32:
        return DenseWeight(mx.contiguous(weight.weight.T).T, weight.bias)
    return weight


def _stack_biases(weights: Sequence[Weight]) -> mx.array | None:
    if all(w.bias is None for w in weights):
        return None
    return mx.concatenate([mx.zeros(w.shape[0], w.dtype) if w.bias is None else w.bias for w in weights])
