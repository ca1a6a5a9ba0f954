"""Right kernels give the right numbers and no report, in whatever order the threads run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from metal_kernels import emulator
from metal_kernels.emulator import BFloat16, Output

from .conftest import ORDERS

pytestmark = pytest.mark.parametrize("order", ORDERS)
LANES = np.arange(64)


def outputs(controls: emulator.Library, name: str, buffers: list[Any], order: str | int, **arguments: Any) -> Any:
    arguments = {"grid": (64,), "threadgroup": (64,)} | arguments
    launch = controls.launch(name, buffers, order=order, **arguments)
    assert launch.reports == []
    return launch.outputs[0]


def test_bytes_side_by_side(controls: emulator.Library, order: str | int) -> None:
    out = outputs(controls, "bytes_side_by_side", [Output(128, np.uint8)], order, grid=(128,))
    np.testing.assert_array_equal(out, np.r_[63:-1:-1, 127:63:-1])


def test_halves_side_by_side(controls: emulator.Library, order: str | int) -> None:
    out = outputs(controls, "halves_side_by_side", [Output(63, np.float16)], order, grid=(63,))
    np.testing.assert_array_equal(out, np.arange(63) / 2)


def test_words_then_halves(controls: emulator.Library, order: str | int) -> None:
    out = outputs(controls, "words_then_halves", [Output(32, np.uint32)], order)
    np.testing.assert_array_equal(out.view(np.uint16), LANES)


def test_lanes_exchange(controls: emulator.Library, order: str | int) -> None:
    out = outputs(controls, "lanes_exchange", [Output(64, np.float32)], order)
    np.testing.assert_array_equal(out, LANES ^ 31)


def test_through_device_memory(controls: emulator.Library, order: str | int) -> None:
    out = outputs(controls, "through_device_memory", [Output(64, np.float32)], order)
    np.testing.assert_array_equal(out, 64 - LANES)


def test_counts(controls: emulator.Library, order: str | int) -> None:
    values = np.random.default_rng(0).integers(0, 4, 200).astype(np.uint32)
    bins = np.array([7, 0, 0, 0], np.uint32)
    out = outputs(controls, "counts", [bins, values], order, grid=(200,), in_place=(0,))
    np.testing.assert_array_equal(out, bins + np.bincount(values, minlength=4))
    assert bins[0] == 7  # arguments stay as they are


def test_leaves_early(controls: emulator.Library, order: str | int) -> None:
    out = outputs(controls, "leaves_early", [Output((4, 64), np.float32)], order, grid=(256,))
    there = np.where(LANES < 32, 32, 0)
    np.testing.assert_array_equal(out, [there, np.full(64, 1), there, np.full(64, 3)])


def test_some_lanes(controls: emulator.Library, order: str | int) -> None:
    out = outputs(controls, "some_lanes", [Output(64, np.int32)], order, partial_simdgroups=True)
    expected = np.zeros(64, np.int64)
    for lane in LANES:
        others = lane - lane % 32 + np.arange(32)
        expected[lane] = sum(others % 2) if lane % 2 else 100 * sum(others % 4 == 2) if lane % 4 else 0
        expected[lane] += sum(1000 * sum(others % 3 > k) for k in range(lane % 3)) + 1000000 * max(others)
    np.testing.assert_array_equal(out, expected)


def test_as_much_as_there_is(controls: emulator.Library, order: str | int) -> None:
    buffers = [Output(64, np.float32)]
    launch = controls.launch("as_much_as_there_is", buffers, grid=(64,), threadgroup=(64,), order=order)
    assert launch.reports == []
    assert launch.threadgroup_bytes == 32768


@pytest.mark.parametrize(("shifted", "offset"), [(None, 0), (False, 0), (True, 1000)])
def test_from_constants(controls: emulator.Library, order: str | int, shifted: bool | None, offset: int) -> None:
    for width in (3, 5):
        constants: dict[int, int] = {0: width} | ({} if shifted is None else {1: shifted})
        out = outputs(controls, "from_constants", [Output(64, np.float32)], order, constants=constants)
        np.testing.assert_array_equal(out, LANES % 4 + 0.5 + 2 * width + offset)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_many_declarations(controls: emulator.Library, order: str | int, kind: type[np.floating[Any]]) -> None:
    x = (np.arange(64) % 7 - 3).astype(kind)
    name, scratch = ("many_f32", 256) if kind is np.float32 else ("many_f16", 128)
    out = outputs(controls, name, [x, Output(64, kind)], order, threadgroup_memory={0: scratch})
    np.testing.assert_array_equal(out, LANES[::-1] - 2 * x[::-1])


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16"])
def test_multiply(controls: emulator.Library, order: str | int, kind: str) -> None:
    random = np.random.default_rng(3)
    a, b = random.standard_normal((32, 48)).astype(np.float32), random.standard_normal((48, 16)).astype(np.float32)
    if kind == "bf16":
        buffers: list[Any] = [BFloat16.of(a), BFloat16.of(b)]
        a, b = (each.floats() for each in buffers)
    else:
        buffers = [a.astype("f4" if kind == "f32" else "f2"), b.astype("f4" if kind == "f32" else "f2")]
        a, b = (each.astype(np.float32) for each in buffers)
    sizes = np.array([32, 16, 48, 0], np.uint32)
    buffers += [Output((32, 16), np.float32), sizes]
    out = outputs(controls, f"multiply_{kind}", buffers, order, grid=(128, 2), threadgroup=(128,))
    np.testing.assert_allclose(out, a @ b, rtol=2e-5, atol=2e-5)
