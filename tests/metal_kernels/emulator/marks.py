"""The lines of a kernel file that say what is to be found there: `// <- kind`, or `// <- kernel: kind, kind`."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from metal_kernels.emulator import toolchain

Place = tuple[str, str, int]
"""A kind, the file's name and the line."""


def told(places: set[Place]) -> set[Place]:
    """Of places what can be told on this machine: the kinds, where nothing finds lines."""
    return places if toolchain.line_tool() else {(kind, "", 0) for kind, _, _ in places}


def of_kernels(*files: Path) -> dict[str, set[Place]]:
    """By kernel. A mark that names none belongs to the kernel that it stands in."""
    found: dict[str, set[Place]] = defaultdict(set)
    for file in files:
        kernel = ""
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if begins := re.match(r"kernel void (\w+)", line):
                kernel = begins[1]
            if mark := re.search(r"// <- (?:(\w+): )?(.+)$", line):
                for kind in mark[2].split(", "):
                    found[mark[1] or kernel].add((kind, file.name, number))
    return dict(found)


def of_file(file: Path) -> set[Place]:
    lines = enumerate(file.read_text().splitlines(), 1)
    return {
        (rule, file.name, number)
        for number, line in lines
        if (mark := re.search(r"// <- (.+)$", line))
        for rule in mark[1].split(", ")
    }
