"""What a tool is: a typed Python function with a docstring, and what the caller must know before running it.

    @tool(effect=Effect.READS)
    def count_words(text: Annotated[str, Field(description="what to count")]) -> int:
        \"\"\"Count the words of a text.\"\"\"
        return len(text.split())

The schema that the model gets comes from the signature, and so does the check of what it sends. A parameter annotated
`Context` is not the model's: it is filled with the workspace and whatever else the app lends to tools. The function may
be a coroutine; a plain one runs in a thread. It says no with `ToolError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

DEFAULT_TIMEOUT = 30.0
"""Seconds that a call may take."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


class ToolError(Exception):
    """Why a tool can't do what it was asked: one sentence, which the model gets as the result."""


class Effect(StrEnum):
    """What running a tool does to the world, which decides whether the user is asked first."""

    READS = "reads"
    """Looks at something that the tool is free to look at; runs at once."""
    CHANGES = "changes"
    """Changes something; asks first."""
    RUNS = "runs"
    """Runs a program, which may do anything that the user may; asks first."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What the user sees before saying yes."""

    kind: str
    """"arguments", "diff" (unified) or "command"."""
    text: str
    """Printable: whatever would steer a terminal or turn text around is written out as an escape."""
    digest: str = ""
    """Of what was shown. The tool gets it back as `Context.approved`, and refuses if it would now do something else."""
    warnings: tuple[str, ...] = ()
    """Sentences that should be seen before the answer."""
    scope: str = ""
    """What a yes for the whole session would allow, such as "every edit of notes.md"."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as callers see it. Made by `@tool`, or by what speaks for tools elsewhere."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON schema of the arguments."""
    effect: Effect
    check: Callable[[Mapping[str, Any]], dict[str, Any]]
    """The arguments as the function takes them; raises `CallError` with a sentence for the model."""
    function: Callable[..., Any]
    context_parameter: str | None = None
    preview: Callable[..., Preview] | None = None
    """Takes what the function takes. Without one, the arguments are shown."""
    scope: Callable[..., str] | None = None
    """Takes the function's arguments without context: what a yes for the session allows. Default: the whole tool. May
    raise `ToolError` for arguments that can't be run at all."""
    timeout: float = DEFAULT_TIMEOUT
    source: str = "built in"
    """Where it comes from: "built in", a file, a package, or an MCP server."""
    aliases: tuple[str, ...] = field(default=())
    """Other names that models call it by."""

    @property
    def schema(self) -> dict[str, Any]:
        """As chat templates take it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}

    @property
    def asks(self) -> bool:
        """Whether the user is asked before it runs."""
        return self.effect is not Effect.READS

    def grant_key(self, arguments: Mapping[str, Any]) -> str:
        """What a yes or a never for the session covers: this tool, or what its `scope` says of these arguments."""
        return f"{self.name}: {self.scope(**arguments)}" if self.scope is not None else self.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself, unchecked: tools are tested like functions."""
        return self.function(*args, **kwargs)


def tool(
    *,
    effect: Effect,
    name: str | None = None,
    preview: Callable[..., Preview] | None = None,
    scope: Callable[..., str] | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    aliases: tuple[str, ...] = (),
) -> Callable[[Callable[..., Any]], Tool]:
    """Make a function a tool. Raises ConfigError where its signature can't be described to a model."""

    def decorate(function: Callable[..., Any]) -> Tool:
        from inference.tools.signature import describe

        made = describe(function, name or function.__name__, effect)
        return replace(made, preview=preview, scope=scope, timeout=timeout, aliases=aliases)

    return decorate


_NOT_PLAIN = re.compile(r"[^\n\t -~]")
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U00016fe4\U0001d159"
    "\U000e0100-\U000e01ef]"
)
"""Letters, marks and symbols by their category, of which nothing is to be seen: Unicode's default-ignorable ones, and
some whose glyph is a blank."""


def visible(text: str) -> str:
    """Text that shows what it is. What can't be seen, or steers what is seen, is written as an escape: control, format
    and private characters, and every blank but the space.

    Otherwise a file name could move the cursor, and a diff could look like another one.
    """
    return _NOT_PLAIN.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    character = found[0]
    if character.isprintable() and not _BLANK.match(character):
        return character
    return character.encode("unicode_escape").decode()
