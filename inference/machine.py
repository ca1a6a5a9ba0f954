"""Plain facts about the machine, for sizing, reports and the doctor."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from pathlib import Path

from inference.paths import expanded

_SYSTEM = platform.system()
"""Asked at run time: a type checker takes `sys.platform` for a constant and calls the other branches dead."""


def processor_name() -> str:
    """As its maker calls it, or the architecture where the system does not tell."""
    if _SYSTEM == "Darwin":
        return _ask("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    try:
        with open("/proc/cpuinfo") as info:
            names = (line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
            return next(names, platform.machine())
    except OSError:
        return platform.machine()


def core_count() -> int:
    """Cores that this process may use."""
    if _SYSTEM == "Linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory() -> int:
    """Bytes that can be taken without swapping, as far as the system tells."""
    if _SYSTEM == "Linux":
        with suppress(OSError), open("/proc/meminfo", encoding="ascii") as info:
            for line in info:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    if _SYSTEM == "Darwin" and (total := _ask("sysctl", "-n", "hw.memsize")):
        # macOS gives up caches and compresses memory on demand; half of all is a cautious guess at what is to be had.
        return int(total) // 2
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def cache_directory() -> Path:
    """Where glasschat keeps what it can make again: $GLASSCHAT_CACHE, or the platform's cache directory."""
    import platformdirs

    named = os.environ.get("GLASSCHAT_CACHE")
    return expanded(named) if named else Path(platformdirs.user_cache_dir("glasschat"))


def _ask(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
