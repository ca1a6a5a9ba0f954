"""The kernel tests once more, on kernels that are compiled to notice what tests can't see: reads and writes out of
bounds, and what C++ leaves undefined."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from metal_kernels.build import PRELOADED

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "metal_kernels" / "build.py"
TESTS = tuple(f"tests/inference/ops/test_{name}.py" for name in ("native", "operations", "experts"))
OF_OURS = "native or experts"
"""Of operations that are computed in several ways, those that the kernels compute."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kernels_are_clean(compiler: str) -> None:
    built = subprocess.run([sys.executable, str(BUILD), "--sanitize"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    found = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in PRELOADED
    ]
    if not all(map(os.path.isabs, found)):
        pytest.skip(f"this compiler does not bring {' and '.join(PRELOADED)}")
    environment = os.environ | {
        "LD_PRELOAD": " ".join(found),
        "GLASSCHAT_NATIVE": str(ROOT / "build" / "native-sanitized"),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python itself keeps what it needs until the end
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "-k", OF_OURS, *TESTS],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, (tested.stdout + tested.stderr)[-4000:]
