"""Every seeded bug is found, at its line, in whatever order the threads run; and nothing else is reported."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal_kernels import emulator
from metal_kernels.emulator import Output, library, toolchain

from . import marks
from .conftest import KERNELS, ORDERS

EXPECTED = marks.of_kernels(KERNELS / "bugs.metal", KERNELS / "helpers.h")
ONES = np.ones(64, np.float32)
COUNTS = np.zeros(8, np.uint32)


def floats(count: int = 64) -> Output:
    return Output(count, np.float32)


# What each kernel is launched with: 64 threads in a threadgroup unless it says more.
LAUNCHES: dict[str, dict[str, Any]] = {
    "one_too_many": {"buffers": [floats(63)]},
    "previous_of_first": {"buffers": [ONES, floats()]},
    "index_past_array": {"buffers": [floats()]},
    "wrong_stride": {"buffers": [ONES, np.ones(1 << 19, np.float32), floats()]},
    "into_the_next_array": {"buffers": [floats()]},
    "past_argument": {"buffers": [floats()], "threadgroup_memory": {0: 240}},
    "past_private_array": {"buffers": [np.arange(256, dtype=np.float32), floats()]},
    "matrix_past_end": {"buffers": [ONES, floats()], "grid": (32,), "threadgroup": (32,)},
    "atomic_past_end": {"buffers": [np.zeros(7, np.uint32)], "in_place": (0,)},
    "into_input": {"buffers": [ONES, floats()]},
    "atomic_into_input": {"buffers": [COUNTS, floats()]},
    "last_row_left_out": {"buffers": [floats()]},
    "sum_without_barrier": {"buffers": [floats()]},
    "next_tile_too_early": {"buffers": [ONES, floats()]},
    "barrier_for_other_memory": {"buffers": [floats()]},
    "barrier_without_memory": {"buffers": [floats()]},
    "barrier_of_simdgroup": {"buffers": [floats()]},
    "simd_sum_is_no_barrier": {"buffers": [floats()]},
    "groups_share_cells": {"buffers": [ONES], "in_place": (0,), "grid": (128,)},
    "all_write_one": {"buffers": [floats(32)]},
    "reads_what_others_count": {"buffers": [COUNTS, COUNTS, Output(64, np.uint32)], "in_place": (0,)},
    "one_not_written": {"buffers": [floats()]},
    "not_from_last_group": {"buffers": [floats(128)], "grid": (128,)},
    "adds_to_nothing": {"buffers": [floats()]},
    "barrier_in_branch": {"buffers": [floats()]},
    "returns_before_barrier": {"buffers": [floats()]},
    "two_barriers": {"buffers": [floats()]},
    "barrier_as_often_as_asked": {"buffers": [np.arange(64, dtype=np.uint32) // 32, floats()]},
    "sum_in_branch": {"buffers": [floats()]},
    "two_functions": {"buffers": [floats()]},
    "returns_before_sum": {"buffers": [floats()]},
    "takes_from_nobody": {"buffers": [floats(48)], "grid": (48,)},
    "takes_from_beyond": {"buffers": [floats()]},
    "waits_at_two_places": {"buffers": [floats()]},
    "too_much_memory": {"buffers": [floats()]},
    "too_much_if_it_comes_to_that": {"buffers": [floats()]},
    "too_much_with_argument": {"buffers": [floats()], "threadgroup_memory": {1: 17008}},
    "vector_at_odd_place": {"buffers": [np.ones(128, np.float32), floats()]},
    "divides_by_zero": {"buffers": [np.arange(64, dtype=np.int32) % 32, Output(64, np.int32)]},
    "index_does_not_fit": {"buffers": [np.full(64, 1 << 20, np.int32), Output(64, np.int32)]},
    "constant_without_value": {"buffers": [floats()], "constants": {0: 5}},
    "waits_for_nobody": {"buffers": [COUNTS, floats()]},
}
# Which of the two places of a race comes second, and whether it finds nothing written yet, is up to the order.
BY_CHANCE = {"uninitialised", "race"}


def places(reports: list[emulator.Report]) -> set[marks.Place]:
    return {(report.kind, Path(report.file).name, report.line) for report in reports}


def test_every_bug_is_launched(bugs: emulator.Library) -> None:
    assert set(LAUNCHES) == set(bugs.kernels) == set(EXPECTED)
    assert {kind for found in EXPECTED.values() for kind, _, _ in found} == set(library.KINDS)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", LAUNCHES)
def test_bug_is_found(bugs: emulator.Library, name: str, order: str | int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "LONGEST", 1)
    arguments = {"grid": (64,), "threadgroup": (64,)} | LAUNCHES[name]
    launch = bugs.launch(name, arguments.pop("buffers"), order=order, **arguments)
    found, expected = places(launch.reports), EXPECTED[name]
    if "race" in {kind for kind, _, _ in expected}:
        assert {kind for kind, _, _ in expected} <= BY_CHANCE
        assert found
        assert marks.told(found) <= marks.told(expected)
    else:
        assert marks.told(found) == marks.told(expected)


@pytest.mark.parametrize("name", [name for name, found in EXPECTED.items() if "race" in {kind for kind, _, _ in found}])
def test_race_is_called_so(bugs: emulator.Library, name: str) -> None:
    """In some order at least, and with both of its lines."""
    arguments = {"grid": (64,), "threadgroup": (64,)} | LAUNCHES[name]
    buffers = arguments.pop("buffers")
    reports = [r for order in ORDERS for r in bugs.launch(name, buffers, order=order, **arguments).reports]
    races = [report for report in reports if report.kind == "race"]
    assert races
    for race in races:
        other = re.search(r"the first at (.+):(\d+)$", race.message)
        assert "atomic" in race.message or other or not toolchain.line_tool()
        if other:
            assert ("race", other[1], int(other[2])) in EXPECTED[name]


@pytest.mark.parametrize("order", ORDERS)
def test_many_bugs_in_one_library_do_not_hide_each_other(bugs: emulator.Library, order: str | int) -> None:
    for name in ("one_too_many", "two_barriers", "one_too_many", "constant_without_value", "two_barriers"):
        arguments = {"grid": (64,), "threadgroup": (64,)} | LAUNCHES[name]
        launch = bugs.launch(name, arguments.pop("buffers"), order=order, **arguments)
        assert marks.told(places(launch.reports)) == marks.told(EXPECTED[name])


def test_unchecked_kernels_still_say_who_waits_in_vain() -> None:
    unchecked = emulator.compile(KERNELS / "bugs.metal", checked=False)
    launch = unchecked.launch("two_barriers", [floats()], grid=(64,), threadgroup=(64,))
    assert places(launch.reports) == EXPECTED["two_barriers"]
    launch = unchecked.launch("last_row_left_out", [floats()], grid=(64,), threadgroup=(64,))
    assert launch.reports == []


@pytest.mark.skipif(not toolchain.line_tool(), reason="nothing here finds the line of an instruction")
def test_report_reads_as_one_line(bugs: emulator.Library) -> None:
    launch = bugs.launch("one_too_many", [floats(63)], grid=(64,), threadgroup=(64,))
    line = next(line for _, _, line in EXPECTED["one_too_many"])
    (report,) = map(str, launch.reports)
    assert report.startswith(f"bugs.metal:{line}: out-of-bounds: write of 4 byte(s)")
    assert "past the end of buffer(0), which has 252, by thread 63" in report
    assert "\n" not in report


def test_without_a_tool_for_lines_a_report_names_the_kernel(
    bugs: emulator.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a Mac. What threads wait for together has its line even so."""
    monkeypatch.setattr(toolchain, "line_tool", lambda: None)
    launch = bugs.launch("one_too_many", [floats(63)], grid=(64,), threadgroup=(64,))
    kernel = bugs.kernels["one_too_many"]
    assert places(launch.reports) == {("out-of-bounds", "bugs.metal", kernel.line)}
    launch = bugs.launch("two_barriers", [floats()], grid=(64,), threadgroup=(64,))
    assert places(launch.reports) == EXPECTED["two_barriers"]
