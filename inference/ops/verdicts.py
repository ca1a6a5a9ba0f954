"""What was found out about our own kernels on this machine, kept in the cache directory for later starts.

One file for each device and state of the code: another machine's, or those of an older build, are never read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx

import metal_kernels
from inference.machine import cache_directory, core_count, processor_name
from inference.ops.native import on_gpu
from inference.ops.weights import runs_on_cpu

CLEARLY_SLOWER = 0.9
"""Below this ratio a kernel has lost: a near tie must not fall to one side today and to the other tomorrow."""
SLOWER = 1 / 1.05
"""The same where every step is looked at by itself: by so little clocks differ."""

_LOOKS = 3
"""Starts that must have found a kernel slow before it is left out for good."""


@dataclass(frozen=True, slots=True)
class Race:
    """Seconds of one step of an operation, by our own kernel and by MLX's operations."""

    step: str
    rows: int
    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        """How many times as fast ours is."""
        return self.theirs / max(self.ours, 1e-9)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one of our kernels agrees with the reference, and how fast it is."""

    error: float
    tolerance: float
    dtype: str
    races: tuple[Race, ...]
    """None where it does not agree."""
    day: str
    """When it was looked at, as YYYY-MM-DD."""
    looks: int = 1
    """How many starts looked at it."""
    limit: str = ""
    """Why the kernel does not take such a model, in its own words; empty where it does."""
    failure: str = ""
    """What it raised, where it failed."""
    by_step: bool = False
    """Whether it has to keep up in every step, as on a GPU, where each was timed many times in a row; else on average,
    as beside whatever else a processor does."""

    @property
    def agrees(self) -> bool:
        return self.error <= self.tolerance  # False for NaN

    @property
    def ratio(self) -> float:
        """How many times as fast as MLX's own operations, on average over the steps, or `by_step` in the worst of them;
        0 where it was not timed."""
        if not self.races:
            return 0.0
        if self.by_step:
            return min(race.ratio for race in self.races)
        return math.exp(sum(math.log(max(race.ratio, 1e-9)) for race in self.races) / len(self.races))

    @property
    def earns(self) -> bool:
        """Whether it is used where nothing is asked for by name."""
        return self.agrees and self.ratio >= (SLOWER if self.by_step else CLEARLY_SLOWER)

    @property
    def final(self) -> bool:
        """Whether a later start need not look again, as at what was slow: the machine may have been busy."""
        return self.earns or not self.agrees or self.looks >= _LOOKS

    def after(self, earlier: Verdict | None) -> Verdict:
        """This one and an earlier one together: each computation's best time counts, whenever it was."""
        if earlier is None or not (self.agrees and earlier.agrees):
            return self
        races = tuple(
            replace(now, ours=min(now.ours, before.ours), theirs=min(now.theirs, before.theirs))
            for now, before in zip(self.races, earlier.races, strict=True)
        )
        return replace(self, races=races, looks=earlier.looks + 1)


class Verdicts(Mapping[str, Verdict]):
    """Those of one file, by what was looked at; see `cases.CONCERNS`."""

    def __init__(self, path: Path, origin: Mapping[str, str]) -> None:
        """A file that is damaged, or of another origin, counts as none."""
        self.path = path
        self._origin = dict(origin)
        self._found = self._read()
        self._looked: set[str] = set()

    def __getitem__(self, what: str) -> Verdict:
        return self._found[what]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def needed(self, what: str) -> bool:
        """Whether to look at something in this process: it is not known, or not for good."""
        return what not in self._found or not (self._found[what].final or what in self._looked)

    def forget(self) -> None:
        """So that all is looked at again."""
        self._found = {}
        self._looked.clear()
        with suppress(OSError):
            self.path.unlink()

    def add(self, found: Mapping[str, Verdict]) -> None:
        """Keep more, beside what another engine may have written meanwhile. Where the disk refuses, only in memory."""
        merged = {what: each.after(self._found.get(what)) for what, each in found.items()}
        self._found = self._read() | self._found | merged
        self._looked |= found.keys()
        kept = {"origin": self._origin, "verdicts": {what: asdict(each) for what, each in self._found.items()}}
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.stem)
            try:
                with open(handle, "w", encoding="utf-8") as file:
                    json.dump(kept, file, indent=1)
                os.replace(name, self.path)
            except OSError:
                os.unlink(name)
                raise

    def _read(self) -> dict[str, Verdict]:
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            if kept["origin"] != self._origin:
                return {}
            return {str(what): _verdict(each) for what, each in kept["verdicts"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}


def _verdict(kept: Any) -> Verdict:
    """Raises TypeError, ValueError or KeyError for what is none."""
    races = tuple(
        Race(str(race["step"]), int(race["rows"]), float(race["ours"]), float(race["theirs"])) for race in kept["races"]
    )
    if any(not 0 < seconds < math.inf for race in races for seconds in (race.ours, race.theirs)):
        raise ValueError("a race without times")
    return Verdict(
        error=float(kept["error"]),
        tolerance=float(kept["tolerance"]),
        dtype=str(kept["dtype"]),
        races=races,
        day=str(kept["day"]),
        looks=int(kept["looks"]),
        limit=str(kept["limit"]),
        failure=str(kept["failure"]),
        by_step=bool(kept["by_step"]),
    )


def verdicts() -> Verdicts:
    """Those of this machine and this code, read once in a process."""
    return _opened(cache_directory() / "kernels", *origin().items())


@cache
def _opened(folder: Path, *origin: tuple[str, str]) -> Verdicts:
    named = hashlib.sha256(json.dumps(origin).encode()).hexdigest()[:16]
    return Verdicts(folder / f"{named}.json", dict(origin))


def origin() -> dict[str, str]:
    """What verdicts hold for: the device, how much of it is used, and the code that computes."""
    native = metal_kernels.native
    cpu = runs_on_cpu()
    return {
        "device": processor_name() if cpu else str(mx.device_info()["device_name"]),
        # Apple calls a processor and its GPU the same.
        "kernels": "GPU" if on_gpu() else "CPU",
        "library": Path(native.metal_library()).name if on_gpu() and native else "",
        # Its compiler makes a GPU's programs of the kernels.
        "system": platform.release() if on_gpu() else "",
        "cores": str(core_count()),
        "threads": str(native.threads()) if native else "",
        "level": native.level() if native else "",
        "mlx": version("mlx"),
        "code": _code(),
    }


@cache
def _code() -> str:
    """A hash of the kernels and of what calls them."""
    native, here = metal_kernels.native, Path(__file__).parent
    library = [Path(native.__file__)] if native and native.__file__ else []
    sources = [file for folder in metal_kernels.__path__ for file in sorted((Path(folder) / "metal").glob("*.*"))]
    files = [*library, *sources, *sorted(here.glob("*.py"))]
    total = hashlib.sha256()
    for file in files:
        total.update(file.name.encode() + b"\0" + file.read_bytes())
    return total.hexdigest()[:16]
