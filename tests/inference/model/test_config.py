"""Reading config.json: every spelling that is meant, and one sentence for each that is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inference.errors import ModelError
from inference.model.config import ModelConfig, Quantization
from tests.inference import tiny


def read(folder: Path, **changes: Any) -> ModelConfig:
    """The config of tiny.DEFAULTS with some keys changed; None removes one."""
    settings = {key: value for key, value in (tiny.DEFAULTS | changes).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(settings))
    return ModelConfig.from_directory(folder)


def test_plain(tmp_path: Path) -> None:
    config = read(tmp_path, eos_token_id=7)
    assert (config.hidden_size, config.num_hidden_layers, config.head_dim) == (64, 2, 16)
    assert config.eos_token_ids == {7}
    assert config.quantization is None
    assert config.kv_elements_per_token == 2 * 2 * 2 * 16


def test_defaults(tmp_path: Path) -> None:
    config = read(
        tmp_path, num_key_value_heads=None, rope_theta=None, tie_word_embeddings=None, architectures=None, head_dim=32
    )
    assert (config.num_key_value_heads, config.rope_theta, config.tie_word_embeddings) == (4, 10000.0, False)
    assert config.head_dim == 32
    assert config.eos_token_ids == frozenset()


@pytest.mark.parametrize(
    "spelling",
    [
        {"rope_theta": 5e5},
        {"rope_theta": 5e5, "rope_scaling": None},
        {"rope_theta": 5e5, "rope_scaling": {"type": "default"}},
        {"rope_theta": None, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}},
        {"rope_theta": None, "rope_scaling": {"rope_theta": 5e5, "rope_type": "default"}},
    ],
)
def test_rope_theta(tmp_path: Path, spelling: dict[str, Any]) -> None:
    assert read(tmp_path, **spelling).rope_theta == 5e5


def test_sliding_window_that_is_off(tmp_path: Path) -> None:
    read(tmp_path, use_sliding_window=False, sliding_window=4096, layer_types=["full_attention"] * 2)


def test_quantization(tmp_path: Path) -> None:
    block = {"bits": 4, "group_size": 64, "model.norm": False, "lm_head": {"bits": 8, "group_size": 32}}
    for key in ("quantization", "quantization_config"):
        config = read(tmp_path, **{key: block})
        assert config.quantization_of("model.layers.0.mlp.up_proj") == Quantization(4, 64)
        assert config.quantization_of("lm_head") == Quantization(8, 32)
        assert str(config.quantization) == "4-bit, groups of 64"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "the architecture is llama (Qwen2ForCausalLM), but only qwen2"),
        ({"model_type": None}, "the architecture is not named"),
        ({"architectures": ["Qwen2ForSequenceClassification"]}, "(Qwen2ForSequenceClassification), but only qwen2"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', but Qwen2's is 'silu'"),
        ({"use_sliding_window": True, "sliding_window": 4096}, "sliding-window attention"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding-window attention"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rotary positions are scaled by 'yarn'"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2}}, "rotary positions are scaled by 'linear'"),
        ({"rope_parameters": [1]}, "rope_parameters is [1], but an object was expected"),
        ({"rope_theta": -1}, "rope_theta is -1, but must be a number above 0"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": 65}, "hidden_size 65 is not a multiple of num_attention_heads 4"),
        ({"hidden_size": "64"}, "hidden_size is '64', but must be a whole number"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0, but must be a whole number of at least 1"),
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
        ({"head_dim": 15}, "the head size is 15, but rotary positions need an even one"),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0, but must be a number above 0"),
        ({"quantization": {"bits": 3, "group_size": 64}}, "quantization is 3 bits in groups of 64 (affine), but only"),
        ({"quantization": {"bits": 4, "group_size": 16}}, "quantization is 4 bits in groups of 16"),
        ({"quantization": {"bits": 4, "group_size": 32, "mode": "mxfp4"}}, "(mxfp4), but only affine"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantized by 'gptq', but only MLX's own"),
    ],
)
def test_what_cant_be_run_is_said(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        read(tmp_path, **changes)
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "config.json is missing"), ("{", "can't be read as JSON"), ("[]", "holds a JSON list, but an object")],
)
def test_unreadable_files(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        ModelConfig.from_directory(tmp_path)
