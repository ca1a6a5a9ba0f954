"""Loading: what a checkpoint gives, and one sentence for each way in which it can be broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from inference.errors import ConfigError, ModelError
from inference.model.loader import load
from tests.inference import tiny
from tests.inference.model.drive import logprobs

SHARDED = {"shards": 3, "tie_word_embeddings": False}
QUANTIZED = {"quantization": {"bits": 4, "group_size": 32}}


def test_info(checkpoints: Path) -> None:
    folder = tiny.checkpoint(checkpoints, dtype="bfloat16")
    stages: list[str] = []
    loaded = load(str(folder), dtype="bfloat16", progress=stages.append)
    info = loaded.info
    assert (info.name, info.path, info.architecture) == (str(folder), str(folder), "Qwen2ForCausalLM")
    assert (info.num_layers, info.vocab_size, info.context_length) == (2, 331, 1024)
    # Packed matrices keep their biases in float32, and their last rows are filled up.
    assert 2 * info.num_parameters <= info.weight_bytes <= 2.02 * info.num_parameters
    assert info.kv_bytes_per_token == loaded.model.new_cache(1, 16).nbytes / 16 == 256
    assert info.quantization == "none"
    assert stages[-2:] == ["loading weights, layer 1 of 2", "loading weights, layer 2 of 2"]


def test_parameters_are_counted_as_transformers_does(checkpoints: Path) -> None:
    from transformers import Qwen2ForCausalLM

    for config in ({}, {"tie_word_embeddings": False, "shards": 2}):
        folder = tiny.checkpoint(checkpoints, **config)
        assert load(str(folder)).info.num_parameters == Qwen2ForCausalLM.from_pretrained(folder).num_parameters()


def test_eos_ids_are_the_union(checkpoints: Path, tmp_path: Path) -> None:
    folder = copy(tiny.checkpoint(checkpoints, eos_token_id=5), tmp_path)
    change_json(folder / "generation_config.json", eos_token_id=[6, 7])
    im_end = tiny.TOKENIZER_SIZE - 1
    assert load(str(folder)).eos_ids == {5, 6, 7, im_end}
    (folder / "generation_config.json").unlink()
    change_json(folder / "tokenizer_config.json", eos_token=None)
    assert load(str(folder)).eos_ids == {5}


def test_dtype(checkpoints: Path) -> None:
    for stored in ("float32", "bfloat16", "float16"):
        folder = str(tiny.checkpoint(checkpoints, dtype=stored))
        for wanted in ("float32", "bfloat16", "float16"):
            assert load(folder, dtype=wanted).model.dtype == getattr(mx, wanted)
        automatic = load(folder)
        on_cpu = mx.default_device().type == mx.DeviceType.cpu
        assert automatic.dtype == ("float32" if on_cpu else stored)
        assert automatic.dtype_reason
    with pytest.raises(ConfigError, match="dtype is 'int8', but must be auto, float32"):
        load(folder, dtype="int8")


def test_unknown_kernels(checkpoints: Path) -> None:
    with pytest.raises(ConfigError, match="kernels is 'cuda'"):
        load(str(tiny.checkpoint(checkpoints)), kernels="cuda")


def test_a_tied_model_may_bring_a_head_all_the_same(checkpoints: Path, tmp_path: Path) -> None:
    """Some converters write it; the config says that it is the embedding."""
    folder = tiny.checkpoint(checkpoints)
    tensors = mx.load(str(folder / "model.safetensors"))
    other = copy(folder, tmp_path)
    tensors["lm_head.weight"] = mx.zeros((331, 64))
    mx.save_safetensors(str(other / "model.safetensors"), tensors)
    tokens = [1, 2, 3]
    assert np.array_equal(logprobs(load(str(folder)).model, tokens), logprobs(load(str(other)).model, tokens))


# --- broken checkpoints ----------------------------------------------------------------------------------------------


def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "broken"))


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite(name: str, change: Callable[[mx.array], mx.array] | None) -> Callable[[Path], None]:
    """Change one tensor of model.safetensors, or remove it."""

    def apply(folder: Path) -> None:
        path = str(folder / "model.safetensors")
        tensors = mx.load(path)
        array = tensors.pop(name)
        mx.eval(tensors, array)
        if change is not None:
            tensors[name] = change(array)
        mx.save_safetensors(path, tensors)

    return apply


def truncate(file: str, size: int) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        data = (folder / file).read_bytes()
        (folder / file).write_bytes(data[:size])

    return apply


def remove(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def write(file: str, text: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / file).write_text(text)

    return apply


def configure(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: change_json(folder / "config.json", **changes)


def misplace(folder: Path) -> None:
    """The index puts a tensor in a file that doesn't have it."""
    path = folder / "model.safetensors.index.json"
    weight_map = json.loads(path.read_text())["weight_map"]
    weight_map["model.extra.weight"] = "model-00001-of-00003.safetensors"
    path.write_text(json.dumps({"weight_map": weight_map}))


BROKEN: list[tuple[dict[str, Any], Callable[[Path], None], str, str]] = [
    ({}, remove("config.json"), "config.json", "is missing: expected a model directory"),
    ({}, remove("model.safetensors"), "", "has no weights: expected model.safetensors, or model.safetensors.index"),
    ({}, truncate("model.safetensors", 300_000), "model.safetensors", "is truncated: 300000 bytes, but its header"),
    ({}, truncate("model.safetensors", 500), "model.safetensors", "is not a safetensors file, or its header is cut"),
    ({}, truncate("model.safetensors", 0), "model.safetensors", "is not a safetensors file"),
    ({}, write("model.safetensors", "version https://git-lfs"), "model.safetensors", "is not a safetensors file"),
    ({}, rewrite("model.norm.weight", None), "model.safetensors", "has no tensor model.norm.weight"),
    (
        {},
        rewrite("model.layers.1.self_attn.k_proj.bias", None),
        "model.safetensors",
        "has no tensor model.layers.1.self_attn.k_proj.bias, which config.json calls for",
    ),
    (
        {},
        rewrite("model.layers.0.mlp.up_proj.weight", lambda a: a[:-1]),
        "model.safetensors",
        "model.layers.0.mlp.up_proj.weight has shape [95, 64], but config.json calls for [96, 64]",
    ),
    (
        {},
        rewrite("model.norm.weight", lambda a: a.astype(mx.int32)),
        "model.safetensors",
        "model.norm.weight is of type I32, but F32 or F16 or BF16 was expected",
    ),
    ({}, configure(intermediate_size=100), "model.safetensors", "has shape [96, 64], but config.json calls for [100"),
    ({}, configure(num_hidden_layers=3), "model.safetensors", "has no tensor model.layers.2."),
    ({}, configure(num_hidden_layers=1), "model.safetensors", "has weights for more than the 1 layers"),
    ({}, configure(tie_word_embeddings=False), "model.safetensors", "has no tensor lm_head.weight"),
    ({}, remove("tokenizer.json"), "", "has no tokenizer: expected tokenizer.json, or vocab.json and merges.txt"),
    ({}, write("tokenizer.json", "{"), "tokenizer.json", "is not a tokenizer that can be read"),
    ({}, write("generation_config.json", "{"), "generation_config.json", "can't be read as JSON"),
    ({"vocab_size": 200}, lambda folder: None, "", "the tokenizer has 300 tokens, but the model only 200"),
    (SHARDED, remove("model-00002-of-00003.safetensors"), "model-00002-of-00003.safetensors", "is missing, but model"),
    (SHARDED, truncate("model-00003-of-00003.safetensors", 9000), "model-00003-of-00003.safetensors", "is truncated"),
    (SHARDED, misplace, "model-00001-of-00003.safetensors", "has no tensor model.extra.weight, where model.safete"),
    (SHARDED, write("model.safetensors.index.json", "{}"), "model.safetensors.index.json", "has no weight_map"),
    (
        QUANTIZED,
        configure(quantization=None),
        "model.safetensors",
        "model.embed_tokens is quantized, but config.json has no quantization block",
    ),
    (
        QUANTIZED,
        configure(quantization={"bits": 8, "group_size": 32}),
        "model.safetensors",
        "model.embed_tokens.weight has shape [331, 8], but config.json calls for [331, 16]",
    ),
    (
        QUANTIZED,
        configure(quantization={"bits": 4, "group_size": 128}),
        "config.json",
        "model.embed_tokens can't be quantized in groups of 128, because its rows have 64 elements",
    ),
    (
        QUANTIZED,
        rewrite("model.layers.0.mlp.down_proj.biases", None),
        "model.safetensors",
        "has no tensor model.layers.0.mlp.down_proj.biases",
    ),
]


@pytest.mark.parametrize(("config", "damage", "file", "message"), BROKEN, ids=[row[3][:48] for row in BROKEN])
def test_broken_checkpoints(
    checkpoints: Path,
    tmp_path: Path,
    config: dict[str, Any],
    damage: Callable[[Path], None],
    file: str,
    message: str,
) -> None:
    folder = copy(tiny.checkpoint(checkpoints, **config), tmp_path)
    damage(folder)
    with pytest.raises(ModelError) as caught:
        load(str(folder))
    text = str(caught.value)
    assert str(folder / file) in text
    assert message in text
    assert "\n" not in text
