"""Kernels that the emulator is tested with, compiled once."""

from __future__ import annotations

from pathlib import Path

import pytest

from metal_kernels import emulator
from metal_kernels.emulator import toolchain

KERNELS = Path(__file__).with_name("kernels")
ORDERS = ("forward", "reverse", 1)


@pytest.fixture(scope="session", autouse=True)
def clang() -> None:
    try:
        toolchain.clang()
    except emulator.MissingCompiler as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def bugs(clang: None) -> emulator.Library:
    return emulator.compile(KERNELS / "bugs.metal")


@pytest.fixture(scope="session")
def controls(clang: None) -> emulator.Library:
    return emulator.compile(KERNELS / "controls.metal")
