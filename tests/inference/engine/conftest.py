"""The models that engine tests run on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.inference import tiny


@pytest.fixture(scope="session")
def folder(checkpoints: Path) -> Path:
    """A float32 checkpoint; its untied head spreads the logits, so that greedy choices are never close."""
    return tiny.checkpoint(checkpoints, tie_word_embeddings=False, max_position_embeddings=256)


@pytest.fixture(scope="session")
def draft(folder: Path) -> Path:
    """A model that guesses that one's next token right about half of the time."""
    return tiny.perturbed(folder, 0.1)
