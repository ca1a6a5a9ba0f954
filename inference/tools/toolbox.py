"""The tools that a chat offers: built in, from packages, from files, from MCP servers; each under one name."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from inference.errors import ConfigError
from inference.paths import expanded
from inference.tools.calls import digest
from inference.tools.context import Context
from inference.tools.definition import Tool
from inference.tools.settings import ToolSettings

ENTRY_POINTS = "glasschat.tools"
"""The group in which packages offer tools: each entry point is a `Tool`, or a list of them."""


class Toolbox:
    """Tools by name."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        """Raises ConfigError if two have one name."""
        self._tools: dict[str, Tool] = {}
        self._aliases: dict[str, str] = {}
        for each in tools:
            self.add(each)

    def add(self, tool: Tool) -> None:
        """Raises ConfigError if there is a tool of this name."""
        if (there := self._tools.get(tool.name)) is not None:
            raise ConfigError(
                f"two tools are named {tool.name}: one is {there.source}, the other from {tool.source}; rename one"
            )
        self._tools[tool.name] = tool
        for alias in tool.aliases:
            self._aliases.setdefault(alias, tool.name)

    def get(self, name: str) -> Tool | None:
        """The tool of this name, or that which models also call so."""
        return self._tools.get(name) or self._tools.get(self._aliases.get(name, ""))

    def without(self, names: Iterable[str]) -> Toolbox:
        """These tools but some."""
        left_out = set(names)
        return Toolbox(tool for tool in self if tool.name not in left_out)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._tools)

    @property
    def schemas(self) -> tuple[dict[str, Any], ...]:
        """For `ChatPrompt.tools`."""
        return tuple(tool.schema for tool in self)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)


def standard_tools(context: Context, others: Iterable[Tool] = ()) -> Toolbox:
    """The tools that are built in and have in this context what they need, then others."""
    from inference.tools.builtin import SHORT, offered
    from inference.tools.builtin.stored import read_result

    toolbox = Toolbox([*offered(context), *others])
    if any(name not in SHORT for name in toolbox.names):
        toolbox.add(read_result)
    return toolbox


def load_toolbox(
    settings: ToolSettings, context: Context, others: Iterable[Tool] = ()
) -> tuple[Toolbox, tuple[str, ...]]:
    """All tools that the settings name, and a sentence for each package whose tools can't be had.

    `others` come from MCP servers. Raises ConfigError for a file of tools that can't be loaded, and for two tools of
    one name.
    """
    found, problems = tools_of_packages() if settings.packages else ([], [])
    for path in settings.files:
        found += tools_of_file(path)
    toolbox = standard_tools(context, (*found, *others))
    return toolbox.without(settings.disabled), tuple(problems)


def tools_of_packages() -> tuple[list[Tool], list[str]]:
    """What installed packages offer, and a sentence for each that can't be loaded."""
    tools: list[Tool] = []
    problems: list[str] = []
    for entry in entry_points(group=ENTRY_POINTS):
        package = entry.dist.name if entry.dist is not None else entry.value
        try:
            tools += _from(entry.load(), f"the package {package}")
        except Exception as error:
            problems.append(f"the tools of {entry.name} ({package}) can't be loaded: {_brief(error)}")
    return tools, problems


def tools_of_file(path: Path) -> list[Tool]:
    """The tools that a Python file defines. It is run, with all rights: only for files that the user named.

    Raises ConfigError if it can't be, or defines none.
    """
    path = expanded(path)
    name = f"glasschat_tools_{digest(str(path.resolve()))[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"{path} is no Python file with tools: name one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where the types of its functions are looked up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ConfigError(f"{path} can't be run: {_brief(error)}") from None
    tools = _from([value for value in vars(module).values() if isinstance(value, Tool)], str(path))
    if not tools:
        raise ConfigError(f"{path} defines no tool: put @tool(effect=…) before a function")
    return tools


def _from(found: Tool | Sequence[Tool], source: str) -> list[Tool]:
    tools = [found] if isinstance(found, Tool) else list(found)
    if not all(isinstance(each, Tool) for each in tools):
        raise TypeError("not a tool, nor a list of tools")
    return [replace(each, source=source) for each in tools]


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0][:300]
