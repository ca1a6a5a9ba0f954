"""The training's modules are a folder of scripts, not a package: this lets tests import them."""

import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

ASSETS = Path(__file__).resolve().parents[2] / "assets"
sys.path.insert(0, str(ASSETS / "training"))


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(ASSETS / "model" / "tokenizer.json"))
