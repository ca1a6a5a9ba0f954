"""Synthetic models: the right shapes, written once, runnable, found again."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from inference.errors import ModelError
from inference.model import hub, synthetic
from inference.model.config import ModelConfig, Quantization
from inference.model.loader import load
from tests.inference import tiny
from tests.inference.model.drive import logprobs

SMALL = synthetic.Shape(128, 2, 4, 2, 192, 600, tie_word_embeddings=False)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, a small shape under the name 0.5b, and no demo model."""
    monkeypatch.setenv("GLASSCHAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(synthetic.SHAPES, "0.5b", SMALL)
    monkeypatch.setattr(hub, "BUNDLED", {"demo": tmp_path / "none"})
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("ref", "quantization"),
    [
        ("synthetic:0.5b", Quantization(4, 64)),
        ("synthetic:0.5B:8bit", Quantization(8, 64)),
        ("synthetic:0.5b:bf16", None),
    ],
)
def test_it_runs(ref: str, quantization: Quantization | None) -> None:
    loaded = load(ref)
    assert loaded.config.quantization == quantization
    assert loaded.config.intermediate_size == 192
    assert loaded.info.context_length == 32768
    assert loaded.info.num_parameters == 2 * (2 * 128 * 128 + 2 * 128 * 64 + 3 * 128 * 192 + 4 * 128) + 1201 * 128
    rows = logprobs(loaded.model, list(range(40)))
    assert np.isfinite(rows).all()
    assert 0.3 < rows.std() < 3, "the spread of logits is that of a model, neither flat nor wild"
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("à la 😀")) == "à la 😀"
    assert loaded.tokenizer.decode([599]) == "<|599|>"
    assert loaded.eos_ids == {257}


def test_it_is_written_once(cache: Path) -> None:
    stages: list[str] = []
    path = hub.resolve("synthetic:0.5b", stages.append)
    assert stages[0] == "making synthetic:0.5b: layer 1 of 2"
    assert stages[-1] == "making synthetic:0.5b: embedding"
    assert path.parent == cache / "synthetic"
    stages.clear()
    assert hub.resolve("synthetic:0.5b:4bit", stages.append) == path
    assert stages == []
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert [(model.ref, model.path) for model in hub.local_models()] == [("synthetic:0.5b:4bit", path)]


def test_a_failed_write_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mx, "save_safetensors", full)
    with pytest.raises(ModelError, match=r"can't be written to .*No space left on device.*set GLASSCHAT_CACHE"):
        hub.resolve("synthetic:0.5b")
    assert list((cache / "synthetic").iterdir()) == []


def test_the_demo_lends_its_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = tiny.checkpoint(tmp_path, chat_template="{{ messages[0].content }}!")
    monkeypatch.setattr(hub, "BUNDLED", {"demo": demo})
    path = hub.resolve("synthetic:0.5b")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (path / name).read_text() == (demo / name).read_text()


@pytest.mark.parametrize("ref", ["synthetic:3b", "synthetic:", "synthetic:7b:2bit", "synthetic:7b:8bit:x"])
def test_unknown_sizes(ref: str) -> None:
    with pytest.raises(ModelError, match=r"is no synthetic model: the sizes are 0.5b, 1.5b, 7b, the kinds 4bit, 8bit"):
        hub.resolve(ref)


@pytest.mark.parametrize(("size", "millions"), [("0.5b", 494), ("1.5b", 1544), ("7b", 7616)])
def test_real_shapes(size: str, millions: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As many parameters as the models on the hub."""
    monkeypatch.undo()
    shape = synthetic.SHAPES[size]
    (tmp_path / "config.json").write_text(json.dumps(synthetic._config(shape, 4)))
    c = ModelConfig.from_directory(tmp_path)
    kv = c.num_key_value_heads * c.head_dim
    layer = 2 * c.hidden_size**2 + 2 * c.hidden_size * kv + 3 * c.hidden_size * c.intermediate_size
    layer += c.hidden_size + 2 * kv + 2 * c.hidden_size
    ends = (1 if c.tie_word_embeddings else 2) * c.vocab_size * c.hidden_size + c.hidden_size
    assert round((c.num_hidden_layers * layer + ends) / 1e6) == millions
