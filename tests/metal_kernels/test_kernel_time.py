"""What the tests of the Metal kernels take is said, and held where that is asked for."""

import os
import subprocess
import sys

import pytest

from tests.kernel_time import MEASURED
from tests.metal_kernels.conftest import ROOT

BUSY = """
import time

def test_busy():
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
"""


@pytest.mark.parametrize(("processes", "most", "code"), [(0, None, 0), (0, 100, 0), (1, 0.2, 1)])
def test_time_is_said_and_held(tmp_path, processes, most, code):
    for place in (*MEASURED, "tests/app/"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / f"test_{len(place)}.py").write_text(BUSY)
    options = ["--rootdir=.", "-p", "tests.kernel_time", "-n", str(processes)]
    options += ["--kernel-seconds", str(most)] if most else []
    command = [sys.executable, "-m", "pytest", *options, "tests"]
    ran = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert "Metal kernels in the emulator: 1 s of processor time" in ran.stdout  # twice 0.3: not the other one's
    assert ("that is more than" in ran.stdout) == bool(code)
