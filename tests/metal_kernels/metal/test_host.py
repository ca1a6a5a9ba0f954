"""The C++ that only Macs compile, on a stand-in for Metal: what it binds and launches, and where kernels come from."""

import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from tests.metal_kernels.conftest import PACKAGE
from tests.metal_kernels.metal.device import KERNELS

STAND_IN = Path(__file__).parent / "stand_in"
SOURCES = ("primitives/gpu_encode.cpp", "metal/launches.cpp", "metal/source.cpp")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "darwin", reason="here Metal itself is there")
def test_launches_are_encoded(compiler, tmp_path):
    mlx = Path(mx.__file__).parent
    program = tmp_path / "host"
    includes = [f"-I{place}" for place in (STAND_IN, PACKAGE, mlx / "include")]
    libraries = [f"-L{mlx / 'lib'}", "-lmlx", f"-Wl,-rpath,{mlx / 'lib'}", "-pthread"]
    sources = [str(STAND_IN / "host.cpp"), *(str(PACKAGE / each) for each in SOURCES)]
    flags = ("-std=c++20", "-O0", "-Wall", "-Wextra", "-Wno-unused-parameter", "-D_METAL_")
    command = [compiler, *flags, *includes, *sources, *libraries, "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-4000:]
    ran = subprocess.run([program, str(KERNELS)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
