"""A program while it runs: within limits of time and output, under a `keeper` that lets nothing of it survive."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets as random_names
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.tools.builtin import keeper
from inference.tools.definition import ToolError, visible

MARK = "GLASSCHAT_COMMAND"
"""The variable by which processes are known that have lost their keeper."""
_POLL = 0.02
"""Seconds between two looks at a running program."""
_PATIENCE = keeper.PATIENCE + 2
"""Seconds that the keeper gets to kill everything and end."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a program."""

    output: bytes
    """What it wrote, at most as much as was asked for."""
    ending: str
    """In a few words, such as "exit code 0"."""
    seconds: float


async def run(
    program: str,
    arguments: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    seconds: float,
    most_output: int,
) -> Ran:
    """Run a program in a directory, without input, until it ends, its time is up or it has written too much; then
    everything that it started is dead. So it is if this is cancelled, and if glasschat dies.

    `arguments` begin with the program's name. Raises ToolError if it can't be started.
    """
    began = time.monotonic()
    mark = random_names.token_hex(8)
    task = json.dumps([program, list(arguments), {**environment, MARK: mark}])
    output = bytearray()
    reading, writing = os.pipe()
    try:
        os.set_blocking(reading, False)
        watched = _start(task, directory, environment, writing)
        try:
            stopped = await _until_end(watched, reading, output, began + seconds, most_output)
        finally:
            # That alone makes the keeper kill all; here it is only waited for, and the app's loop goes on meanwhile.
            assert watched.stdin is not None
            watched.stdin.close()
            await _gone(watched)
            if not (told := _told(watched)).ending:
                await _sweep(told.pid, mark)
        _drain(reading, output, most_output)
    finally:
        os.close(reading)
    return Ran(bytes(output[:most_output]), _ending(program, told.ending, stopped), time.monotonic() - began)


def _start(task: str, directory: Path, environment: Mapping[str, str], writing: int) -> subprocess.Popen[bytes]:
    """The keeper; our end of the program's output is closed."""
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, task],
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=writing,
            start_new_session=True,
            bufsize=0,
        )
    except (OSError, ValueError) as error:
        raise ToolError(f"no program can be started in {visible(str(directory))}: {error}") from None
    finally:
        os.close(writing)


async def _until_end(
    watched: subprocess.Popen[bytes], reading: int, output: bytearray, deadline: float, most_output: int
) -> str:
    """Read until it ends; that the pipe stays open somewhere does not count. What ended it, if not itself.

    Polled, because the process of asyncio waits for the end of the pipe too, and for ever where nobody reads it.
    """
    while True:
        _drain(reading, output, most_output)
        if watched.poll() is not None:
            return ""
        if len(output) > most_output:
            return f"killed after {most_output:,} bytes of output"
        if time.monotonic() >= deadline:
            return "killed: its time was up"
        await asyncio.sleep(_POLL)


async def _gone(watched: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _PATIENCE
    while watched.poll() is None:
        if time.monotonic() > end:
            watched.kill()
        await asyncio.sleep(_POLL)


@dataclass(frozen=True, slots=True)
class _Told:
    """What the keeper said."""

    pid: int | None
    """Of the program, and of its process group."""
    ending: tuple[str, ...]
    """Empty if the keeper did not live to say it."""


def _told(watched: subprocess.Popen[bytes]) -> _Told:
    assert watched.stdout is not None
    with watched.stdout:
        lines = watched.stdout.read().decode().splitlines()
    return _Told(int(lines[0]) if lines else None, tuple(lines[1].split()) if len(lines) > 1 else ())


async def _sweep(pid: int | None, mark: str) -> None:
    """Kill what a program left whose keeper was killed: its process group, and on Linux what has its mark."""
    if pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    end = time.monotonic() + _PATIENCE
    while (strays := _marked(mark)) and time.monotonic() < end:
        for stray in strays:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(stray, signal.SIGKILL)
        await asyncio.sleep(_POLL)


def _marked(mark: str) -> list[int]:
    """Processes whose environment has the mark. Only Linux tells."""
    if not sys.platform.startswith("linux"):
        return []
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def _drain(reading: int, output: bytearray, most_output: int) -> None:
    """Take what the pipe holds, up to a little more than the limit."""
    with contextlib.suppress(BlockingIOError):
        while len(output) <= most_output and (piece := os.read(reading, 65536)):
            output += piece


def _ending(program: str, told: Sequence[str], stopped: str) -> str:
    """How it ended, in words. Raises ToolError if it never began."""
    match told:
        case ["error", number, *_]:
            raise ToolError(f"{visible(program)} can't be started: {os.strerror(int(number))}")
        case ["exit", number, *left]:
            how = f"exit code {number}"
        case ["signal", number, *left]:
            how = f"ended by {_signal(int(number))}"
        case _:
            how, left = "it killed the process that watches over it, and was killed", []
    return (stopped or how) + ("; something that it started could not be killed" if left else "")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
