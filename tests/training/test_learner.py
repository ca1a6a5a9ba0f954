"""Learners are compiled where that is possible."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from learner import can_compile


def test_without_a_compiler_it_is_known_before_anything_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_nothing(function: Any) -> Any:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", compile_nothing)
    assert not can_compile()
