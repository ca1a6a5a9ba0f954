"""A way to run `glasschat` in this process, and a tiny model to run it on."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.cli import main
from inference.ops import agreement
from tests.inference import tiny


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Glasschat = Callable[..., Outcome]


@pytest.fixture
def glasschat(capsys, monkeypatch, tmp_path) -> Glasschat:
    """`glasschat("run", "-p", "hi", stdin="")`: its exit code and what it printed."""
    monkeypatch.setenv("GLASSCHAT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GLASSCHAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))

    def run(*arguments: object, stdin: str = "") -> Outcome:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse's way out
            code = stop.code if isinstance(stop.code, int) else 1
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


_true_results = functools.cache(agreement.true_results)


@pytest.fixture(autouse=True)
def computed_once(monkeypatch):
    """The reference is nine tenths of what `doctor` takes. It is computed once for all tests."""
    monkeypatch.setattr(agreement, "true_results", _true_results)


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("model"))
