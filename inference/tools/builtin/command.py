"""Running a program in the workspace: an argument list and no shell, within limits of time and output.

It runs with the user's own rights, and nothing but the user's yes stands before it; so what it is about to do is shown
exactly, the program itself included, with a word where it names a path outside of the workspace or a secret. If the
program is not the same any more when it is to start, it is not started. Its environment has what programs need and none
of the user's tokens; it has no terminal and no input. When it ends, or its time does, or the user stops it, everything
that it started is killed: see `keeper`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from inference.tools.builtin import program as programs
from inference.tools.builtin.concerns import concerns
from inference.tools.builtin.files import workspace_of
from inference.tools.calls import digest
from inference.tools.context import Context
from inference.tools.definition import Effect, Preview, ToolError, tool, visible
from inference.tools.workspace import Workspace

MAX_SECONDS = 120
MAX_OUTPUT = 1_000_000
"""Bytes; a program that writes more is killed."""
MAX_ARGUMENTS = 200
KEPT_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SYSTEMROOT")
_QUOTED = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
"""What a shell would take as it stands."""
_SHELL_SIGNS = re.compile(r"[();<>|&]+")


@dataclass(frozen=True, slots=True)
class _Plan:
    """A command, with the program that it is."""

    program: str
    arguments: list[str]
    preview: Preview


def _plan(command: str, context: Context, seconds: int) -> _Plan:
    workspace = workspace_of(context)
    arguments = split(command)
    program = _program(arguments[0], workspace, scrubbed(os.environ))
    real = os.path.realpath(program)
    shown = [
        visible(shlex.join(arguments)),
        "",
        f"the program: {visible(program)}{'' if real == program else f', which is {visible(real)}'}",
        "its arguments, one by one:",
        *(f"{number}: {visible(argument)!r}" for number, argument in enumerate(arguments)),
        "",
        f"in {visible(str(workspace.root))}, for at most {seconds} s",
    ]
    text = "\n".join(shown)
    found = os.stat(program)
    version = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    said = tuple(concerns(arguments, real, workspace))
    return _Plan(program, arguments, Preview("command", text, digest(f"{text}\n{version}"), said))


def _preview(command: str, context: Context, seconds: int) -> Preview:
    return _plan(command, context, seconds).preview


def _scope(command: str, **_: object) -> str:
    return f"exactly this command: {shlex.join(split(command))}"


@tool(effect=Effect.RUNS, preview=_preview, scope=_scope, timeout=MAX_SECONDS + 10)
async def run_command(
    command: Annotated[str, Field(min_length=1, max_length=4000, description="a program and its arguments; no shell")],
    context: Context,
    seconds: Annotated[int, Field(ge=1, le=MAX_SECONDS, description="the most that it may take")] = 30,
) -> str:
    """Run a program in the workspace directory, without a shell. The user is asked first."""
    plan = _plan(command, context, seconds)
    if context.approved and context.approved != plan.preview.digest:
        raise ToolError(f"{visible(plan.program)} has changed since it was shown: make the call again")
    directory, environment = workspace_of(context).root, scrubbed(os.environ)
    arguments = [plan.program, *plan.arguments[1:]]
    ran = await programs.run(plan.program, arguments, directory, environment, seconds, MAX_OUTPUT)
    shown = ran.output.decode("utf-8", errors="replace").rstrip("\n")
    return "\n".join(part for part in (shown, f"[{ran.ending}; {ran.seconds:.1f} s]") if part)


def split(command: str) -> list[str]:
    """The program and its arguments. Raises ToolError for what only a shell could do."""
    try:
        arguments = shlex.split(command)
    except ValueError as error:
        raise ToolError(f"the command can't be taken apart ({error}): close every quote") from None
    if (sign := _SHELL_SIGNS.search(_QUOTED.sub("", command))) is not None:
        raise ToolError(f"there is no shell, so {sign[0]} does nothing: run one program, with quotes where it is meant")
    if not arguments or not arguments[0]:
        raise ToolError("the command names no program")
    if len(arguments) > MAX_ARGUMENTS:
        raise ToolError(f"the command has more than {MAX_ARGUMENTS} arguments")
    if any("\0" in argument for argument in arguments):
        raise ToolError("the command holds a NUL character")
    return arguments


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """The few variables that programs need; none that could hold a token."""
    kept = {name: environment[name] for name in KEPT_VARIABLES if name in environment}
    return {"PATH": os.defpath, **kept, "TERM": "dumb", "NO_COLOR": "1", "PAGER": "cat", "GIT_TERMINAL_PROMPT": "0"}


def _program(name: str, workspace: Workspace, environment: Mapping[str, str]) -> str:
    """Where the program is. A name with a slash is relative to the workspace, where it runs."""
    found = shutil.which(str(workspace.root / name) if "/" in name else name, path=environment["PATH"])
    if found is None:
        raise ToolError(f"there is no program {visible(name)!r} here")
    return os.path.join(os.getcwd(), found)  # it runs in another directory, where a PATH of "." means that one
