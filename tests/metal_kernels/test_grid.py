"""Every kernel of every level against float64, by a program without Python and MLX: grid/.

At all levels that this processor has it runs the extension's own objects; those of ARM, compiled for it, run under
qemu, on processors with and without the instructions that they are for; the kernels for AMX run on a model of its
registers. All arrays end at pages that nobody may touch.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from metal_kernels.build import Missing, find_cmake
from tests.metal_kernels.conftest import ROOT

SOURCES = Path(__file__).parent / "grid"
CROSS_COMPILER = "aarch64-linux-gnu-g++"
ARM = ("portable", "neon", "dotprod", "i8mm")

Run = Callable[..., str]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def run(*command: str | Path) -> str:
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, (outcome.stdout + outcome.stderr)[-4000:]
    return outcome.stdout


def compiled(directory: Path, *configured: str | Path) -> Path:
    """What CMake has been, or is now, configured to make there, made anew where something changed since last time."""
    try:
        cmake = find_cmake()
    except Missing as reason:
        pytest.skip(str(reason))
    with open(directory / "lock", "w") as lock:  # tests may run in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        if configured:
            run(cmake, "-B", directory, *configured)
        run(cmake, "--build", directory, "--parallel", str(os.cpu_count() or 1))
    return directory


def build(name: str, compiler: str, *options: str) -> Path:
    directory = ROOT / "build" / "kernel-grid" / name
    directory.mkdir(parents=True, exist_ok=True)
    return compiled(directory, "-S", SOURCES, f"-DCMAKE_CXX_COMPILER={compiler}", *options) / "kernel_grid"


@pytest.fixture(scope="module")
def program(compiler: str) -> Path:
    """With the objects of the extension, which are made anew where their sources have changed."""
    extension = ROOT / "build" / "native"
    assert (extension / "CMakeCache.txt").exists(), "the extension has not been compiled here; make native does it"
    return build("native", compiler, f"-DKERNEL_OBJECTS={compiled(extension) / 'CMakeFiles' / '_native.dir' / 'cpu'}")


@pytest.fixture(scope="module")
def on_arm() -> Run:
    """Runs the program on an ARM processor by name."""
    qemu = next((path for name in ("qemu-aarch64-static", "qemu-aarch64") if (path := shutil.which(name))), None)
    if not (qemu and shutil.which(CROSS_COMPILER)):
        pytest.skip("no cross compiler for ARM, or no qemu: apt install g++-aarch64-linux-gnu qemu-user")
    system = ("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64")
    program = build("aarch64", CROSS_COMPILER, *system)
    return lambda processor, *arguments: run(qemu, "-cpu", processor, program, *arguments)


def test_every_level_of_this_processor(program: Path) -> None:
    levels = run(program).split()
    assert levels[0] == "portable"
    for level in levels:
        run(program, level)


OWN = ("dispatch", "int8", "probe")
"""What there is of its own above the level of NEON."""


@pytest.mark.parametrize(
    ("processor", "best", "subjects"),
    [("cortex-a72", "neon", ()), ("cortex-a76", "dotprod", OWN), ("max", "i8mm", OWN)],
)
def test_every_level_of_arm(on_arm: Run, processor: str, best: str, subjects: tuple[str, ...]) -> None:
    """Each on a processor that has no more than it needs: an instruction beyond would end the program."""
    levels = on_arm(processor).split()
    assert levels == list(ARM[: ARM.index(best) + 1])
    on_arm(processor, best, *subjects)


def test_plain_code_is_right_on_arm_too(on_arm: Run) -> None:
    on_arm("cortex-a72", "portable")


def test_a_level_that_the_processor_lacks_is_refused(program: Path) -> None:
    outcome = subprocess.run([program, "avx9"], capture_output=True, text=True, check=False)
    assert outcome.returncode == 2
    assert "avx9 is not a level of this processor" in outcome.stderr
