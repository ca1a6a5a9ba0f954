"""What tests of the extension share: the compiled module, a compiler, and programs run in a fresh interpreter."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import metal_kernels
from metal_kernels.build import COMPILERS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "metal_kernels"


@pytest.fixture(scope="session")
def compiler():
    names = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    found = next((path for name in names if (path := shutil.which(name))), None)
    if not found:
        pytest.skip("no C++ compiler here")
    return found


@pytest.fixture
def native(compiler):
    """The compiled module. Where there is a compiler, its absence is a failure."""
    assert metal_kernels.native is not None, metal_kernels.why_missing
    levels, threads = metal_kernels.native.level(), metal_kernels.native.threads()
    yield metal_kernels.native
    metal_kernels.native.set_level(levels)
    metal_kernels.native.set_threads(threads)


@pytest.fixture
def python():
    """Runs a program in an interpreter of its own and returns what it printed."""

    def run(program, **environment):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GLASSCHAT_")}
        # Not in this directory, and with this checkout on the path rather than whatever is installed.
        outcome = subprocess.run(
            [sys.executable, "-c", program],
            cwd="/",
            env=kept | {"PYTHONPATH": str(ROOT)} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert outcome.returncode == 0, outcome.stderr
        return outcome.stdout.strip()

    return run
