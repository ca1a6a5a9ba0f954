"""build.py: what it does without a compiler, with a mistake in a source, and after a change."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.metal_kernels.conftest import ROOT


@pytest.fixture
def checkout(tmp_path):
    """A copy of the program's own directories, without anything built."""
    for room in ("app", "inference", "metal_kernels"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    return tmp_path


def run(checkout, *arguments, **environment):
    places = {"PYTHONPATH": str(checkout), "GLASSCHAT_DATA": str(checkout / "data")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=checkout,
        env=os.environ | places | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def small_extension(checkout):
    """Two sources in the checkout instead of the kernels, which have been compiled before any test runs."""
    package = checkout / "metal_kernels"
    for source in (*package.glob("*/*.cpp"), package / "bindings.cpp"):
        if source.name != "features.cpp":
            source.unlink()
    shutil.copy(ROOT / "tests/metal_kernels/small_extension/bindings.cpp", package)


def build(checkout, **environment):
    return run(checkout, "metal_kernels/build.py", **environment)


def extensions(checkout):
    return list((checkout / "metal_kernels").glob("_native.*.so"))


@pytest.mark.parametrize("compiler", ["no-such-compiler", shutil.which("false")])
def test_without_a_compiler_the_app_still_runs(checkout, compiler):
    left_over = checkout / "metal_kernels" / "_native.old.so"
    left_over.touch()
    outcome = build(checkout, CXX=compiler)
    assert outcome.returncode == 1
    assert "native kernels: not built" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not left_over.exists()

    answer = run(checkout, "-m", "app.cli", "run", "-p", "hi", "--max-tokens", "2", CXX=compiler)
    assert answer.returncode == 0, answer.stderr
    report = run(checkout, "-m", "app.cli", "doctor", CXX=compiler)
    assert report.returncode == 0, report.stdout
    assert "note  native kernels" in report.stdout
    assert "make native" in report.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("compiler", "small_extension")
def test_a_checkout_is_built_and_built_again_after_changes(checkout):
    outcome = build(checkout)
    assert outcome.returncode == 0, outcome.stderr
    (extension,) = extensions(checkout)
    report = "import metal_kernels as m; print(m.native and m.native.__file__, m.why_missing)"
    assert run(checkout, "-c", report).stdout.startswith(str(extension))

    # Only what changed is compiled.
    features = checkout / "metal_kernels" / "cpu" / "features.cpp"
    features.touch()
    assert build(checkout).returncode == 0
    compiled = [line for line in (checkout / "build/native/log.txt").read_text().splitlines() if "Building" in line]
    assert len(compiled) == 1
    assert "features" in compiled[0]

    # A source with a mistake: said, and the extension from before is not used in its place.
    original = features.read_text()
    features.write_text(original + "\n#error a mistake\n")
    outcome = build(checkout)
    assert outcome.returncode == 1
    assert "a mistake" in outcome.stderr
    assert not extensions(checkout)
    features.write_text(original)
    assert build(checkout).returncode == 0
    assert extensions(checkout)
