"""Examines the machine: what it has, which kernels are in force and why, and whether each agrees with the reference."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from inference.errors import GlasschatError
from inference.machine import available_memory, cache_directory, core_count, processor_name

if TYPE_CHECKING:  # a machine without MLX is examined, too
    from inference.ops.table import OpChoice
    from inference.ops.verdicts import Race, Verdict

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


def examine(kernels: str, chats: Path, *, again: bool = False) -> Iterator[Finding]:
    """Look at one thing after another, the quick ones first. `chats` is the directory that chats are kept in.

    With `again`, what is known of our own kernels on this machine is found out anew.
    """
    yield from (_python(), _machine(), _memory())
    yield from (_directory("chats", chats), _directory("cache", cache_directory()))
    yield _compiler()
    mlx = _mlx()
    yield mlx
    if mlx.status is not Status.FAIL:
        yield _native_kernels()
        yield from _operations(kernels, again)
        yield from _tile_registers()
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
    try:
        mx.eval(mx.zeros(1))
    except RuntimeError as error:  # a Mac without a GPU, where MLX's memory would be the GPU's
        advice = "run it where there is a Metal device: some virtual machines and sandboxes have none"
        return Finding("MLX", Status.FAIL, f"can't compute here: {str(error).splitlines()[0]}", advice)
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
    if native.gpu_in_use():
        library = native.metal_library()
        how = f"from {Path(library).name}" if library else "compiled when they are first used"
        detail += f"; on this GPU those for Metal are used, {how}"
    return Finding("native kernels", Status.OK, detail)


def _operations(kernels: str, again: bool) -> Iterator[Finding]:
    """The operation table in force for the demo model, and what is known of our own kernels.

    Operations that multiply by a matrix come once more for each type that `activations` rounds to, with quantized
    matrices beside the demo model's own.
    """
    from inference.model.loader import demands_of
    from inference.ops.cases import CONCERNS
    from inference.ops.demands import ORDINARY
    from inference.ops.proof import filed_under, proven, trusted
    from inference.ops.verdicts import verdicts
    from inference.protocol import ACTIVATIONS

    known = verdicts()
    if again:
        known.forget()
    try:
        demands = demands_of("demo")
    except GlasschatError:
        demands = ORDINARY
    shown: set[str] = set()
    for activations in ACTIVATIONS:
        exact = activations == "exact"
        asked = demands if exact else replace(demands, matrices=ORDINARY.matrices, activations=activations)
        found = proven(asked)
        for choice in trusted(kernels, asked).choices():
            if exact or "activations" in CONCERNS[choice.operation]:
                yield _operation(choice, found.get(choice.operation), kernels, activations)
        shown |= {filed_under(operation, asked) for operation in found}
    for what, verdict in known.items():
        if what not in shown:
            yield _kept(what, verdict)
    if known:
        yield Finding("kernels", Status.OK, f"{len(known)} verdicts in {known.path}; --again finds them anew")


def _kept(what: str, verdict: Verdict) -> Finding:
    """A verdict on what another model, or another option, asks for."""
    if verdict.limit:
        return Finding("kernels", Status.OK, f"{what}: ours is not made for this: {verdict.limit}")
    if verdict.failure:
        return Finding("kernels", Status.FAIL, f"{what}: ours is not used, it fails: {verdict.failure}", _REPORT)
    if not verdict.agrees:
        return Finding("kernels", Status.FAIL, f"{what}: ours is not used, it differs by {verdict.error:.0e}", _REPORT)
    if not verdict.earns:
        return Finding("kernels", Status.NOTE, f"{what}: ours is not used{_pace(verdict)}", _AGAIN)
    return Finding("kernels", Status.OK, f"{what}: ours agrees{_pace(verdict)}")


_REPORT = "report this machine; until then others compute it"
_AGAIN = "if the machine was busy when that was measured: glasschat doctor --again"


def _operation(choice: OpChoice, verdict: Verdict | None, kernels: str, activations: str) -> Finding:
    """One operation, the implementation in force compared with the reference in every type that a model may have."""
    from inference.ops.agreement import compare
    from inference.ops.cases import CONCERNS
    from inference.ops.demands import ORDINARY
    from inference.ops.kv_store import FLOATS, INTEGERS
    from inference.ops.table import LAYER

    name = choice.operation
    subject = name if activations == "exact" else f"{name}, {activations}"
    why = f"{choice.implementation} ({choice.reason}{_pace(verdict) if verdict else ''})"
    if verdict and not verdict.agrees and not verdict.limit:
        return Finding(subject, Status.FAIL, why, _REPORT)
    if choice.implementation == "parts":
        return Finding(subject, Status.OK, f"{why}, each compared by itself")
    results = [
        compare(name, choice.implementation, replace(ORDINARY, dtype=dtype, kv=kv, activations=activations))
        for dtype in FLOATS
        for kv in (dtype, *(INTEGERS if "kv" in CONCERNS[name] else ()))
    ]
    worst = {dtype: max(r.error for r in results if r.dtype == dtype) for dtype in FLOATS}
    errors = ", ".join(f"{dtype} {error:.0e}" if error else f"{dtype} exact" for dtype, error in worst.items())
    detail = f"{why}; difference from the reference: {errors}"
    wrong = next((r for r in results if not r.agrees), None)
    if wrong is None:
        return Finding(subject, Status.OK, detail)
    other = "parts" if name == LAYER else "reference"
    advice = f"start with --kernels {kernels},{name}={other}, and report this machine"
    return Finding(subject, Status.FAIL, f"{detail}; {wrong.dtype} allows {wrong.tolerance:.0e}", advice)


def _tile_registers() -> Iterator[Finding]:
    """Those of a processor with AMX, for each way of rounding activations, until they turn out to be no good."""
    from inference.ops.demands import ORDINARY
    from inference.ops.tiles import settle

    for activations in ("int8", "bfloat16"):
        verdict = settle(ORDINARY.under(activations, ORDINARY.kv))
        if verdict is None:
            return
        what = f"{activations} products of many rows"
        if not verdict.agrees:
            detail = f"{what} by AMX are not used, they differ by {verdict.error:.0e} from those without"
            yield Finding("tile registers", Status.FAIL, detail, _REPORT)
        elif not verdict.earns:
            yield Finding("tile registers", Status.NOTE, f"{what} by AMX are not used{_pace(verdict)}", _AGAIN)
        else:
            yield Finding("tile registers", Status.OK, f"{what} by AMX agree with those without{_pace(verdict)}")


def _pace(verdict: Verdict) -> str:
    """How fast one of our own kernels was, beside the others, on its day."""
    if not verdict.races:
        return ""
    ratios = ", ".join(f"{r.ratio:.1f}× as fast for {_of(r)}" for r in verdict.races)
    return f": {ratios}, measured {verdict.day}"


def _of(race: Race) -> str:
    rows = f"{race.rows} row{'s' * (race.rows > 1)}"
    return f"{rows} of the head" if race.step.endswith("head") else rows


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
