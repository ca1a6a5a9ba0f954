"""A barrier that is left out is noticed if and only if it is needed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from metal_kernels import emulator
from metal_kernels.emulator import Output, mutation

from .conftest import KERNELS, ORDERS

BARRIERS = KERNELS / "barriers.metal"
TEXT = BARRIERS.read_text().splitlines()


def check(library: emulator.Library) -> Iterable[emulator.Report]:
    x = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    buffers = [x, Output(x.shape, np.float32)]
    for order in ORDERS:
        launch = library.launch("below_largest", buffers, grid=(192,), threadgroup=(64,), order=order)
        yield from launch.reports
        if not launch.reports:
            np.testing.assert_array_equal(launch.outputs[0], (x.max(1, keepdims=True) - x)[:, ::-1])


def test_barriers_are_listed_with_their_lines() -> None:
    listed = [(barrier.line, barrier.text) for barrier in mutation.barriers(BARRIERS)]
    expected = [(n, line.split(";")[0].strip()) for n, line in enumerate(TEXT, 1) if "_barrier(" in line]
    assert listed == expected


def test_missing_barrier_is_noticed_where_it_is_needed() -> None:
    outcomes = list(mutation.survey(BARRIERS, check))
    assert len(outcomes) == 4
    for outcome in outcomes:
        needless = "not needed" in TEXT[outcome.barrier.line - 1]
        assert bool(outcome.noticed) is not needless, str(outcome)
        assert str(outcome).startswith(f"barriers.metal:{outcome.barrier.line}: ")


def test_survey_wants_a_kernel_that_is_right() -> None:
    def complain(library: emulator.Library) -> list[emulator.Report]:
        raise AssertionError("wrong from the beginning")

    with pytest.raises(ValueError, match="with all barriers: wrong from the beginning"):
        next(mutation.survey(BARRIERS, complain))
