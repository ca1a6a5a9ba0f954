"""The buffers of a launch."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metal_kernels.emulator.arrays import BFloat16, Output, Value
from metal_kernels.emulator.source import Kernel

# As in runtime/interface.h.
_WRITABLE, _INITIALISED, _COMPLETE, _ALIAS = 1, 2, 4, 8
# Bytes around each buffer that belong to none: an index that a wrong stride makes too large meets no other buffer, up
# to the farthest element of four bytes that an int can name. They are reserved, and take no memory.
_GUARD = 1 << 33
_ALIGNMENT = 256
# Python names it from 3.13 on; macOS reserves nothing by itself.
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


class Buffer(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_ulonglong),
        ("index", ctypes.c_int),
        ("flags", ctypes.c_int),
        ("element_size", ctypes.c_uint),
    )


class Memory:
    """The buffers of a launch, far from each other, so that whoever misses one hits none."""

    def __init__(
        self,
        values: Sequence[Value],
        kernel: Kernel,
        in_place: Sequence[int],
        alias: Sequence[tuple[int, int]],
    ) -> None:
        bound = {i: value for i, value in enumerate(values) if value is not None}
        if missing := sorted(set(kernel.buffers) - set(bound)):
            raise ValueError(f"{kernel.name} needs buffer({missing[0]}), {_parameter(kernel, missing[0])}")
        if unknown := sorted(set(bound) - set(kernel.buffers)):
            raise ValueError(f"{kernel.name} has no buffer({unknown[0]})")
        for i in in_place:
            if not isinstance(bound.get(i), (np.ndarray, BFloat16)):
                raise ValueError(f"buffer({i}) is to be changed in place, but is no array")
        shared: dict[int, int] = {}
        for source, target in alias:
            if not isinstance(bound.get(target), Output) or isinstance(bound.get(source), (Output, type(None))):
                raise ValueError(f"inputs_may_alias pairs an input with an output, not {source} with {target}")
            shared[source] = target
        self._values = bound
        self._changed = [i for i, value in bound.items() if isinstance(value, Output) or i in in_place]
        raw = {i: _bytes_of(value) for i, value in bound.items()}
        total = sum(len(data) + _GUARD + _ALIGNMENT for data in raw.values()) + _GUARD
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
        self._arena = np.frombuffer(mmap.mmap(-1, total, flags), np.uint8)
        base, top = self._arena.ctypes.data, _GUARD
        self._places: dict[int, tuple[int, int]] = {}
        for i, data in raw.items():
            top += -(base + top) % _ALIGNMENT
            self._places[i] = (top, len(data))
            self._arena[top : top + len(data)] = data
            top += len(data) + _GUARD
        self.entries = (Buffer * len(bound))()
        for n, i in enumerate(bound):
            value, flags, place = bound[i], _INITIALISED, i
            if isinstance(value, Output):
                flags = _WRITABLE | (0 if value.partial else _COMPLETE)
                source = next((s for s, target in shared.items() if target == i), -1)
                if source >= 0:
                    flags |= _INITIALISED
                    self._share(source, i, raw[source])
            elif i in in_place:
                flags |= _WRITABLE
            elif i in shared:
                flags, place = _ALIAS, shared[i]
            start, size = self._places[place]
            self.entries[n] = Buffer(base + start, size, i, flags, _item_size(value))

    def _share(self, source: int, target: int, data: NDArray[np.uint8]) -> None:
        start, size = self._places[target]
        if len(data) != size:
            raise ValueError(f"buffer({source}) and buffer({target}) can't have the same memory: their sizes differ")
        self._arena[start : start + size] = data

    def outputs(self) -> list[Any]:
        found: list[Any] = []
        for i in self._changed:
            start, size = self._places[i]
            data, value = self._arena[start : start + size].copy(), self._values[i]
            found.append(value.read(data) if isinstance(value, (Output, BFloat16)) else _like(value, data))
        return found


def _like(value: Value, data: NDArray[np.uint8]) -> NDArray[Any]:
    array = np.asarray(value)
    return data.view(array.dtype).reshape(array.shape)


def _bytes_of(value: Value) -> NDArray[np.uint8]:
    if isinstance(value, Output):
        return np.full(value.size, 0xFF, np.uint8)
    if isinstance(value, BFloat16):
        value = value.bits
    data = value if isinstance(value, bytes) else np.ascontiguousarray(value).tobytes()
    if not data:
        raise ValueError("an empty buffer can't be bound")
    return np.frombuffer(data, np.uint8)


def _item_size(value: Value) -> int:
    if isinstance(value, (Output, BFloat16)):
        return value.item_size
    return 1 if isinstance(value, bytes) else np.asarray(value).dtype.itemsize


def _parameter(kernel: Kernel, index: int) -> str:
    return next(p.name for p in kernel.parameters if p.binding == "buffer" and p.index == index)
