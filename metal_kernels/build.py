"""Compiles the extension and puts it beside this file: `python metal_kernels/build.py`, or `make native`.

Why not a build backend that compiles at `pip install`: the app has to install where there is no compiler, and a backend
that is told to go on without the extension (scikit-build-core's `if.failed`) then also goes on, silently, when a source
has a mistake. Its build environment needs a second download of MLX, too, and its editable installs put an import hook
into every start. Here a failure is one message, what is installed stays plain files, and after a change only the
changed sources are compiled.

Only the standard library is used, and the package itself is not imported: the extension in it may be the broken one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
COMPILERS = ("c++", "g++", "clang++")
MAKE_VARIABLES = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
OLDEST_CMAKE = (3, 25)
SANITIZERS = "address,undefined"
"""As the compiler spells them: what is out of bounds, and what C++ leaves undefined."""
PRELOADED = ("libasan.so", "libubsan.so", "libstdc++.so.6")
"""The sanitizers look for C++'s exceptions when they are loaded, which is before Python asks for them."""


class Missing(Exception):
    """Something that a build needs is not here, or failed."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Compiles glasschat's native kernels.")
    about = "with checks for memory and undefined behaviour, into build/native-sanitized, not beside the package"
    parser.add_argument("--sanitize", action="store_const", const=SANITIZERS, default="", help=about)
    sanitize = parser.parse_args().sanitize
    directory = PACKAGE.parent / "build" / ("native-sanitized" if sanitize else "native")
    try:
        began = time.monotonic()
        built = _build(directory, sanitize)
    except Missing as reason:
        if not sanitize:
            _remove_installed()  # it would be in force though its sources have changed
        print(f"native kernels: not built: {reason}", file=sys.stderr)
        print("native kernels: MLX's own operations are used; `make native` tries again", file=sys.stderr)
        return 1
    place = built if sanitize else _install(built)
    print(f"native kernels: built {_shown(place)} in {time.monotonic() - began:.0f} s")
    if sanitize:
        preload = " ".join(f"$({_compiler()} -print-file-name={name})" for name in PRELOADED)
        print(f'LD_PRELOAD="{preload}" GLASSCHAT_NATIVE={_shown(directory)} uses it')
    return 0


def _build(directory: Path, sanitize: str) -> Path:
    compiler = _compiler()
    _forget_other_builds(directory, compiler)
    cmake = find_cmake()
    log = directory / "log.txt"
    log.unlink(missing_ok=True)
    # Makefiles, not Ninja: make is here, this program is run by it.
    configure = (cmake, "-S", str(PACKAGE), "-B", str(directory), "-G", "Unix Makefiles")
    tools = (f"-DPython_EXECUTABLE={sys.executable}", f"-DCMAKE_CXX_COMPILER={compiler}")
    _run(log, *configure, *tools, f"-DGLASSCHAT_SANITIZE={sanitize}")
    jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(os.cpu_count() or 1)
    _run(log, cmake, "--build", str(directory), "--parallel", jobs)
    if not sanitize:  # a sanitizer has to be loaded before Python
        _try_out(directory)
    return next(directory.glob("_native.*.so"))


def _try_out(directory: Path) -> None:
    """A linker leaves what it does not find to be found when the extension is loaded."""
    settings = ("GLASSCHAT_CPU", "GLASSCHAT_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in settings}
    environment |= {"PYTHONPATH": str(PACKAGE.parent), "GLASSCHAT_NATIVE": str(directory)}
    program = "import sys, metal_kernels; sys.exit(metal_kernels.why_missing or 0)"
    outcome = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    if outcome.returncode:
        raise Missing(f"it compiles, but {outcome.stderr.strip() or 'Python crashes when it loads it'}")


def _compiler() -> str:
    names = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    found = next((path for name in names if (path := shutil.which(name))), None)
    if not found:
        raise Missing(f"no C++ compiler here ({', '.join(names)})")
    return found


def _forget_other_builds(directory: Path, compiler: str) -> None:
    """CMake remembers what it found and what it missed. That goes if it was for another Python or MLX, or no use."""
    try:
        packages = {name: version(name) for name in ("mlx", "nanobind")}
    except PackageNotFoundError as error:
        raise Missing(f"the package {error.name} is not installed; pip install -e '.[native]' brings it") from None
    wanted = json.dumps([sys.executable, sys.version, compiler, str(PACKAGE), packages])
    key = directory / "key.json"
    if not any(directory.glob("_native.*.so")) or not key.exists() or key.read_text() != wanted:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        key.write_text(wanted)


def find_cmake() -> str:
    """The system's, or else one from the package index."""
    own = Path(sys.executable).parent / "cmake"
    candidates = [path for path in (shutil.which("cmake"), str(own)) if path and os.access(path, os.X_OK)]
    for path in candidates:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.split()
        if len(said) > 2 and tuple(int(part) for part in said[2].split(".")[:2]) >= OLDEST_CMAKE:
            return path
    install = [sys.executable, "-m", "pip", "install", "--quiet", "cmake>=3.25"]
    if subprocess.run(install, check=False).returncode:
        raise Missing("no CMake 3.25 or newer here, and pip could not install one")
    return str(own)


def _run(log: Path, *command: str) -> None:
    # Without make's variables: CMake's make is no part of the one that may have started this program.
    environment = {name: value for name, value in os.environ.items() if name not in MAKE_VARIABLES}
    with open(log, "a") as output:
        outcome = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=environment, check=False)
    if outcome.returncode:
        print(*log.read_text(errors="replace").splitlines()[-40:], sep="\n", file=sys.stderr)
        raise Missing(f"{Path(command[0]).name} failed; {_shown(log)} has everything it said")


def _install(built: Path) -> Path:
    """In one step: a program that runs now keeps the file that it has mapped."""
    place = PACKAGE / built.name
    fresh = place.with_suffix(".new")
    shutil.copy2(built, fresh)
    os.replace(fresh, place)
    for other in PACKAGE.glob("_native.*.so"):
        if other != place:
            other.unlink()
    return place


def _remove_installed() -> None:
    for extension in PACKAGE.glob("_native.*.so"):
        extension.unlink()


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    sys.exit(main())
