"""Running a program in the workspace: an argument list and no shell, within limits of time and output.

It runs with the user's own rights, and nothing but the user's yes stands before it; so what it is about to do is shown
exactly, with a word where it names a path outside of the workspace or a secret. Its environment has what programs need
and none of the user's tokens; it has no terminal and no input. When it ends, or its time does, or the user stops it,
everything that it started is killed: its process group, and on Linux also what has left the group, known by a mark in
its environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets as random_names
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

from pydantic import Field

from inference.tools.builtin.files import workspace_of
from inference.tools.context import Context
from inference.tools.definition import Effect, Preview, ToolError, tool, visible
from inference.tools.secrets import why_secret
from inference.tools.workspace import Workspace

MAX_SECONDS = 120
MAX_OUTPUT = 1_000_000
"""Bytes; a program that writes more is killed."""
MAX_ARGUMENTS = 200
KEPT_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SYSTEMROOT")
MARK = "GLASSCHAT_COMMAND"
_POLL = 0.02
"""Seconds between two looks at a running program."""
_PATIENCE = 5.0
"""Seconds that a killed program gets to be gone."""
_SHELL_SIGNS = re.compile(r"[();<>|&]+")
_LAUNCHERS = frozenset(["sh", "bash", "zsh", "dash", "fish", "env", "sudo", "doas", "xargs", "nohup", "setsid"])


def _preview(command: str, context: Context, seconds: int) -> Preview:
    workspace = workspace_of(context)
    arguments = split(command)
    _program(arguments[0], workspace, scrubbed(os.environ))  # nobody need be asked about what isn't there
    shown = [f"{number}: {visible(argument)!r}" for number, argument in enumerate(arguments)]
    text = "\n".join([visible(shlex.join(arguments)), "", "its arguments, one by one:", *shown])
    text += f"\n\nin {visible(str(workspace.root))}, for at most {seconds} s"
    return Preview("command", text, warnings=tuple(_warnings(arguments, workspace)))


def _scope(command: str, **_: object) -> str:
    return f"exactly this command: {shlex.join(split(command))}"


@tool(effect=Effect.RUNS, preview=_preview, scope=_scope, timeout=MAX_SECONDS + 10)
async def run_command(
    command: Annotated[str, Field(min_length=1, max_length=4000, description="a program and its arguments; no shell")],
    context: Context,
    seconds: Annotated[int, Field(ge=1, le=MAX_SECONDS, description="the most that it may take")] = 30,
) -> str:
    """Run a program in the workspace directory, without a shell. The user is asked first."""
    workspace = workspace_of(context)
    arguments = split(command)
    environment = scrubbed(os.environ)
    program = _program(arguments[0], workspace, environment)
    mark = random_names.token_hex(8)
    output = bytearray()
    began = time.monotonic()
    reading, writing = os.pipe()
    try:
        os.set_blocking(reading, False)
        process = _start([program, *arguments[1:]], workspace, {**environment, MARK: mark}, writing)
        try:
            ending = await _until_end(process, reading, output, began + seconds)
        finally:
            # Without an await: this also runs when the call is cancelled.
            kill_all(process.pid, mark)
            with contextlib.suppress(subprocess.TimeoutExpired):  # one that the kernel itself holds can't be waited for
                process.wait(_PATIENCE)
        _drain(reading, output)
    finally:
        os.close(reading)
    took = time.monotonic() - began
    shown = bytes(output[:MAX_OUTPUT]).decode("utf-8", errors="replace").rstrip("\n")
    ending = ending or _exit(process.returncode)
    return "\n".join(part for part in (shown, f"[{ending}; {took:.1f} s]") if part)


def split(command: str) -> list[str]:
    """The program and its arguments. Raises ToolError for what only a shell could do."""
    try:
        signs = shlex.shlex(command, posix=True, punctuation_chars=True)
        signs.whitespace_split = True
        signs.commenters = ""
        used = [token for token in signs if _SHELL_SIGNS.fullmatch(token)]
        arguments = shlex.split(command)
    except ValueError as error:
        raise ToolError(f"the command can't be taken apart ({error}): close every quote") from None
    if used:
        raise ToolError(f"there is no shell, so {used[0]} does nothing: run one program, with quotes where it is meant")
    if not arguments or not arguments[0]:
        raise ToolError("the command names no program")
    if len(arguments) > MAX_ARGUMENTS:
        raise ToolError(f"the command has more than {MAX_ARGUMENTS} arguments")
    if any("\0" in argument for argument in arguments):
        raise ToolError("the command holds a NUL character")
    return arguments


def scrubbed(environment: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """The few variables that programs need; none that could hold a token."""
    kept = {name: environment[name] for name in KEPT_VARIABLES if name in environment}
    return {"PATH": os.defpath, **kept, "TERM": "dumb", "NO_COLOR": "1", "PAGER": "cat", "GIT_TERMINAL_PROMPT": "0"}


def kill_all(pid: int, mark: str) -> None:
    """Kill the process group, and what has left it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for stray in _marked(mark):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(stray, signal.SIGKILL)


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


def _start(
    arguments: list[str], workspace: Workspace, environment: dict[str, str], writing: int
) -> subprocess.Popen[bytes]:
    """The program, in a session and process group of its own; our end of its output is closed."""
    try:
        return subprocess.Popen(
            arguments,
            cwd=workspace.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise ToolError(f"{visible(arguments[0])} can't be started: {error}") from None
    finally:
        os.close(writing)


async def _until_end(process: subprocess.Popen[bytes], reading: int, output: bytearray, deadline: float) -> str:
    """Read until the program ends; that the pipe stays open in a child of it does not count. What ended it, if not
    itself.

    Polled, because the process of asyncio waits for the end of the pipe too, and for ever where nobody reads it.
    """
    while True:
        _drain(reading, output)
        if process.poll() is not None:
            return ""
        if len(output) > MAX_OUTPUT:
            return f"killed after {MAX_OUTPUT:,} bytes of output"
        if time.monotonic() >= deadline:
            return "killed: its time was up"
        await asyncio.sleep(_POLL)


def _drain(reading: int, output: bytearray) -> None:
    """Take what the pipe holds, up to a little more than the limit."""
    with contextlib.suppress(BlockingIOError):
        while len(output) <= MAX_OUTPUT and (piece := os.read(reading, 65536)):
            output += piece


def _program(name: str, workspace: Workspace, environment: dict[str, str]) -> str:
    """Where the program is. A name with a slash is relative to the workspace, where it runs."""
    found = shutil.which(str(workspace.root / name) if "/" in name else name, path=environment["PATH"])
    if found is None:
        raise ToolError(f"there is no program {visible(name)!r} here")
    return found


def _exit(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"ended by signal {-code}"
    return f"exit code {code}"


def _warnings(arguments: list[str], workspace: Workspace) -> list[str]:
    """What the user should see before saying yes."""
    found = []
    for argument in arguments[1:]:
        value = argument.partition("=")[2]
        for piece in (value,) if argument.startswith("-") else (argument, value):
            parts = [part for part in piece.split("/") if part]
            if not parts:
                continue
            inside = str(workspace.root)
            outside = piece.startswith(("/", "~")) and piece != inside and not piece.startswith(f"{inside}/")
            if outside or ".." in parts:
                found.append(f"{visible(piece)} is outside of the workspace")
            elif (what := why_secret(parts)) is not None:
                found.append(f"{visible(piece)} may hold secrets ({what})")
    if Path(arguments[0]).name in _LAUNCHERS:
        found.append(f"{visible(arguments[0])} runs another program, which is not checked")
    return list(dict.fromkeys(found))
