"""What is passed to a launch and what comes back; launches that can't be meant are one clear sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metal_kernels import emulator
from metal_kernels.emulator import BFloat16, Output

from .conftest import KERNELS

X = np.arange(8, dtype=np.float32)


@pytest.fixture(scope="module")
def library(clang: None) -> emulator.Library:
    return emulator.compile(KERNELS / "launch.metal")


def test_parameters_are_known(library: emulator.Library) -> None:
    add = library.kernels["add"]
    assert [(p.name, p.type, p.binding, p.index) for p in add.parameters] == [
        ("x", "device const float*", "buffer", 0),
        ("out", "device float*", "buffer", 2),
        ("a", "constant float&", "buffer", 5),
        ("i", "uint", "thread_position_in_grid", -1),
    ]
    assert (add.function, Path(add.file).name, add.line) == ("add", "launch.metal", 4)
    assert library.kernels["unnamed"].buffers == (0, 1, 2)
    assert library.kernels["few"].max_threads == 32


def test_output_may_be_partial_on_purpose(library: emulator.Library) -> None:
    buffers: list[Any] = [X, None, Output(8, np.float32, partial=True), None, None, np.float32(1)]
    launch = library.launch("add", buffers, grid=(8,), threadgroup=(4,))
    assert launch.reports == []
    np.testing.assert_array_equal(launch.outputs[0], np.where(X % 4 == 3, np.nan, X + 1))


def test_output_may_have_the_memory_of_an_input(library: emulator.Library) -> None:
    buffers: list[Any] = [X, None, Output(8, np.float32, partial=True), None, None, np.float32(1).tobytes()]
    launch = library.launch("add", buffers, grid=(8,), threadgroup=(4,), inputs_may_alias=[(0, 2)])
    assert launch.reports == []
    np.testing.assert_array_equal(launch.outputs[0], np.where(X % 4 == 3, X, X + 1))


def test_bfloat_in_and_out(library: emulator.Library) -> None:
    x = BFloat16.of([1.0, -2.5, 3.25])
    launch = library.launch(
        "unnamed", [x, Output(3, BFloat16), np.array([3, 1], np.int32)], grid=(3,), threadgroup=(3,)
    )
    assert launch.reports == []
    (out,) = launch.outputs
    np.testing.assert_array_equal(out.bits, BFloat16.of(np.float32([4.0, -6.5, 10.75])).bits)


@pytest.mark.parametrize(("grid", "threadgroup"), [((5, 3, 4), (2, 3, 2)), ((70,), (64,)), ((40, 3), (40, 2))])
@pytest.mark.parametrize("order", ["forward", 9])
def test_positions(
    library: emulator.Library, grid: tuple[int, ...], threadgroup: tuple[int, ...], order: str | int
) -> None:
    grid3, full = np.array([*grid, 1, 1][:3]), np.array([*threadgroup, 1, 1][:3])
    buffers = [Output((*grid3[::-1], 26), np.uint32)]
    launch = library.launch("where", buffers, grid=grid, threadgroup=threadgroup, order=order)
    assert launch.reports == []
    for at in np.ndindex(*grid3):
        group, inside = at // full, at % full
        size = np.minimum(full, grid3 - group * full)
        index = inside[0] + size[0] * (inside[1] + size[1] * inside[2])
        expected = [*at, *group, *inside, *size, *full, *grid3, *-(-grid3 // full)]
        expected += [index, index % 32, index // 32, -(-np.prod(size) // 32), 32]
        np.testing.assert_array_equal(launch.outputs[0][at[::-1]], expected)


OUT = Output(8, np.float32, partial=True)
GOOD: dict[str, Any] = {
    "name": "add",
    "buffers": [X, None, OUT, None, None, np.float32(1)],
    "grid": (8,),
    "threadgroup": (4,),
}
FEW = {"name": "few", "buffers": [Output(1, np.float32)], "threadgroup_memory": {1: 16}, "constants": {3: 1.5}}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": "subtract"}, "there is no kernel subtract; there are add, few, unnamed, where"),
    ({"buffers": [X, None, OUT]}, r"add needs buffer\(5\), a"),
    ({"buffers": [X, X, OUT, None, None, X]}, r"add has no buffer\(1\)"),
    ({"buffers": [X[:0], None, OUT, None, None, X]}, "an empty buffer"),
    ({"in_place": (2,)}, r"buffer\(2\) is to be changed in place, but is no array"),
    ({"inputs_may_alias": [(2, 0)]}, "pairs an input with an output, not 2 with 0"),
    ({"inputs_may_alias": [(5, 2)]}, r"buffer\(5\) and buffer\(2\) can't have the same memory"),
    ({"grid": (0,)}, "grid is up to three sizes of at least 1"),
    ({"threadgroup": (1, 1, 1, 1)}, "threadgroup is up to three sizes"),
    ({"threadgroup": (1025,)}, "add takes 1024 threads at most, not 1025"),
    ({"threadgroup_memory": {0: 64}}, r"add has the threadgroup arguments \[\], not \[0\]"),
    ({"constants": {0: 1}}, r"there is no function_constant\(0\)"),
    ({"constants": {3: b"ab"}}, r"function_constant\(3\) is a float, which has not 2 bytes"),
    ({"order": "sideways"}, "the order is"),
    (FEW | {"threadgroup": (64,)}, "few takes 32 threads at most, not 64"),
    (FEW | {"threadgroup_memory": {1: 20}}, "a multiple of 16 bytes in Metal, not 20"),
    (FEW | {"threadgroup_memory": {}}, r"few has the threadgroup arguments \[1\], not \[\]"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_launch_that_can_not_be_meant(library: emulator.Library, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        library.launch(**(GOOD | change))


def test_constants_are_of_the_declared_type_and_forgotten_after_a_launch(library: emulator.Library) -> None:
    launch = library.launch(**(GOOD | FEW | {"grid": (1,), "constants": {3: 7}}))
    assert (launch.outputs[0].tolist(), launch.reports) == ([7.0], [])
    launch = library.launch(**(GOOD | FEW | {"grid": (1,), "constants": {}}))
    assert [report.kind for report in launch.reports] == ["constant-not-set"]


def test_kernels_of_the_same_name_are_refused(tmp_path: Path) -> None:
    for name in ("one.metal", "two.metal"):
        (tmp_path / name).write_text("kernel void same(device float* out) { out[0] = 1.0f; }\n")
    with pytest.raises(emulator.CompileError, match="kernels of the same name"):
        emulator.compile([tmp_path / "one.metal", tmp_path / "two.metal"])


def test_only_some_kernels() -> None:
    assert set(emulator.compile(KERNELS / "launch.metal", only=["where"]).kernels) == {"where"}
    with pytest.raises(emulator.CompileError, match="there is no kernel three"):
        emulator.compile(KERNELS / "launch.metal", only=["three"])


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_bfloat_is_the_nearest(values: list[float]) -> None:
    x = np.array(values, np.float32)
    rounded = BFloat16.of(x)
    back = rounded.floats()
    np.testing.assert_array_equal(np.isnan(back), np.isnan(x))
    np.testing.assert_array_equal(BFloat16.of(back).bits, rounded.bits)
    # No neighbour is nearer, and of two as near the even one is taken.
    for step in (1, -1):
        with np.errstate(invalid="ignore"):
            neighbour = BFloat16((rounded.bits.astype(np.int64) + step).astype(np.uint16)).floats().astype(np.float64)
            here, there = np.abs(back - x.astype(np.float64)), np.abs(neighbour - x)
        nearer = (here < there) | ((here == there) & (rounded.bits % 2 == 0))
        assert (nearer | ~np.isfinite(back) | ~np.isfinite(neighbour)).all()
