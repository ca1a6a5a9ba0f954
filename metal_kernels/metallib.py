"""Compiles the Metal kernels beforehand: `python metal_kernels/metallib.py`, or `make metallib`.

Nobody has to: without this library Metal compiles a file when one of its kernels is first asked for. With it the first
start takes less time. It takes a Mac with Xcode, for Xcode's `metal` is in no smaller package.

The library's name holds a digest of the sources and the flags, so that one of other sources is never taken for theirs.
Only the standard library is used.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
SOURCES = PACKAGE / "metal"
# As MLX compiles its own, and as it has sources compiled at run time: bfloat needs Metal 3.1, which is macOS 14, the
# oldest that MLX's wheels are for. UNROLL is what source.cpp puts there.
FLAGS = (
    *("-std=metal3.1", "-mmacosx-version-min=14.0", "-fno-fast-math", "-Wall", "-Wextra", "-Wmetal-addr-spaces"),
    *("-Wno-c++17-extensions", "-Wno-c++20-extensions", '-DUNROLL=_Pragma("clang loop unroll(full)")'),
)
_COMPILER = ("xcrun", "-sdk", "macosx", "metal")


class Failed(Exception):
    """Why there is no library, in one sentence."""


def digest(sources: Path = SOURCES) -> str:
    """Of everything that a library is made of."""
    total = hashlib.sha256("\0".join(FLAGS).encode())
    for file in sorted([*sources.glob("*.metal"), *sources.glob("*.h")]):
        total.update(b"\0" + file.name.encode() + b"\0" + file.read_bytes())
    return total.hexdigest()[:16]


def prebuilt(folder: Path = PACKAGE, sources: Path = SOURCES) -> Path | None:
    """The library in a folder that was made of these sources, if there is one."""
    if not any(folder.glob("*.metallib")):
        return None
    library = folder / _name(sources)
    return library if library.is_file() else None


def build(folder: Path = PACKAGE, sources: Path = SOURCES) -> Path:
    """Compile all kernels for all types into one library in `folder`, in place of what is there. Raises Failed."""
    if not shutil.which(_COMPILER[0]):
        raise Failed("there is no xcrun here: it takes a Mac with Xcode")
    with tempfile.TemporaryDirectory() as room:
        parts = []
        for file in sorted(sources.glob("*.metal")):
            parts.append(str(Path(room, f"{file.stem}.air")))
            _run((*_COMPILER, "-x", "metal", *FLAGS, "-c", str(file), "-o", parts[-1]))
        whole = Path(room, "all.metallib")
        _run((*_COMPILER, "-mmacosx-version-min=14.0", *parts, "-o", str(whole)))
        for other in folder.glob("*.metallib"):
            other.unlink()
        return Path(shutil.move(whole, folder / _name(sources)))


def _name(sources: Path) -> str:
    return f"kernels-{digest(sources)}.metallib"


def _run(command: Sequence[str]) -> None:
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    sys.stderr.write(outcome.stderr)  # warnings, too
    if outcome.returncode:
        toolchain = "missing Metal Toolchain" in outcome.stderr
        advice = ": xcodebuild -downloadComponent MetalToolchain brings it" if toolchain else ""
        raise Failed(f"{' '.join(_COMPILER)} failed{advice}")


def main() -> int:
    argparse.ArgumentParser(description="Compiles glasschat's Metal kernels into a library.").parse_args()
    try:
        library = build()
    except Failed as reason:
        print(f"Metal kernels: not compiled beforehand: {reason}", file=sys.stderr)
        return 1
    print(f"Metal kernels: compiled into {library.name}, {library.stat().st_size / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
