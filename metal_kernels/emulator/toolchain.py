"""The compilers: clang for kernels, since g++ has neither Metal's vectors nor bfloat, and the machine's own C++
compiler for the runtime and for linking, since clang out of a Python package would first build its C++ library."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
# A source checkout has build/ beside the packages; it is ignored by git and removed by `make clean`.
CACHE = HERE.parents[1] / "build" / "emulator"
OLDEST_CLANG = 16
_NEWEST_CLANG = 30

# What Metal's standard library consists of. All of it is one file here.
_NAMES = (
    "array atomic common compute config extended_vector geometric integer limits math matrix numeric pack packed "
    "relational simdgroup simdgroup_matrix stdlib type_traits types uniform"
)
HEADERS = (*(f"metal_{name}" for name in shlex.split(_NAMES)), "simd/simd.h")

# Constants are float, as in Metal; half and bfloat are rounded after each operation; what is computed with infinities
# and NaNs is defined.
_KERNEL_FLAGS = shlex.split(
    "-x c++ -std=c++17 -O1 -gdwarf-4 -gline-tables-only -fPIC -nostdinc -nostdinc++ -fno-exceptions -fno-rtti "
    "-ffp-contract=on -flax-vector-conversions=none -fno-strict-aliasing -fno-math-errno -ferror-limit=20 "
    "-Xclang -cl-single-precision-constant -Xclang -ffloat16-excess-precision=none "
    "-Xclang -fbfloat16-excess-precision=none"
)
_CHECKS = shlex.split(
    "-fsanitize=thread,array-bounds,integer-divide-by-zero,signed-integer-overflow,alignment,return,unreachable "
    "-mllvm -tsan-instrument-read-before-write"
)
RUNTIME_FLAGS = ["-std=c++17", "-O2", "-fPIC"]
_KEPT = 14 * 24 * 3600  # seconds that a compiled file is kept after its last use


class MissingCompiler(Exception):
    """No compiler here that can do it; the message says what to install."""


class Refused(Exception):
    """What a compiler said against its input."""


def run(command: Sequence[str | Path], text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(done.stderr.strip() or f"{command[0]} failed with code {done.returncode}")
    return done.stdout


@functools.cache
def clang() -> tuple[str, ...]:
    """The command that is clang 16 or newer: an installed one, else the one in the package `ziglang`."""
    names = ("clang++", *(f"clang++-{version}" for version in range(_NEWEST_CLANG, OLDEST_CLANG - 1, -1)))
    for name in names:
        if (path := shutil.which(name)) and _clang_version((path,)) >= OLDEST_CLANG:
            return (path,)
    package = importlib.util.find_spec("ziglang")
    if package and package.origin:
        program = Path(package.origin).with_name("zig")
        if program.exists() and _clang_version((str(program), "clang")) >= OLDEST_CLANG:
            return (str(program), "clang")
    raise MissingCompiler(
        f"no clang {OLDEST_CLANG} or newer: `pip install ziglang` brings one, or install your system's clang"
    )


def _clang_version(command: tuple[str, ...]) -> int:
    try:
        said = run([*command, "--version"])
    except (OSError, Refused):
        return 0
    found = re.search(r"clang version (\d+)", said)
    return int(found[1]) if found else 0


@functools.cache
def _identity() -> str:
    """What else a compiled kernel depends on: the compilers, this machine, the shim and the runtime."""
    parts = [*clang(), run([*clang(), "--version"]), _host_compiler(), *_architecture()]
    parts += [path.read_text() for path in sorted([*HERE.glob("shim/*.h"), *HERE.glob("runtime/*")])]
    return "\n".join(parts)


@functools.cache
def _host_compiler() -> str:
    for name in filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")):
        if path := shutil.which(name):
            return path
    raise MissingCompiler("no C++ compiler: install g++, or on macOS the command line tools")


@functools.cache
def _architecture() -> tuple[str, ...]:
    """Which instructions: those of 2013's x86-64 where the machine has them, for the conversion of halves."""
    machine = platform.machine()
    target = (f"--target={machine}-linux-gnu",) if platform.system() == "Linux" else ()
    if machine != "x86_64":
        return target
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return (*target, "-march=x86-64-v3") if re.search(r"\bavx2\b", flags) and "f16c" in flags else target


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join((_identity(), *parts)).encode()).hexdigest()[:20]


def preprocess(path: Path, include_dirs: Sequence[Path]) -> str:
    """The file with its includes and macros resolved, and markers of where each line comes from."""
    includes = [f"-I{directory}" for directory in (_headers(), *include_dirs)]
    defined = ["-D__METAL__=1", "-D__METAL_VERSION__=310", "-D__APPLE__=1", "-D__METAL_MACOS__=1"]
    return run([*clang(), "-E", "-x", "c++", "-std=c++17", "-nostdinc", "-nostdinc++", *defined, *includes, path])


def _headers() -> Path:
    """A directory of headers with the names that Metal's have."""
    content = f'#pragma once\n#include "{HERE / "shim" / "constants.h"}"\n'
    directory = CACHE / f"headers-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    for name in HEADERS:
        if not (directory / name).exists():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            place(directory / name, content)
    return directory


def place(path: Path, content: str | bytes) -> None:
    """Writes a file that other processes see whole or not at all."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_bytes(content.encode() if isinstance(content, str) else content)
    draft.replace(path)


def compile_kernels(text: str, entries: Sequence[str], checked: bool) -> Path:
    """A shared library from C++ that includes the shim and the entry points behind it, made once for each text."""
    flags = [*_KERNEL_FLAGS, "-w", *_architecture(), *(_CHECKS if checked else [])]
    name = digest(text, *entries, *flags, *RUNTIME_FLAGS)
    library = CACHE / f"{name}.so"
    if library.exists():
        library.touch()
        return library
    CACHE.mkdir(parents=True, exist_ok=True)
    _remove_old()
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        parts = _parts(entries)
        with ThreadPoolExecutor(len(parts)) as pool:
            places = [Path(directory) / f"{i}.cpp" for i in range(len(parts))]
            texts = [text + "".join(part) for part in parts]
            compiled = list(pool.map(lambda place, text: _compile(place, text, flags), places, texts))
        linked = Path(directory) / "kernels.so"
        run([_host_compiler(), *_LINK, *compiled, *_runtime(), "-lm", "-o", linked])
        linked.replace(library)
    return library


# Each part of a library has all functions that are no templates, the same ones: the first is taken.
_LINK = ["-dynamiclib"] if platform.system() == "Darwin" else ["-shared", "-Wl,-Bsymbolic", "-Wl,-z,muldefs"]


def _parts(entries: Sequence[str]) -> list[Sequence[str]]:
    """Instances of templates take the time, so many of them are compiled side by side."""
    together = platform.system() != "Darwin" and len(entries) >= 8
    count = min(os.cpu_count() or 1, 8, len(entries) // 4) if together else 1
    return [entries[i::count] for i in range(count)]


def _compile(source: Path, text: str, flags: Sequence[str]) -> Path:
    source.write_text(text)
    compiled = source.with_suffix(".o")
    run([*clang(), *flags, f"-I{HERE / 'shim'}", f"-I{HERE / 'runtime'}", "-c", source, "-o", compiled])
    return compiled


def _remove_old() -> None:
    before = time.time() - _KEPT
    for path in CACHE.glob("*.*"):
        with contextlib.suppress(OSError):  # another process may be faster
            if path.is_file() and path.stat().st_mtime < before:
                path.unlink()


def _runtime() -> list[Path]:
    objects = []
    for source in sorted(HERE.glob("runtime/*.cpp")):
        compiled = CACHE / f"{source.stem}-{digest(source.stem, *RUNTIME_FLAGS)}.o"
        if not compiled.exists():
            draft = compiled.with_name(f"{compiled.name}.{os.getpid()}")
            run([_host_compiler(), *RUNTIME_FLAGS, "-c", source, "-o", draft])
            draft.replace(compiled)
        compiled.touch()
        objects.append(compiled)
    return objects


def check_syntax(text: str, *more: str) -> str:
    """What clang has against a text that includes the shim, with more flags; nothing if it has nothing."""
    flags = [*(flag for flag in _KERNEL_FLAGS if not flag.startswith("-g")), *more]
    answer = CACHE / f"{digest(text, *flags)}.txt"
    if not answer.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        includes = [f"-isystem{HERE / 'shim'}", f"-isystem{HERE / 'runtime'}"]  # not warned about
        try:
            run([*clang(), *flags, *_architecture(), *includes, "-fsyntax-only", "-"], text)
            place(answer, "")
        except Refused as refused:
            place(answer, str(refused))
    answer.touch()
    return answer.read_text()


_MESSAGE = re.compile(r"^(?P<file>.+?):(?P<line>\d+):\d+: (?P<what>fatal error|error|note): (?P<text>.*)$")


def errors_in(said: str) -> list[tuple[str, int, str]]:
    """Clang's errors by file and line: one in the shim belongs to the line of the source that led there."""
    found: list[tuple[str, int, str]] = []
    message = ""
    for line in said.splitlines():
        part = _MESSAGE.match(line)
        if not part:
            continue
        if part["what"] != "note":
            message = part["text"]
        if message and not part["file"].startswith((str(HERE), "entry points", "<")):
            found.append((part["file"], int(part["line"]), message))
            message = ""
    return found


@functools.cache
def line_tool() -> str | None:
    """What finds the line of an instruction: there is none on macOS, unless LLVM's is installed."""
    return shutil.which("addr2line") or shutil.which("llvm-addr2line")


def lines_of(library: Path, codes: Sequence[int], ours: str) -> dict[int, tuple[str, int]]:
    """The file and line of each offset in a library, of the innermost function that is not `ours`. None of them where
    there is no tool for it."""
    tool = line_tool()
    if not codes or not tool:
        return {}
    addresses = [hex(code - 1) for code in codes]  # of the call, not of what comes after it
    try:
        said = run([tool, "-a", "-i", "-e", library, *addresses])
    except Refused:
        return {}
    found: dict[int, tuple[str, int]] = {}
    code = 0
    for line in said.splitlines():
        if line.startswith("0x"):
            code = int(line, 16) + 1
            continue
        file, _, number = line.partition(" (")[0].rpartition(":")
        if code not in found and number.isdigit() and not file.startswith(ours):
            found[code] = (file, int(number))
    return found
