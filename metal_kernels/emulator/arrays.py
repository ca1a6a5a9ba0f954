"""What is passed to kernels and what comes back, beyond numpy's own arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray


class BFloat16:
    """An array of bfloat16, which numpy does not have: `bits` is the same shape as uint16."""

    item_size = 2

    def __init__(self, bits: NDArray[np.uint16]) -> None:
        if bits.dtype != np.uint16:
            raise ValueError(f"the bits of bfloat16 are uint16, not {bits.dtype}")
        self.bits = bits

    @classmethod
    def of(cls, values: ArrayLike) -> BFloat16:
        """The nearest bfloat16 to each value, ties to even."""
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        rounded = (bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16
        nan = (bits & 0x7FFFFFFF) > 0x7F800000
        return cls(np.where(nan, bits >> 16 | 0x40, rounded).astype(np.uint16))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.bits.shape

    def floats(self) -> NDArray[np.float32]:
        return (self.bits.astype(np.uint32) << 16).view(np.float32)

    def read(self, data: NDArray[np.uint8]) -> BFloat16:
        return BFloat16(data.view(np.uint16).reshape(self.shape))


class Output:
    """A buffer that the kernel writes. Each of its elements has to be written, unless `partial`; `dtype` is one of
    numpy's, or `BFloat16`."""

    def __init__(self, shape: int | Sequence[int], dtype: DTypeLike | type[BFloat16], partial: bool = False) -> None:
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self._bfloat = dtype is BFloat16
        self._dtype: np.dtype[Any] = np.dtype(np.uint16 if dtype is BFloat16 else dtype)
        self.partial = partial
        if self.size < 1:
            raise ValueError(f"an output of the shape {self.shape} holds nothing")

    @property
    def item_size(self) -> int:
        return self._dtype.itemsize

    @property
    def size(self) -> int:
        """In bytes."""
        return math.prod(self.shape) * self.item_size

    def read(self, data: NDArray[np.uint8]) -> NDArray[Any] | BFloat16:
        array = data.view(self._dtype).reshape(self.shape)
        return BFloat16(array) if self._bfloat else array


Scalar = bool | int | float | np.generic | NDArray[Any] | bytes
Value = NDArray[Any] | np.generic | bytes | BFloat16 | Output | None
