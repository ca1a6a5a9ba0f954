"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path

from inference.errors import ConfigError


def expanded(path: str | Path) -> Path:
    """A path with the home directory that its ~ stands for. Raises ConfigError if that is nobody's."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"{path} can't be found: {Path(path).parts[0]} is nobody's home directory") from None
