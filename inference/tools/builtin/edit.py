"""Changing files below the workspace. The user sees a unified diff, and what was shown is what is written.

A preview plans the edit: the old content's digest, the new content. Its digest covers both. When the edit is made,
it is planned anew, and made only if it comes out the same; and the file is put in place only over the content that was
read.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from inference.tools.builtin.files import PathArgument, workspace_of
from inference.tools.calls import digest
from inference.tools.context import Context
from inference.tools.definition import Effect, Preview, ToolError, tool, visible

_CHANGED = "{} has changed since the diff was shown: read it again, then make the edit anew"
_LINKED = "{} has other names (hard links), which keep the old content"
MAX_DIFF_LINES = 2_000


@dataclass(frozen=True, slots=True)
class _Plan:
    path: str
    old_digest: str
    """Of the bytes that are there; empty for a new file."""
    content: bytes
    diff: str
    warnings: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        return digest(f"{self.path}\n{self.old_digest}\n{self.content.hex()}")

    def preview(self) -> Preview:
        return Preview("diff", visible(self.diff), self.digest, self.warnings)

    def check(self, context: Context) -> None:
        if context.approved and context.approved != self.digest:
            raise ToolError(_CHANGED.format(self.path))


def _plan_edit(path: str, old: str, new: str, context: Context, everywhere: bool) -> _Plan:
    workspace = workspace_of(context)
    file = workspace.read_text(path)
    before = file.text
    if "\r\n" in before and "\r\n" not in old:
        # Models write plain line ends; those of the file stay.
        old, new = old.replace("\n", "\r\n"), new.replace("\n", "\r\n")
    if old == new:
        raise ToolError("old and new are the same: nothing would change")
    count = before.count(old)
    if count == 0:
        raise ToolError(f"{file.path} does not contain the old text: read the file, and copy the text exactly")
    if count > 1 and not everywhere:
        raise ToolError(f"{file.path} contains the old text {count} times: give more of it, or set everywhere")
    after = before.replace(old, new)
    warnings = (_LINKED.format(file.path),) if workspace.names_of(path) > 1 else ()
    return _Plan(file.path, file.digest, file.encode(after), _diff(file.path, file.path, before, after), warnings)


def _plan_new(path: str, content: str, context: Context) -> _Plan:
    workspace = workspace_of(context)
    shown = workspace.shown(path)
    if workspace.digest_of(path):
        raise ToolError(f"{shown} is there already: edit it instead")
    try:
        encoded = content.encode()
    except UnicodeEncodeError:
        raise ToolError("the content holds half of a character") from None
    return _Plan(shown, "", encoded, _diff("/dev/null", shown, "", content))


def _diff(before_name: str, after_name: str, before: str, after: str) -> str:
    """A unified diff. Lines end at line feeds only, so that no other character can hide a change."""
    lines = list(difflib.unified_diff(_lines(before), _lines(after), before_name, after_name, lineterm="", n=3))
    if len(lines) > MAX_DIFF_LINES:
        raise ToolError(f"the edit changes more than {MAX_DIFF_LINES} lines: make several smaller ones")
    return "\n".join(lines)


def _lines(text: str) -> list[str]:
    if not text:
        return []
    lines = text.split("\n")
    ends = lines.pop() if lines[-1] else ""
    return [*lines[: None if ends else -1], f"{ends}\n\\ No newline at end of file"] if ends else lines[:-1]


def _preview_edit(path: str, old: str, new: str, context: Context, everywhere: bool) -> Preview:
    return _plan_edit(path, old, new, context, everywhere).preview()


def _preview_new(path: str, content: str, context: Context) -> Preview:
    return _plan_new(path, content, context).preview()


def _this_file(path: str, **_: object) -> str:
    return f"every edit of {'/'.join(part for part in path.split('/') if part not in ('', '.'))}"


@tool(effect=Effect.CHANGES, preview=_preview_edit, scope=_this_file, aliases=("replace_in_file",))
def edit_file(
    path: PathArgument,
    old: Annotated[str, Field(min_length=1, description="the exact text to replace, which the file has once")],
    new: Annotated[str, Field(description="what to put there")],
    context: Context,
    everywhere: Annotated[bool, Field(description="replace it wherever it stands")] = False,
) -> str:
    """Replace an exact piece of text in a file of the workspace. The user is asked first."""
    plan = _plan_edit(path, old, new, context, everywhere)
    plan.check(context)
    workspace_of(context).replace(path, plan.content, plan.old_digest)
    return f"{plan.path} was changed:\n{plan.diff}"


@tool(effect=Effect.CHANGES, preview=_preview_new, scope=_this_file, aliases=("write_file",))
def create_file(
    path: PathArgument,
    content: Annotated[str, Field(description="the whole text of the file")],
    context: Context,
) -> str:
    """Write a new text file in the workspace. The user is asked first."""
    plan = _plan_new(path, content, context)
    plan.check(context)
    workspace_of(context).create(path, plan.content)
    lines = content.count("\n") + (not content.endswith("\n") and bool(content))
    return f"{plan.path} was written: {lines} line{'s' if lines != 1 else ''}, {len(plan.content):,} bytes"
