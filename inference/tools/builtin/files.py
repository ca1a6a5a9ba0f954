"""Looking at files below the workspace: listing, reading, searching."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field

from inference.tools.context import Context
from inference.tools.definition import Effect, ToolError, tool, visible
from inference.tools.workspace import Entry, Workspace

MAX_LISTED = 300
MAX_FOUND = 100
MAX_LOOKED_AT = 5_000
"""Files that one search opens."""
SHOWN_LINE = 200
SKIPPED = frozenset({"node_modules", "__pycache__", ".venv", "venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"})
"""Directories that a walk does not enter: large, and made by programs."""

PathArgument = Annotated[str, Field(description="relative to the workspace, such as notes/today.md")]


@tool(effect=Effect.READS, aliases=("list_directory", "list_dir", "ls"))
def list_files(
    context: Context,
    path: Annotated[str, Field(description="a directory relative to the workspace")] = ".",
    pattern: Annotated[str, Field(max_length=100, description="only names that fit, such as *.md; empty: all")] = "",
    deep: Annotated[bool, Field(description="with all directories below")] = False,
) -> str:
    """List the files of a directory in the workspace."""
    workspace = workspace_of(context)
    lines: list[str] = []
    for entry in workspace.walk(path, SKIPPED) if deep else workspace.entries(path):
        if context.cancelled.is_set():
            raise ToolError("the listing was stopped")
        if pattern and not fnmatchcase(entry.path.rpartition("/")[2], pattern):
            continue
        if len(lines) == MAX_LISTED:
            lines.append(f"[more than {MAX_LISTED}: list a directory below, or give a pattern]")
            break
        lines.append(_listed(entry))
    return "\n".join(lines) or "no files"


@tool(effect=Effect.READS, aliases=("open_file", "cat"))
def read_file(
    path: PathArgument,
    context: Context,
    start: Annotated[int, Field(ge=1, description="first line, from 1")] = 1,
    lines: Annotated[int, Field(ge=1, le=5000, description="how many lines")] = 400,
) -> str:
    """Read a text file in the workspace."""
    workspace = workspace_of(context)
    file = workspace.read_text(path)
    found = file.text.splitlines()
    if not found:
        return f"{file.path} is empty"
    if start > len(found):
        raise ToolError(f"{file.path} has {len(found)} lines, so none begins at {start}")
    shown = found[start - 1 : start - 1 + lines]
    notes = []
    if file.encoding != "utf-8":
        notes.append(f"[encoding: {file.encoding}]")
    if len(shown) < len(found):
        notes.append(f"[lines {start} to {start + len(shown) - 1} of {len(found)}]")
    return "\n".join([*shown, *notes])


@tool(effect=Effect.READS, timeout=20, aliases=("grep", "search"))
def search_files(
    text: Annotated[str, Field(min_length=1, max_length=200, description="plain text to find, of one line")],
    context: Context,
    path: Annotated[str, Field(description="a directory relative to the workspace")] = ".",
    pattern: Annotated[str, Field(max_length=100, description="only in files that fit, such as *.py; empty: all")] = "",
    ignore_case: Annotated[bool, Field(description="take capitals and small letters as the same")] = True,
) -> str:
    """Find the lines of files in the workspace that contain a text.

    The text is no regular expression: one that a model wrote could keep the app busy for ever.
    """
    workspace = workspace_of(context)
    wanted = text.casefold() if ignore_case else text
    hits: list[str] = []
    looked_at = left_out = 0
    for entry in workspace.walk(path, SKIPPED):
        if context.cancelled.is_set():
            raise ToolError("the search was stopped")
        name = entry.path.rpartition("/")[2]
        if entry.kind != "file" or entry.secret or (pattern and not fnmatchcase(name, pattern)):
            continue
        if looked_at == MAX_LOOKED_AT or len(hits) >= MAX_FOUND:
            hits.append("[there may be more: search a directory below, or give a pattern]")
            break
        looked_at += 1
        try:
            content = workspace.read_text(entry.path).text
        except ToolError:
            left_out += 1
            continue
        hits += _hits(entry.path, content, wanted, ignore_case, MAX_FOUND - len(hits))
    if left_out:
        hits.append(f"[{left_out} binary, too large or unreadable file{'s' if left_out > 1 else ''} left out]")
    return "\n".join(hits) or "nothing found"


def workspace_of(context: Context) -> Workspace:
    if context.workspace is None:
        raise ToolError("there is no workspace: the user must name a directory first")
    return context.workspace


def _hits(path: str, content: str, wanted: str, ignore_case: bool, most: int) -> list[str]:
    compared = content.casefold() if ignore_case else content
    if wanted not in compared:
        return []
    found: list[str] = []
    for number, line in enumerate(content.splitlines(), 1):
        if len(found) == most:
            break
        at = (line.casefold() if ignore_case else line).find(wanted)
        if at >= 0:
            begin = max(0, at - SHOWN_LINE // 2)
            found.append(f"{visible(path)}:{number}: {line[begin : begin + SHOWN_LINE].strip()}")
    return found


def _listed(entry: Entry) -> str:
    name = visible(entry.path)
    match entry.kind:
        case "directory":
            shown = f"{name}/"
        case "file":
            shown = f"{name}  {entry.size:,} bytes"
        case "link":
            shown = f"{name}  (a symbolic link: not followed)"
        case _:
            shown = f"{name}  (a device, pipe or socket)"
    return f"{shown}  (secret: not to be opened)" if entry.secret else shown
