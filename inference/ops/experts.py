"""Weights of a mixture of experts: several matrices alike, of which each token takes a few."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import mlx.core as mx

from inference.ops.packing import pack, plain
from inference.ops.weights import DenseWeight, PackedWeight, QuantizedWeight


@dataclass(frozen=True)
class StackedExperts:
    """Matrices [O, I] of N experts, as one of N * O rows: the first expert's, then the next one's. None has a bias."""

    stacked: DenseWeight | QuantizedWeight
    count: int
    """N."""

    @property
    def shape(self) -> tuple[int, int, int]:
        rows, columns = self.stacked.shape
        return self.count, rows // self.count, columns

    @property
    def dtype(self) -> mx.Dtype:
        return self.stacked.dtype

    def parts(self) -> list[mx.array]:
        """The weight's arrays [N, O, ...]: elements, or words, scales and biases."""
        return [array.reshape(self.count, -1, array.shape[-1]) for array in self.stacked.arrays]

    @cached_property
    def matrices(self) -> tuple[DenseWeight | QuantizedWeight, ...]:
        """Each expert's own."""
        return tuple(_like(self.stacked, list(arrays)) for arrays in zip(*self.parts(), strict=True))


@dataclass(frozen=True, slots=True)
class PackedExperts:
    """The same in the order in memory that our own CPU kernels read."""

    matrices: tuple[PackedWeight, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.matrices), *self.matrices[0].shape

    @property
    def dtype(self) -> mx.Dtype:
        return self.matrices[0].dtype


Experts = StackedExperts | PackedExperts


def pack_experts(experts: Experts) -> PackedExperts:
    """The same experts, packed. Nothing is lost: `plain_experts` turns them back."""
    if isinstance(experts, PackedExperts):
        return experts
    return PackedExperts(tuple(map(pack, experts.matrices)))


def plain_experts(experts: Experts) -> StackedExperts:
    """Packed experts as they were before, for the implementations that know no other form."""
    if isinstance(experts, StackedExperts):
        return experts
    matrices = [plain(matrix) for matrix in experts.matrices]
    arrays = [mx.concatenate(list(part)) for part in zip(*(matrix.arrays for matrix in matrices), strict=True)]
    return StackedExperts(_like(matrices[0], arrays), len(matrices))


def _like(weight: DenseWeight | QuantizedWeight, arrays: list[mx.array]) -> DenseWeight | QuantizedWeight:
    """A weight of the same kind, without a bias, from its arrays."""
    if isinstance(weight, DenseWeight):
        (elements,) = arrays
        return DenseWeight(elements)
    packed, scales, biases = arrays
    return QuantizedWeight(packed, scales, biases, weight.bits, weight.group_size)
