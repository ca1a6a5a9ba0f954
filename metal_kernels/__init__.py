"""Our own MLX primitives, compiled from the C++ beside this file.

`native` is the compiled module where it can be used on this machine, and None where it can't, with the reason in
`why_missing`. Importing this package never fails because of it: everything it computes can be computed without it.
Where `native` is there, `from metal_kernels import _native` is the same module with its types.
"""

import os
from pathlib import Path
from types import ModuleType

import mlx.core as mx  # before the extension: it registers the types and loads the library that the extension needs

_ADVICE = "`make native` in the source directory builds them and says what is missing"

_HERE = Path(__file__).resolve().parent

if _directory := os.environ.get("GLASSCHAT_NATIVE"):
    # An extension built elsewhere, with a sanitizer for example, goes before the one beside this file.
    __path__.insert(0, _directory)


def _load() -> tuple[ModuleType | None, str]:
    try:
        import metal_kernels._native as _native
    except ModuleNotFoundError:
        return None, f"the native kernels are not built; {_ADVICE}"
    except ImportError as error:
        return None, f"the native kernels can't be loaded ({error}); {_ADVICE}"
    if _native.built_for != _native.runs_on:
        return None, f"the native kernels are built for MLX {_native.built_for}, not {_native.runs_on}; {_ADVICE}"
    try:
        _native.smoke(mx.array(1))
    except TypeError:
        # Built with another nanobind than MLX's own: it loads, but takes mlx.core.array for a stranger.
        return None, f"the native kernels are built with a nanobind that MLX does not share; {_ADVICE}"
    except RuntimeError as error:
        return None, f"MLX can't compute here: {error}"
    try:
        _native.level(), _native.threads()
    except ValueError as error:  # from an environment variable
        return None, f"the native kernels are off: {error}"
    _native.metal_kernels_in(str(_HERE / "metal"), _library())
    return _native, ""


def _library() -> str:
    """The Metal kernels, compiled beforehand; see metallib.py. Nothing is imported or read where there is none."""
    if not any(_HERE.glob("*.metallib")):
        return ""
    from metal_kernels.metallib import prebuilt

    return str(prebuilt() or "")


native, why_missing = _load()
