"""Races are reported if and only if there is one, for random programs of reads, writes, counts and barriers. The oracle
looks at all pairs of accesses; the emulator keeps but a few of them for each cell."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metal_kernels import emulator
from metal_kernels.emulator import Output

from .conftest import KERNELS, ORDERS

GROUP, GROUPS, CELLS = 64, 2, 3
ACCESSES, OF_GROUP, OF_SIMDGROUP = range(3)
READS, WRITES, COUNTS, LOADS = 1, 2, 3, 4  # the last two are atomic


class Access(NamedTuple):
    thread: int
    kind: int
    cell: int


class Step(NamedTuple):
    """A barrier, or what some threads do, each on its own, for threadgroup memory or for device memory."""

    kind: int
    device: bool
    accesses: tuple[Access, ...] = ()


# Threads that are neighbours, of one simdgroup, of two, and of two threadgroups.
THREADS = (0, 1, 2, 30, 40, 63, 64, 65, 100)
accesses = st.builds(
    Access, st.sampled_from(THREADS), st.sampled_from((READS, WRITES, COUNTS, LOADS)), st.integers(0, CELLS - 1)
)
several = st.lists(accesses, max_size=4, unique_by=lambda access: access.thread).map(tuple)
steps = st.one_of(
    st.builds(Step, st.just(ACCESSES), st.booleans(), several),
    st.builds(Step, st.just(ACCESSES), st.booleans(), several),
    st.builds(Step, st.sampled_from((OF_GROUP, OF_SIMDGROUP)), st.booleans(), st.just(())),
)
programs = st.lists(steps, min_size=1, max_size=12)


def ordered(program: list[Step], first: int, second: int, a: Access, b: Access, device: bool) -> bool:
    """Whether a barrier between two steps orders what two threads do there."""
    if a.thread // GROUP != b.thread // GROUP:
        return not device  # each threadgroup has cells of its own
    together = a.thread // 32 == b.thread // 32
    between = program[first + 1 : second]
    return any(s.device == device and (s.kind == OF_GROUP or (s.kind == OF_SIMDGROUP and together)) for s in between)


def races(program: list[Step]) -> bool:
    done = [
        (number, step.device, access)
        for number, step in enumerate(program)
        if step.kind == ACCESSES
        for access in step.accesses
    ]
    return any(
        device == other_device
        and a.cell == b.cell
        and a.thread != b.thread
        and not ({a.kind, b.kind} <= {READS, LOADS} or {a.kind, b.kind} <= {COUNTS, LOADS})
        and not ordered(program, first, second, a, b, device)
        for (first, device, a), (second, other_device, b) in combinations(done, 2)
    )


@pytest.fixture(scope="module")
def machine(clang: None) -> emulator.Library:
    return emulator.compile(KERNELS / "program.metal")


def found(machine: emulator.Library, program: list[Step], order: str | int) -> list[emulator.Report]:
    threads = GROUP * GROUPS
    told = np.zeros((len(program), threads), np.uint32)
    for step, row in zip(program, told, strict=True):
        for access in step.accesses:
            row[access.thread] = access.kind | access.cell << 3
    kinds = np.array([step.kind | step.device << 2 for step in program], np.uint32)
    buffers = [kinds, told, np.uint32(len(program)), np.zeros(CELLS, np.uint32), Output(threads, np.uint32)]
    return machine.launch("obey", buffers, grid=(threads,), threadgroup=(GROUP,), in_place=(3,), order=order).reports


def wrote(thread: int, device: bool = False) -> Step:
    return Step(ACCESSES, device, (Access(thread, WRITES, 0),))


def read(*threads: int, device: bool = False) -> Step:
    return Step(ACCESSES, device, tuple(Access(thread, READS, 0) for thread in threads))


@settings(max_examples=60, deadline=None)
@given(program=programs, order=st.sampled_from(ORDERS))
# The last reader, and the last of its simdgroup, are not those that the writer races with.
@example(program=[read(0), read(40), read(1), read(2), wrote(2)], order="forward")
@example(program=[read(40), Step(OF_SIMDGROUP, False), read(0), read(1), wrote(1)], order="reverse")
@example(
    program=[
        read(0),
        *(Step(ACCESSES, False, (Access(n, kind, 0),)) for n, kind in [(1, LOADS), (2, LOADS), (30, COUNTS)]),
    ],
    order="forward",
)
@example(program=[read(64, device=True), read(0, device=True), Step(OF_GROUP, True), wrote(0, True)], order="reverse")
def test_race_is_reported_if_there_is_one(machine: emulator.Library, program: list[Step], order: str | int) -> None:
    kinds = {report.kind for report in found(machine, program, order)}
    assert kinds == ({"race"} if races(program) else set())


def test_oracle_knows_both(machine: emulator.Library) -> None:
    """A barrier makes the difference, and only for its own memory."""
    for device, barrier, racing in [
        (False, False, False),
        (False, True, True),
        (True, True, False),
        (True, False, True),
    ]:
        program = [wrote(0, device), Step(OF_GROUP, barrier), read(40, device=device)]
        assert races(program) is racing
        assert [r.kind for r in found(machine, program, "forward")] == ["race"] * racing
