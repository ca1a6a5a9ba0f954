"""Widened models: whatever the two shapes, the larger one says what the smaller one says."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.engine.start import start
from inference.errors import ModelError
from inference.model import hub, making, synthetic, widened
from inference.model.config import ModelConfig
from inference.model.loader import LoadedModel, load
from inference.model.synthetic import Shape
from inference.model.weights import Checkpoint
from inference.protocol import EngineConfig
from tests.inference import tiny
from tests.inference.model.drive import greedy, logprobs

SMALL = Shape(320, 5, 10, 2, 192, 400, tie_word_embeddings=True)
"""What tiny's default shape is widened to: heads of 16 become heads of 32, groups of two groups of five."""
PROMPT = [int(token) for token in np.random.default_rng(1).integers(0, 300, 60)]


def widen(source: Path, shape: Shape, bits: int, directory: Path) -> LoadedModel:
    directory.mkdir()
    widened.widen(source, directory, shape, bits, lambda stage: None)
    return load(str(directory))


def quantize(source: Path, bits: int, directory: Path) -> LoadedModel:
    """The dense model in `source` itself, each matrix quantized."""
    checkpoint = Checkpoint(source)
    tensors: dict[str, mx.array] = {}
    for name, info in checkpoint.tensors.items():
        array = checkpoint.floats(name, info.shape, mx.bfloat16)
        path = name.removesuffix(".weight")
        tensors |= making.quantized(path, array, bits) if array.ndim == 2 else {name: array}
    directory.mkdir()
    tiny.write_shards(directory, tensors, 1)
    config = json.loads((source / "config.json").read_text()) | making.quantization(bits)
    (directory / "config.json").write_text(json.dumps(config))
    tiny.write_tokenizer(directory)
    return load(str(directory))


@st.composite
def shapes(draw: st.DrawFn) -> tuple[dict[str, int | bool], Shape]:
    """A small model, and a larger one that it fits into."""
    size, kv_heads, group = draw(st.sampled_from([8, 16])), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    heads = kv_heads * group
    hidden, inner, vocabulary = size * heads, draw(st.integers(3, 50)), 331
    layers, tied = draw(st.integers(1, 2)), draw(st.booleans())
    old: dict[str, int | bool] = {
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "num_hidden_layers": layers,
        "intermediate_size": inner,
        "tie_word_embeddings": tied,
        "rms_norm_eps": draw(st.sampled_from([1e-6, 1e-5])),
        "rope_theta": draw(st.sampled_from([1e4, 1e6])),
    }
    wide_size, wide_kv = size * draw(st.integers(1, 3)), kv_heads + draw(st.integers(0, 2))
    wide_heads = wide_kv * (group + draw(st.integers(0, 2)))
    while wide_size * wide_heads < hidden + 2:
        wide_heads += wide_kv
    new = Shape(
        wide_size * wide_heads,
        layers + draw(st.integers(0, 2)),
        wide_heads,
        wide_kv,
        inner + draw(st.integers(0, 30)),
        vocabulary + draw(st.integers(0, 40)),
        draw(st.booleans()),
    )
    return old, new


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shapes(), st.integers(0, 3))
def test_the_function_stays(
    checkpoints: Path, tmp_path_factory: pytest.TempPathFactory, both: tuple[dict[str, int | bool], Shape], seed: int
) -> None:
    old, new = both
    source = tiny.checkpoint(checkpoints, seed=seed, **old)
    small = load(str(source))
    wide = widen(source, new, 16, tmp_path_factory.mktemp("wide") / "model")
    assert (wide.config.hidden_size, wide.config.num_hidden_layers) == (new.hidden_size, new.num_hidden_layers)
    expected, found = logprobs(small.model, PROMPT), logprobs(wide.model, PROMPT)
    assert found.shape[1] == new.vocab_size
    np.testing.assert_allclose(found[:, : expected.shape[1]], expected, atol=2e-4)
    # No draw takes a token that the model does not have: noise is at most 23.
    assert (found[:, expected.shape[1] :] < -1000).all()
    assert greedy(wide.model, PROMPT, 12) == greedy(small.model, PROMPT, 12)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("tied", [True, False])
def test_quantized_it_is_the_small_one_quantized(tmp_path: Path, checkpoints: Path, bits: int, tied: bool) -> None:
    """Groups of zeros quantize to zeros, and all that a group holds besides is what it held."""
    old = {"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 128}
    source = tiny.checkpoint(checkpoints, dtype="bfloat16", tie_word_embeddings=tied, **old)
    small = quantize(source, bits, tmp_path / "small")
    wide = widen(source, Shape(320, 3, 5, 1, 192, 400, True), bits, tmp_path / "wide")
    assert wide.config.quantization == small.config.quantization is not None
    expected, found = logprobs(small.model, PROMPT), logprobs(wide.model, PROMPT)
    np.testing.assert_allclose(found[:, : expected.shape[1]], expected, atol=2e-4)
    assert (found[:, expected.shape[1] :] < -1000).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_activations_of_other_types_hold_it(tmp_path: Path, checkpoints: Path, dtype: str) -> None:
    """The large numbers that keep the unwanted tokens away are numbers in these, too."""
    source = tiny.checkpoint(checkpoints, dtype="bfloat16")
    (tmp_path / "wide").mkdir()
    widened.widen(source, tmp_path / "wide", SMALL, 16, lambda stage: None)
    small, wide = (load(str(each), dtype=dtype) for each in (source, tmp_path / "wide"))
    expected, found = logprobs(small.model, PROMPT), logprobs(wide.model, PROMPT)
    assert not np.isnan(found).any()
    np.testing.assert_allclose(found[:, : expected.shape[1]], expected, atol=0.1)
    assert (found[:, expected.shape[1] :] < -1000).all()


@pytest.fixture
def cache(tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, a small shape under the name 0.5b, and tiny models as demo and its draft."""
    monkeypatch.setenv("GLASSCHAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(synthetic.SHAPES, "0.5b", SMALL)
    demo = tiny.checkpoint(checkpoints, dtype="bfloat16")
    draft = tiny.checkpoint(checkpoints, dtype="bfloat16", num_hidden_layers=1)
    monkeypatch.setattr(hub, "BUNDLED", {"demo": demo, "draft": draft})
    return tmp_path / "cache"


def test_it_is_made_once_and_found(cache: Path) -> None:
    stages: list[str] = []
    path = hub.resolve("demo:0.5b", stages.append)
    assert stages[0] == "making demo:0.5b: layer 1 of 5"
    assert stages[-1] == "making demo:0.5b: embedding"
    stages.clear()
    assert hub.resolve("demo:0.5B:bf16", stages.append) == path
    assert stages == []
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert ("demo:0.5b:bf16", path) in [(model.ref, model.path) for model in hub.local_models()]


def test_it_is_made_again_of_another_demo(cache: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hub.resolve("demo:0.5b")
    other = tiny.checkpoint(checkpoints, dtype="bfloat16", seed=7)
    monkeypatch.setattr(hub, "BUNDLED", {"demo": other})
    assert hub.resolve("demo:0.5b") != path


def test_the_demos_draft_drafts_for_it(cache: Path) -> None:
    engine = start("demo:0.5b:8bit", EngineConfig(num_kv_blocks=8))
    assert engine.model_info.draft == "draft"
    assert engine.loaded.eos_ids == load("demo").eos_ids
    assert start(str(hub.resolve("demo:0.5b:8bit")), EngineConfig(num_kv_blocks=8)).model_info.draft == ""


@pytest.mark.parametrize("ref", ["demo:3b", "demo:", "demo:0.5b:2bit", "demo:0.5b:8bit:x"])
def test_unknown_sizes(ref: str) -> None:
    with pytest.raises(ModelError, match=r"is no widened demo model: the sizes are 0.5b, 1.5b, 7b, the kinds 4bit"):
        hub.resolve(ref)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 320, "head_dim": 16},
        {"num_hidden_layers": 6},
        {"head_dim": 24},
        {"num_key_value_heads": 4},
        {"num_attention_heads": 12, "head_dim": 16},
        {"intermediate_size": 200},
        {"vocab_size": 401},
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, checkpoints: Path, change: dict[str, int]) -> None:
    source = tiny.checkpoint(checkpoints, **change)
    with pytest.raises(ModelError, match="does not fit into a model of that size: choose a larger one"):
        widen(source, SMALL, 16, tmp_path / "wide")


def test_quantized_sources_are_refused(tmp_path: Path, checkpoints: Path) -> None:
    source = tiny.checkpoint(checkpoints, quantization={"bits": 8, "group_size": 32})
    with pytest.raises(ModelError, match="is quantized, but only a dense model can be widened"):
        widen(source, SMALL, 16, tmp_path / "wide")


@pytest.mark.parametrize("size", widened.SHAPES)
def test_the_demo_fits_the_real_shapes(size: str) -> None:
    """Whose parameters then are those of the models on the hub: only names and sizes are looked at here."""
    demo = hub.resolve("demo")
    wide = widened._Widening(Checkpoint(demo), ModelConfig.from_directory(demo), widened.SHAPES[size], 16)
    assert wide.config["head_dim"] * widened.SHAPES[size].num_attention_heads == widened.SHAPES[size].hidden_size
    assert wide.config["rms_norm_eps"] > 0
