"""Are a kernel's barriers needed, and would their absence be noticed? Leaves out one after the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from metal_kernels.emulator.library import Library, Report, compile, read_program
from metal_kernels.emulator.source import Barrier

Check = Callable[[Library], Iterable[Report]]
"""Launches kernels of a library. Gives what was reported, and may raise AssertionError about their results."""


@dataclass(frozen=True)
class Outcome:
    """What was noticed without a barrier: nothing, if it is not needed or not reached."""

    barrier: Barrier
    noticed: tuple[str, ...]

    def __str__(self) -> str:
        place = f"{Path(self.barrier.file).name}:{self.barrier.line}: {self.barrier.text}"
        return f"{place}: {self.noticed[0] if self.noticed else 'nobody misses it'}"


def barriers(path: str | Path, include_dirs: Sequence[str | Path] = ()) -> list[Barrier]:
    """The barriers of a file and of what it includes, in the order of the text."""
    return read_program(Path(path), [Path(directory) for directory in include_dirs]).barriers


def survey(
    path: str | Path, check: Check, include_dirs: Sequence[str | Path] = (), only: Collection[str] = ()
) -> Iterator[Outcome]:
    """Checks a file without each of its barriers in turn; `only` are the kernels that the check launches, if not all.

    Raises ValueError if the check has something against the file as it is: then it could not tell anything.
    """
    if against := _notice(check, compile(path, include_dirs, only=only)):
        raise ValueError(f"with all barriers: {against[0]}")
    for barrier in barriers(path, include_dirs):
        library = compile(path, include_dirs, only=only, drop_barrier=barrier.number)
        yield Outcome(barrier, _notice(check, library))


def _notice(check: Check, library: Library) -> tuple[str, ...]:
    try:
        return tuple(str(report) for report in check(library))
    except AssertionError as wrong:
        return (str(wrong) or "a wrong result",)
