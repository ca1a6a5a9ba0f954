"""Compiling the kernels beforehand, by a program in the place of Xcode's, and taking a library for those of its sources
alone."""

import os
import shutil
import subprocess
import sys

import pytest

from metal_kernels import metallib
from metal_kernels.emulator.library import read_program
from tests.metal_kernels.conftest import PACKAGE
from tests.metal_kernels.metal.device import KERNELS

# Writes its arguments down, and into what it was asked for what it was asked to make it of.
XCRUN = """#!/bin/sh
printf '%s\\n' "$*" >> "$XCRUN_LOG"
case "$*" in *"$XCRUN_FAILS"*) echo "$XCRUN_SAYS" >&2; exit 1;; esac
sources=""
while [ $# -gt 0 ]; do
    case "$1" in -o) out=$2; shift;; *.metal|*.air) sources="$sources $1";; esac
    shift
done
cat $sources > "$out"
"""


@pytest.fixture
def checkout(tmp_path):
    """The files that a library is made of and by, and nothing else."""
    package = tmp_path / "metal_kernels"
    package.mkdir()
    shutil.copytree(KERNELS, package / "metal")
    shutil.copy(PACKAGE / "metallib.py", package)
    return package


@pytest.fixture
def xcode(tmp_path):
    """What the program's environment is with Xcode, and where it writes down how it was called."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "xcrun").write_text(XCRUN)
    (tools / "xcrun").chmod(0o755)
    log = tmp_path / "log.txt"
    return {"PATH": f"{tools}:{os.environ['PATH']}", "XCRUN_LOG": str(log), "XCRUN_FAILS": "nothing"}, log


def _build(package, environment):
    command = [sys.executable, str(package / "metallib.py")]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def _found(package):
    return metallib.prebuilt(package, package / "metal")


def test_one_library_of_all_files_that_is_found(checkout, xcode):
    environment, log = xcode
    assert _found(checkout) is None
    outcome = _build(checkout, environment)
    assert outcome.returncode == 0, outcome.stderr
    library = _found(checkout)
    assert library.name in outcome.stdout
    assert [file.name for file in checkout.glob("*.metallib")] == [library.name]
    files = sorted(KERNELS.glob("*.metal"))
    assert library.read_bytes() == b"".join(file.read_bytes() for file in files)
    *compiled, linked = log.read_text().splitlines()
    assert len(compiled) == len(files)
    for call, file in zip(compiled, files, strict=True):
        assert call.startswith("-sdk macosx metal -x metal -std=metal3.1 ")
        assert "-fno-fast-math" in call
        assert '-DUNROLL=_Pragma("clang loop unroll(full)")' in call
        assert f"-c {checkout / 'metal' / file.name} -o " in call
    assert linked.startswith("-sdk macosx metal -mmacosx-version-min=14.0 ")


@pytest.mark.parametrize("file", ["rope.metal", "common.h", "params.h"])
def test_a_library_of_other_sources_is_not_taken(checkout, xcode, file):
    environment, _ = xcode
    assert _build(checkout, environment).returncode == 0
    before = _found(checkout)
    source = checkout / "metal" / file
    original = source.read_text()
    source.write_text(original + "\n")
    assert _found(checkout) is None
    assert _build(checkout, environment).returncode == 0
    after = _found(checkout)
    assert after != before
    assert not before.exists()
    source.write_text(original)
    assert _found(checkout) is None


def test_other_flags_make_another_library(monkeypatch):
    before = metallib.digest()
    monkeypatch.setattr(metallib, "FLAGS", (*metallib.FLAGS, "-ffast-math"))
    assert metallib.digest() != before


def test_without_xcode_it_says_so(checkout, tmp_path):
    outcome = _build(checkout, {"PATH": str(tmp_path)})
    assert outcome.returncode == 1
    assert (
        outcome.stderr == "Metal kernels: not compiled beforehand: there is no xcrun here: it takes a Mac with Xcode\n"
    )


@pytest.mark.parametrize(
    ("at", "says", "advice"),
    [
        ("rope.metal", "rope.metal:12: error: no such thing", "metal failed\n"),
        ("-c ", "cannot execute tool 'metal' due to missing Metal Toolchain", "-downloadComponent MetalToolchain"),
        ("all.metallib", "ld: broken", "metal failed\n"),
    ],
)
def test_what_the_compiler_says_is_passed_on_and_the_old_library_stays(checkout, xcode, at, says, advice):
    environment, _ = xcode
    assert _build(checkout, environment).returncode == 0
    library = _found(checkout)
    outcome = _build(checkout, environment | {"XCRUN_FAILS": at, "XCRUN_SAYS": says})
    assert outcome.returncode == 1
    assert outcome.stderr.startswith(says)
    assert advice in outcome.stderr
    assert _found(checkout) == library


def test_the_flags_say_what_the_source_says_at_run_time():
    """Both ways the same text is compiled: what is defined before it is the same."""
    from metal_kernels._native import MetalLaunches

    (flag,) = [flag for flag in metallib.FLAGS if flag.startswith("-DUNROLL=")]
    text = MetalLaunches.source(str(KERNELS), "rope", "f16")
    assert f"#define UNROLL {flag.removeprefix('-DUNROLL=')}\n" in text


def test_kernels_of_one_library_have_names_of_their_own():
    names = [name for file in KERNELS.glob("*.metal") for name in read_program(file, [KERNELS]).kernels]
    assert len(names) == len(set(names))


def test_the_package_takes_the_library_beside_it(checkout, xcode, tmp_path, python):
    """The extension is told of it when it is loaded."""
    environment, _ = xcode
    shutil.copy(PACKAGE / "__init__.py", checkout)
    (checkout / "_native.py").write_text(
        "built_for = runs_on = '1'\nsmoke = lambda x: x\nlevel = threads = lambda: 0\n"
        "def metal_kernels_in(directory, library):\n    global told\n    told = directory, library\n"
    )
    report = "import metal_kernels as m; print(*m.native.told, sep='|')"
    assert python(report, PYTHONPATH=str(tmp_path)) == f"{checkout / 'metal'}|"
    assert _build(checkout, environment).returncode == 0
    assert python(report, PYTHONPATH=str(tmp_path)) == f"{checkout / 'metal'}|{_found(checkout)}"
    with open(checkout / "metal" / "rope.metal", "a") as file:
        file.write("\n")
    assert python(report, PYTHONPATH=str(tmp_path)) == f"{checkout / 'metal'}|"
