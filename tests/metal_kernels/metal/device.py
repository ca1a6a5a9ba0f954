"""Kernels run as the launch table says: in the emulator, in several thread orders, or on a Metal device."""

import re
from functools import cache
from types import SimpleNamespace

import mlx.core as mx
import numpy as np

from inference.ops.agreement import TOLERANCE
from metal_kernels import _native, emulator
from tests.metal_kernels.conftest import PACKAGE

KERNELS = PACKAGE / "metal"
ORDERS = ("forward", "reverse", 1)
TYPES = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}
NOTHING = np.zeros(1, np.uint32)
"""In place of an array that a launch does not look at."""

PLACES = ("emulated", *(["on_metal"] if mx.metal.is_available() else []))
"""Where `launch` can run kernels here."""
place = PLACES[0]
"""Where it does."""

_HELD = {mx.float32: np.float32, mx.float16: np.float16, mx.bfloat16: np.uint16, mx.uint32: np.uint32}


class Wrong(AssertionError):
    """A launch did something that it must not."""


@cache
def library(file):
    return emulator.compile(KERNELS / f"{file}.metal", include_dirs=(KERNELS,))


def held(x):
    """An MLX array's numbers as the device's memory holds them; numpy has no bfloat16, so its bits."""
    return np.array(x.view(mx.uint16) if x.dtype == mx.bfloat16 else x)


def given(x, dtype):
    """The other way."""
    return mx.array(x).view(dtype) if dtype == mx.bfloat16 else mx.array(x)


def room(shape, dtype):
    """Memory for an output of an MLX type."""
    return emulator.Output(tuple(shape), _HELD[dtype])


def run(launch, buffers, order, in_place=()):
    """What a launch writes in one thread order."""
    grid = tuple(groups * threads for groups, threads in zip(launch.groups, launch.threads, strict=True))
    found = library(launch.file).launch(
        launch.kernel,
        buffers=[*buffers, launch.params],
        grid=grid,
        threadgroup=tuple(launch.threads),
        constants=launch.constants,
        order=order,
        in_place=in_place,
    )
    if found.reports:
        raise Wrong(f"{launch.kernel}, {order}: {'; '.join(map(str, found.reports))}")
    return found.outputs


def launch(launch, buffers, in_place=()):
    """What a launch writes: the same bits in every thread order, and nothing to report."""
    if place == "on_metal":
        return on_gpu(launch, buffers, in_place)
    first, *others = (run(launch, buffers, order, in_place) for order in ORDERS)
    for order, other in zip(ORDERS[1:], others, strict=True):
        for ours, theirs in zip(first, other, strict=True):
            if ours.tobytes() != theirs.tobytes():
                raise Wrong(f"{launch.kernel}: {order} gives other bits")
    return first


def on_gpu(launch, buffers, in_place=()):
    """What a launch writes on the GPU, or in what stands in for it. What it leaves out is all ones."""
    written = [i for i, each in enumerate(buffers) if isinstance(each, emulator.Output) or i in in_place]
    bits = [_bits(each) for each in buffers]
    arrays = [mx.array(each) for each in bits]
    type_name = re.search(r"_(f32|f16|bf16)(_|$)", launch.kernel)
    _native.launch_on_gpu(launch, type_name[1] if type_name else "f32", arrays, written)
    found = {i: np.array(arrays[i]) for i in written}
    return [
        each.read(found[i]) if isinstance(each, emulator.Output) else found[i].view(each.dtype).reshape(each.shape)
        for i, each in enumerate(buffers)
        if i in written
    ]


def _bits(buffer):
    if isinstance(buffer, emulator.Output):
        return np.full(buffer.size, 0xFF, np.uint8)
    return np.ascontiguousarray(buffer).reshape(-1).view(np.uint8)


def changed(launch, **fields):
    """A launch that is otherwise than the table has it: for the emulator."""
    names = ("file", "kernel", "groups", "threads", "constants", "params")
    return SimpleNamespace(**{name: getattr(launch, name) for name in names} | fields)


def assert_close(found, truth):
    """Every number is as near as roundings of its type allow, on the scale of the whole."""
    tolerance = TOLERANCE[str(truth.dtype).removeprefix("mlx.core.")]
    ours, wide = (np.array(x.astype(mx.float32), np.float64) for x in (found, truth))
    assert ours.shape == wide.shape
    scale = np.sqrt(np.mean(wide**2))
    # Written so that a NaN fails.
    assert np.abs(ours - wide).max() <= 5 * tolerance * scale, np.abs(ours - wide).max() / scale
    assert np.sqrt(np.mean((ours - wide) ** 2)) <= tolerance * scale


def random(seed, shape, dtype):
    return mx.random.normal(shape, key=mx.random.key(seed)).astype(dtype)
