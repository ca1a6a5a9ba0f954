"""Examines the machine: what it has, which kernels are in force and why, and whether each agrees with the reference."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from inference.errors import GlasschatError
from inference.machine import available_memory, cache_directory, core_count, processor_name

COMPILERS = ("c++", "clang++", "g++")
ROOM_NEEDED = 200 * 2**20
"""Free disk, in bytes, below which chats and caches are at risk."""


class Status(StrEnum):
    OK = "ok"
    NOTE = "note"
    """Works, but less well than it could."""
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `advice` says what to do where the status is not ok."""

    subject: str
    status: Status
    detail: str
    advice: str = ""


def examine(kernels: str, chats: Path) -> Iterator[Finding]:
    """Look at one thing after another, the quick ones first. `chats` is the directory that chats are kept in."""
    yield from (_python(), _machine(), _memory())
    yield from (_directory("chats", chats), _directory("cache", cache_directory()))
    yield _compiler()
    mlx = _mlx()
    yield mlx
    if mlx.status is not Status.FAIL:
        yield _native_kernels()
        yield from _operations(kernels)
        yield _demo_model()


def _python() -> Finding:
    packages = ", ".join(f"{name} {_version(name)}" for name in ("mlx", "textual", "transformers"))
    return Finding("python", Status.OK, f"{platform.python_version()} with {packages}")


def _machine() -> Finding:
    return Finding(
        "machine", Status.OK, f"{platform.system()} {platform.machine()}, {processor_name()}, {core_count()} cores"
    )


def _memory() -> Finding:
    free = available_memory()
    detail = f"{free / 2**30:.1f} GiB available"
    if free < 2**30:
        return Finding("memory", Status.NOTE, detail, "close other programs, or use a small num_kv_blocks")
    return Finding("memory", Status.OK, detail)


def _directory(subject: str, place: Path) -> Finding:
    advice = f"make it writable, or set GLASSCHAT_{'DATA' if subject == 'chats' else 'CACHE'} to another directory"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Finding(subject, Status.FAIL, f"{place} can't be written: {error.strerror}", advice)
    detail = f"{place}, {free / 2**30:.1f} GiB free"
    if free < ROOM_NEEDED:
        return Finding(subject, Status.NOTE, detail, "free some disk space, or chats will not be kept")
    return Finding(subject, Status.OK, detail)


def _compiler() -> Finding:
    names = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found:
        return Finding("C++ compiler", Status.OK, found)
    install = "xcode-select --install" if sys.platform == "darwin" else "your system's package for g++ or clang"
    return Finding(
        "C++ compiler",
        Status.NOTE,
        f"none found ({', '.join(names)}): native kernels can't be built here",
        f"install one ({install})",
    )


def _mlx() -> Finding:
    try:
        import mlx.core as mx
    except ImportError as error:
        return Finding("MLX", Status.FAIL, f"can't be imported: {error}", "install the package mlx (Linux: mlx[cpu])")
    if mx.metal.is_available():
        return Finding("MLX", Status.OK, f"Metal on {mx.device_info()['device_name']}")
    return Finding("MLX", Status.OK, "on the CPU: no Metal device here")


def _native_kernels() -> Finding:
    import metal_kernels

    native = metal_kernels.native
    if native is None:
        return Finding("native kernels", Status.NOTE, *metal_kernels.why_missing.split("; ", 1))
    levels = ", ".join(native.supported_levels())
    detail = f"built for MLX {native.built_for}, level {native.level()} of {levels}, {native.threads()} threads"
    return Finding("native kernels", Status.OK, detail)


def _operations(kernels: str) -> Iterator[Finding]:
    """The operation table in force, each entry compared with the reference in every type that a model may have."""
    import mlx.core as mx

    from inference.ops.agreement import compare
    from inference.ops.table import LAYER, OpTable

    for choice in OpTable.select(kernels).choices():
        if choice.implementation == "parts":
            yield Finding(choice.operation, Status.OK, f"by its parts, each compared by itself ({choice.reason})")
            continue
        results = [
            compare(choice.operation, choice.implementation, dtype) for dtype in (mx.float32, mx.bfloat16, mx.float16)
        ]
        errors = ", ".join(f"{r.dtype} {r.error:.0e}" if r.error else f"{r.dtype} exact" for r in results)
        detail = f"{choice.implementation} ({choice.reason}); difference from the reference: {errors}"
        if all(r.agrees for r in results):
            yield Finding(choice.operation, Status.OK, detail)
        else:
            wrong = next(r for r in results if not r.agrees)
            other = "parts" if choice.operation == LAYER else "reference"
            yield Finding(
                choice.operation,
                Status.FAIL,
                f"{detail}; {wrong.dtype} allows {wrong.tolerance:.0e}",
                f"start with --kernels {kernels},{choice.operation}={other}, and report this machine",
            )


def _demo_model() -> Finding:
    from inference.model.loader import load

    return _attempt("demo model", lambda: load("demo").info.path, "check out the directory assets/model again")


def _attempt(subject: str, action: Callable[[], str], advice: str) -> Finding:
    try:
        return Finding(subject, Status.OK, action())
    except GlasschatError as error:
        return Finding(subject, Status.FAIL, str(error), advice)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(missing)"
