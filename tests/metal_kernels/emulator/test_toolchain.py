"""Which compilers are taken, and that each way of switching threads works."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from metal_kernels import emulator
from metal_kernels.emulator import Output, toolchain

from .conftest import KERNELS, ORDERS


@pytest.fixture
def search() -> Iterator[None]:
    """The search for compilers begins anew, and what it finds is forgotten."""
    found = (toolchain.clang, toolchain._identity, toolchain._host_compiler)
    for each in found:
        each.cache_clear()
    yield
    for each in found:
        each.cache_clear()


def pretend(directory: Path, name: str, version: str) -> str:
    program = directory / name
    program.write_text(f"#!/bin/sh\necho 'Some clang version {version}'\n")
    program.chmod(0o755)
    return str(program)


def test_newest_installed_clang_goes_first(search: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    pretend(tmp_path, "clang++", "14.0.6")
    pretend(tmp_path, "clang++-17", "17.0.1")
    newest = pretend(tmp_path, "clang++-21", "21.1.0")
    assert toolchain.clang() == (newest,)


def test_old_clang_is_passed_over_for_the_package(
    search: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("the package ziglang is not installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    pretend(tmp_path, "clang++", "15.0.7")
    program, argument = toolchain.clang()
    assert (Path(program).name, argument) == ("zig", "clang")


def test_without_any_clang_the_message_says_what_to_install(
    search: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(emulator.MissingCompiler, match="`pip install ziglang` brings one"):
        emulator.compile(KERNELS / "controls.metal")


def test_without_any_host_compiler_the_message_says_what_to_install(
    search: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, "clang++-19", "19.1.7")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    (tmp_path / "clang++-19").rename(tmp_path / "clang++-18")
    monkeypatch.setattr(toolchain, "preprocess", lambda path, include_dirs: "")
    with pytest.raises(emulator.MissingCompiler, match=r"install g\+\+"):
        emulator.compile(KERNELS / "controls.metal")


def test_portable_switch_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What machines use for which there is no hand-written switch."""
    monkeypatch.setattr(toolchain, "RUNTIME_FLAGS", [*toolchain.RUNTIME_FLAGS, "-DEMULATOR_UCONTEXT"])
    library = emulator.compile(KERNELS / "controls.metal", only=["through_device_memory", "lanes_exchange"])
    for order in ORDERS:
        launch = library.launch(
            "through_device_memory", [Output(64, np.float32)], grid=(64,), threadgroup=(64,), order=order
        )
        assert launch.reports == []
        np.testing.assert_array_equal(launch.outputs[0], 64 - np.arange(64))


def test_what_was_not_used_for_long_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "CACHE", tmp_path)
    old, recent = tmp_path / "old.so", tmp_path / "recent.so"
    for path, age in ((old, 30), (recent, 1)):
        path.write_bytes(b"")
        os.utime(path, (time.time() - age * 24 * 3600,) * 2)
    library = emulator.compile(KERNELS / "barriers.metal")
    assert set(library.kernels) == {"below_largest"}
    assert (old.exists(), recent.exists()) == (False, True)


def test_compiled_files_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    emulator.compile(KERNELS / "barriers.metal")
    commands: list[str] = []
    run = toolchain.run

    def watched(command: list[str | Path], text: str | None = None) -> str:
        commands.append(str(command))
        return run(command, text)

    monkeypatch.setattr(toolchain, "run", watched)
    emulator.compile(KERNELS / "barriers.metal")
    assert [command for command in commands if "'-c'" in command] == []
