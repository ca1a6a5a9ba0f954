"""Metal files, compiled, and their kernels run."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metal_kernels.emulator import toolchain
from metal_kernels.emulator.arrays import Scalar, Value
from metal_kernels.emulator.memory import Buffer, Memory
from metal_kernels.emulator.source import POSITIONS, Kernel, Program
from metal_kernels.emulator.words import SourceError

KINDS = (
    "out-of-bounds",
    "write-to-input",
    "never-written",
    "race",
    "uninitialised",
    "divergence",
    "threadgroup-memory",
    "undefined",
    "constant-not-set",
    "stuck",
)
LONGEST = 100  # seconds that a launch may take: a kernel that waits for ever has to end, too
_MOST_THREADS = 1024
_MOST_ARGUMENTS = 31
_REPORTS = 32

_PROLOGUE = """#include "entry.h"
#ifdef EMU_ADDRESS_SPACES
#define device __attribute__((address_space(1)))
#define constant const __attribute__((address_space(2)))
#define threadgroup __attribute__((address_space(3)))
#else
#define device
#define constant const
#define threadgroup
#endif
#define thread
"""
_EPILOGUE = """
# 1 "entry points"
#undef device
#undef constant
#undef threadgroup
#undef thread
"""


class CompileError(Exception):
    """A file that does not compile; the message names its line."""


@dataclass(frozen=True)
class Report:
    """Something that a kernel does wrong, and the line that does it. `kind` is one of `KINDS`."""

    kind: str
    message: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line}: {self.kind}: {self.message}"


@dataclass(frozen=True)
class Launch:
    """What a launch left: the outputs and the buffers changed in place, by their order among the buffers, and what
    was wrong. `threadgroup_bytes` is what one threadgroup has."""

    outputs: list[Any]
    reports: list[Report]
    threadgroup_bytes: int


def compile(
    path: str | Path | Sequence[str | Path],
    include_dirs: Sequence[str | Path] = (),
    checked: bool = True,
    only: Collection[str] = (),
    drop_barrier: int = -1,
) -> Library:
    """Compiles Metal files, each for itself, as one library.

    Without `checked` kernels run several times faster and nothing is reported but what threads wait for in vain.
    `only` are the kernels to compile, if not all: each instance of a template takes its time. `drop_barrier` leaves
    out one barrier of a single file, as `mutation` does. Raises CompileError, and MissingCompiler where there is none.
    """
    paths = [Path(path)] if isinstance(path, (str, Path)) else [Path(p) for p in path]
    includes = [Path(directory) for directory in include_dirs]
    programs = [read_program(p, includes, drop_barrier) for p in paths]
    names = [name for program in programs for name in program.kernels]
    if len(set(names)) != len(names):
        raise CompileError("the files have kernels of the same name")
    if missing := sorted(set(only).difference(names)):
        raise CompileError(f"{', '.join(map(str, paths))}: there is no kernel {missing[0]}")
    return Library([_Unit(program, checked, only) for program in programs])


def read_program(path: Path, include_dirs: Sequence[Path], drop_barrier: int = -1) -> Program:
    """A file, preprocessed and rewritten. Raises CompileError."""
    if not path.is_file():
        raise CompileError(f"{path}: there is no such file")
    try:
        return Program(toolchain.preprocess(path, include_dirs), drop_barrier)
    except toolchain.Refused as refused:
        raise _compile_error(refused) from None
    except SourceError as error:
        raise CompileError(str(error)) from None


def _compile_error(refused: toolchain.Refused) -> CompileError:
    """A line for each error; all that the compiler said where none of it is about the source."""
    errors = toolchain.errors_in(str(refused))
    return CompileError("\n".join(f"{file}:{line}: {message}" for file, line, message in errors) or str(refused))


def whole_text(program: Program) -> str:
    """What clang compiles, but for the entry points: the shim and the rewritten source."""
    return _PROLOGUE + program.text + _EPILOGUE


def entries(kernels: Iterable[Kernel]) -> list[str]:
    return [_entry(number, kernel) for number, kernel in enumerate(kernels)]


def _entry(number: int, kernel: Kernel) -> str:
    """A function without parameters that calls the kernel with what the launch holds. The types are taken from the
    kernel itself."""
    values = []
    for i, parameter in enumerate(kernel.parameters):
        argument = f"::emulator::Argument<::emulator::Parameter<{i}, Type>>"
        if parameter.index >= 0:
            values.append(f"{argument}::{parameter.binding}({parameter.index})")
        elif what := POSITIONS[parameter.binding]:
            pointer = f"&emu_ids()->{what[1:]}" if what.startswith("&") else f"emu_ids()->{what}"
            values.append(f"{argument}::position({pointer})")
        else:
            values.append("32")
    return (
        f"namespace emu_entry_{number} {{ static auto* const kernel = &{kernel.function}; typedef decltype(+kernel) "
        f"Pointer; typedef __remove_cv(Pointer) Type; }}\n"
        f'extern "C" EMU_UNCHECKED void emu_kernel_{number}() {{ using namespace emu_entry_{number}; '
        f"(*kernel)({', '.join(values)}); }}\n"
    )


class _Unit:
    """One file's library."""

    def __init__(self, program: Program, checked: bool, only: Collection[str]) -> None:
        self.program, self.checked = program, checked
        self.kernels = {name: k for name, k in self.program.kernels.items() if not only or name in only}
        try:
            self.file = toolchain.compile_kernels(whole_text(program), entries(self.kernels.values()), checked)
        except toolchain.Refused as refused:
            raise _compile_error(refused) from None
        self.code = ctypes.CDLL(str(self.file))
        self.code.emu_launch.argtypes = [ctypes.POINTER(_Launch)]
        self.code.emu_set_constant.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
        self.number = {name: i for i, name in enumerate(self.kernels)}


class _Report(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int),
        ("line", ctypes.c_int),
        ("code", ctypes.c_ulonglong),
        ("other", ctypes.c_ulonglong),
        ("file", ctypes.c_char * 256),
        ("message", ctypes.c_char * 400),
    )


class _Launch(ctypes.Structure):
    _fields_ = (
        ("kernel", ctypes.c_void_p),
        ("buffers", ctypes.POINTER(Buffer)),
        ("buffer_count", ctypes.c_int),
        ("grid", ctypes.c_uint * 3),
        ("group", ctypes.c_uint * 3),
        ("threadgroup_bytes", ctypes.c_uint * _MOST_ARGUMENTS),
        ("order", ctypes.c_int),
        ("seed", ctypes.c_ulonglong),
        ("checked", ctypes.c_int),
        ("partial_simdgroups", ctypes.c_int),
        ("seconds", ctypes.c_int),
        ("report_count", ctypes.c_int),
        ("reports", _Report * _REPORTS),
        ("threadgroup_bytes_used", ctypes.c_ulonglong),
    )


class Library:
    """Kernels, by the names that a host would ask a Metal library for."""

    def __init__(self, units: Sequence[_Unit]) -> None:
        self._units = {name: unit for unit in units for name in unit.kernels}

    @property
    def kernels(self) -> Mapping[str, Kernel]:
        return {name: unit.kernels[name] for name, unit in self._units.items()}

    def launch(
        self,
        name: str,
        buffers: Sequence[Value],
        *,
        grid: Sequence[int],
        threadgroup: Sequence[int],
        threadgroup_memory: Mapping[int, int] | None = None,
        constants: Mapping[int, Scalar] | None = None,
        order: str | int = "forward",
        inputs_may_alias: Sequence[tuple[int, int]] = (),
        in_place: Sequence[int] = (),
        partial_simdgroups: bool = False,
    ) -> Launch:
        """Runs a kernel over a grid of threads, as Metal's dispatchThreads does.

        `buffers[i]` is bound to buffer(i): an array or bytes to read, an `Output` to write, None for an index that
        the kernel does not have. `in_place` are the arrays that the kernel may read and write; their new content is
        among the outputs, the arguments stay as they are. Each pair of `inputs_may_alias` is an input and an output
        that have the same memory. `threadgroup_memory` are the bytes of each threadgroup argument. `constants` are
        function constants by index. `order` is that in which threads run: "forward", "reverse" or the seed of a
        shuffle. Simdgroup functions that only some lanes reach are reported, unless `partial_simdgroups`.

        Raises ValueError for a launch that Metal would refuse, or that can't be meant.
        """
        if name not in self._units:
            raise ValueError(f"there is no kernel {name}; there are {', '.join(sorted(self._units)) or 'none'}")
        unit = self._units[name]
        kernel = unit.kernels[name]
        sizes = _three(grid, "grid"), _three(threadgroup, "threadgroup")
        threads = int(np.prod(sizes[1]))
        if threads > min(_MOST_THREADS, kernel.max_threads):
            raise ValueError(f"{name} takes {min(_MOST_THREADS, kernel.max_threads)} threads at most, not {threads}")
        memory = Memory(buffers, kernel, in_place, inputs_may_alias)
        launch = _Launch(
            kernel=ctypes.cast(getattr(unit.code, f"emu_kernel_{unit.number[name]}"), ctypes.c_void_p).value,
            buffers=memory.entries,
            buffer_count=len(memory.entries),
            checked=unit.checked,
            partial_simdgroups=partial_simdgroups,
            seconds=LONGEST,
        )
        launch.grid[:], launch.group[:] = sizes
        _set_threadgroup_memory(launch, kernel, threadgroup_memory or {})
        _set_order(launch, order)
        _set_constants(unit, constants or {})
        if unit.code.emu_launch(ctypes.byref(launch)) < 0:
            raise MemoryError("no room for the stacks of a threadgroup")
        return Launch(memory.outputs(), _reports(unit, kernel, launch), int(launch.threadgroup_bytes_used))


def _three(size: Sequence[int], what: str) -> tuple[int, int, int]:
    x, y, z = (*size, 1, 1, 1)[:3]
    if len(size) > 3 or min(x, y, z) < 1:
        raise ValueError(f"{what} is up to three sizes of at least 1, not {tuple(size)}")
    return int(x), int(y), int(z)


def _set_threadgroup_memory(launch: _Launch, kernel: Kernel, lengths: Mapping[int, int]) -> None:
    wanted = {p.index for p in kernel.parameters if p.binding == "threadgroup"}
    if wanted != set(lengths):
        raise ValueError(f"{kernel.name} has the threadgroup arguments {sorted(wanted)}, not {sorted(lengths)}")
    for index, length in lengths.items():
        if length < 16 or length % 16:
            raise ValueError(f"the length of threadgroup({index}) is a multiple of 16 bytes in Metal, not {length}")
        launch.threadgroup_bytes[index] = length


def _set_order(launch: _Launch, order: str | int) -> None:
    if isinstance(order, int):
        launch.order, launch.seed = 2, order
    elif order in ("forward", "reverse"):
        launch.order = ("forward", "reverse").index(order)
    else:
        raise ValueError(f'the order is "forward", "reverse" or a seed, not {order!r}')


_CONSTANT_TYPES = {
    "bool": np.uint8,
    "char": np.int8,
    "uchar": np.uint8,
    "short": np.int16,
    "ushort": np.uint16,
    "int": np.int32,
    "uint": np.uint32,
    "int32_t": np.int32,
    "uint32_t": np.uint32,
    "int16_t": np.int16,
    "uint16_t": np.uint16,
    "long": np.int64,
    "ulong": np.uint64,
    "half": np.float16,
    "float": np.float32,
}


def _set_constants(unit: _Unit, values: Mapping[int, Scalar]) -> None:
    """Function constants, as the type that the source declares: 3 may be an int, a uint or a float."""
    unit.code.emu_forget_constants()
    types = {constant.index: constant.type for constant in unit.program.constants}
    for index, value in values.items():
        if index not in types:
            raise ValueError(f"there is no function_constant({index}) in this file")
        kind = _CONSTANT_TYPES.get(types[index].split(" ")[-1])
        data = value if isinstance(value, bytes) else np.asarray(value).astype(kind).tobytes()
        if unit.code.emu_set_constant(index, data, len(data)) < 0:
            raise ValueError(f"function_constant({index}) is a {types[index]}, which has not {len(data)} bytes")


def _reports(unit: _Unit, kernel: Kernel, launch: _Launch) -> list[Report]:
    found = launch.reports[: launch.report_count]
    codes = [code for r in found for code in (r.code, r.other) if code]
    lines = toolchain.lines_of(unit.file, codes, str(toolchain.HERE))
    reports: list[Report] = []
    for r in found:
        file, line = r.file.decode(), r.line
        if not file:
            file, line = lines.get(r.code, (kernel.file, kernel.line))
        message = re.sub(r"\s+", " ", r.message.decode(errors="replace"))
        if r.other in lines:
            other_file, other_line = lines[r.other]
            message += f"; the first at {Path(other_file).name}:{other_line}"
        report = Report(KINDS[r.kind], message, file, line)
        if not any((p.kind, p.file, p.line) == (report.kind, report.file, report.line) for p in reports):
            reports.append(report)
    return reports
