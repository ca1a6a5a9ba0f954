"""Fixtures shared by the tests of the inference package."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `tiny.checkpoint` keeps the checkpoints of this run, so that each is made once."""
    return tmp_path_factory.mktemp("checkpoints")
