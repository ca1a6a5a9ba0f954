"""What a user should see of a command before saying yes: paths outside of the workspace, secrets, other programs.

A word to the user, no barrier: which of its arguments a program takes for paths, only the program knows.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from inference.tools.definition import visible
from inference.tools.secrets import why_secret
from inference.tools.workspace import Workspace

_LAUNCHERS = frozenset(["sh", "bash", "zsh", "dash", "fish", "env", "sudo", "doas", "xargs", "nohup", "setsid"])
_SEPARATORS = re.compile(r"[=:,;@]")
_ELSEWHERE = re.compile(r"(?!file:)\b[a-z][a-z0-9+.-]*://[^\s,;]*", re.IGNORECASE)
"""An address of another machine; what looks like a path in it is none here."""


def concerns(arguments: list[str], program: str, workspace: Workspace) -> list[str]:
    """Sentences about a command. `program` is the file that would run, with all links followed."""
    found = []
    if "/" in arguments[0] and not _is_inside(program, workspace):
        found.append(f"{visible(arguments[0])} is outside of the workspace")
    for argument in arguments[1:]:
        for piece in _pieces(argument):
            parts = [part for part in piece.split("/") if part]
            if _leads_out(piece, parts, workspace):
                found.append(f"{visible(piece)} is outside of the workspace")
            elif (what := why_secret(parts)) is not None:
                found.append(f"{visible(piece)} may hold secrets ({what})")
    if Path(arguments[0]).name in _LAUNCHERS:
        found.append(f"{visible(arguments[0])} runs another program, which is not checked")
    return list(dict.fromkeys(found))


def _pieces(argument: str) -> list[str]:
    """What may be a path in an argument: all of it, what stands behind a sign as in --file=x or host:x, and what
    follows the letters of an option as in -fx."""
    argument = _ELSEWHERE.sub("", argument)
    whole, *rest = _SEPARATORS.split(argument)
    if not argument.startswith("-"):
        return [argument, *rest] if rest else [argument]
    if argument.startswith("--"):
        return rest
    slash = whole.find("/")
    # Of -xzf/etc/passwd nobody but the program knows where the letters end. A place that isn't there is none.
    root = whole[slash:].split("/")[1] if slash > 0 else ""
    return [whole[2:], *([whole[slash:]] if root and os.path.lexists(f"/{root}") else []), *rest]


def _leads_out(piece: str, parts: list[str], workspace: Workspace) -> bool:
    """Whether a path leads out of the workspace, through a link if not by itself."""
    return piece.startswith("~") or ".." in parts or not _is_inside(os.path.realpath(workspace.root / piece), workspace)


def _is_inside(path: str, workspace: Workspace) -> bool:
    return Path(path).is_relative_to(workspace.root)
