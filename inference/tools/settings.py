"""The file in which a user says which tools there are: TOML, every key optional.

workspace = "~/notes"
files = ["~/my_tools.py"]       # Python files with tools; they are run
packages = true                 # tools that installed packages offer
disabled = ["run_command"]
max_rounds = 8

[mcp.time]                      # an MCP server, started as a program
command = ["uvx", "mcp-server-time"]
environment = { TZ = "UTC" }
timeout = 30
trusted = true                  # believe it when it says that a tool only reads
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from inference.errors import ConfigError
from inference.paths import expanded
from inference.tools.definition import DEFAULT_TIMEOUT


@dataclass(frozen=True, slots=True)
class McpServer:
    """An MCP server that speaks over its standard input and output."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the few variables that a program needs."""
    timeout: float = DEFAULT_TIMEOUT
    """Seconds for its start, and for each call."""
    trusted: bool = False
    """Tools that say of themselves that they only read run without asking."""


@dataclass(frozen=True, slots=True)
class ToolSettings:
    """What the file says."""

    workspace: Path | None = None
    files: tuple[Path, ...] = ()
    packages: bool = True
    disabled: tuple[str, ...] = ()
    max_rounds: int = 8
    mcp: tuple[McpServer, ...] = ()


Filled = TypeVar("Filled", ToolSettings, McpServer)


def read_settings(path: Path) -> ToolSettings:
    """Raises ConfigError for a file that is missing, no TOML, or has a key or value that means nothing."""
    try:
        path = expanded(path)
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(f"the tools file {path} can't be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the tools file {path} is not valid TOML: {error}") from None
    servers = _table(found.pop("mcp", {}), "mcp", path)
    settings = _filled(ToolSettings(), found, _SETTINGS, str(path))
    base = path.resolve().parent
    return replace(
        settings,
        workspace=None if settings.workspace is None else base / settings.workspace,
        files=tuple(base / file for file in settings.files),
        mcp=tuple(_server(name, _table(entry, f"mcp.{name}", path), path) for name, entry in servers.items()),
    )


def _server(name: str, entry: dict[str, Any], path: Path) -> McpServer:
    if not name.replace("-", "").replace("_", "").isalnum() or len(name) > 30:
        raise ConfigError(f"{path}: mcp.{name}: name a server with at most 30 letters, digits, - and _")
    server = _filled(McpServer(name, ()), entry, _SERVER, f"{path}: mcp.{name}")
    if not server.command:
        raise ConfigError(f'{path}: mcp.{name} needs a command, such as command = ["uvx", "mcp-server-time"]')
    return server


def _table(value: Any, name: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {name} must be a table")
    return value


def _filled(settings: Filled, found: Mapping[str, Any], kinds: Mapping[str, Any], where: str) -> Filled:
    """The dataclass with the file's values. `kinds` gives each its type, or raises TypeError with what it must be."""
    changes: dict[str, Any] = {}
    for key, value in found.items():
        if key not in kinds:
            raise ConfigError(f"{where}: there is no key {key!r}; the keys are {', '.join(kinds)}")
        try:
            changes[key] = kinds[key](value)
        except TypeError as error:
            raise ConfigError(f"{where}: {key} must be {error}") from None
    return replace(settings, **changes)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("true or false")
    return value


def _path(value: Any) -> Path:
    if not isinstance(value, str) or not value:
        raise TypeError("a path in quotes")
    try:
        return expanded(value)
    except ConfigError:
        raise TypeError(f"a path without {Path(value).parts[0]}, which is nobody's home directory") from None


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise TypeError('a list of texts, such as ["a", "b"]')
    return tuple(value)


def _environment(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise TypeError('a table of texts, such as { TZ = "UTC" }')
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 3600:
        raise TypeError("a number of seconds, at most 3600")
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100:
        raise TypeError("a whole number from 1 to 100")
    return value


_SETTINGS = {
    "workspace": _path,
    "files": lambda value: tuple(map(_path, _texts(value))),
    "packages": _truth,
    "disabled": _texts,
    "max_rounds": _count,
}
_SERVER = {"command": _texts, "environment": _environment, "timeout": _seconds, "trusted": _truth}
