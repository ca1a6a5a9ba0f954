"""Tiny random Qwen2 checkpoints, made on the spot: everything a real one has (config, weights, tokenizer), in a blink.

The weights are drawn so that activations keep their size from layer to layer and the logits' spread is small: enough
for the best token to be the same in any float32 arithmetic, little enough for bfloat16's rounding to stay small.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

DEFAULTS: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 331,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
}

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TOKENIZER_SIZE = 300
"""Tokens in the tokenizer: 256 bytes, merges, and the special tokens last. Smaller than the model's vocabulary."""

# What the merges are learnt from; the accents and the emoji make tokens that end inside a character.
_SAMPLE = (
    "the cat sat on the mat and then the other cat sat there: à la carte, naïve café, ünïcödé, 😀 😁 😂 漢字 1234 + 567"
)
_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def checkpoint(
    base: Path,
    *,
    dtype: str = "float32",
    shards: int = 1,
    quantization: Mapping[str, Any] | None = None,
    chat_template: str | None = None,
    spread: float = 0.4,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Write a checkpoint in a folder of its own under `base` and return it; the same arguments give the same folder.

    `config` overrides DEFAULTS key by key. `quantization` is MLX's block: {"bits": 4, "group_size": 64}, and under a
    weight's path, such as "model.layers.0.mlp.down_proj", False (left as it is) or a block of its own. `spread` is the
    standard deviation of the logits.
    """
    settings = DEFAULTS | config
    key = json.dumps([settings, dtype, shards, quantization, chat_template, spread, seed], sort_keys=True)
    folder = base / f"tiny-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True)
    end, _, im_end = range(TOKENIZER_SIZE - 3, TOKENIZER_SIZE)
    write_tokenizer(folder, chat_template)
    tensors = {name: array.astype(getattr(mx, dtype)) for name, array in random_weights(settings, spread, seed).items()}
    if quantization:
        tensors = _quantize(tensors, quantization)
        settings = settings | {"quantization": dict(quantization)}
    write_shards(folder, tensors, shards)
    generation = {"eos_token_id": [im_end, end], "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    (folder / "config.json").write_text(json.dumps({"torch_dtype": dtype, "eos_token_id": im_end} | settings))
    return folder


def perturbed(folder: Path, amount: float) -> Path:
    """A checkpoint much like another: noise of `amount` times its own spread is added to each matrix."""
    other = folder.with_name(f"{folder.name}-{amount}")
    if not (other / "config.json").exists():
        shutil.copytree(folder, other, ignore=shutil.ignore_patterns("*.safetensors"))
        rng = np.random.default_rng(1)
        tensors = dict(mx.load(str(folder / "model.safetensors")))
        for name, array in tensors.items():
            noise = mx.array(rng.standard_normal(array.shape).astype(np.float32))
            tensors[name] = array + amount * mx.std(array) * noise if array.ndim == 2 else array
        write_shards(other, tensors, 1)
    return other


def random_weights(settings: Mapping[str, Any], spread: float, seed: int) -> dict[str, mx.array]:
    """Every tensor of a Qwen2 checkpoint by its Hugging Face name, in float32."""
    rng = np.random.default_rng(seed)
    hidden, inner = settings["hidden_size"], settings["intermediate_size"]
    heads, kv_heads = settings["num_attention_heads"], settings["num_key_value_heads"]
    size = settings.get("head_dim") or hidden // heads

    def normal(scale: float, *shape: int) -> mx.array:
        return mx.array((scale * rng.standard_normal(shape)).astype(np.float32))

    def matrix(rows: int, columns: int) -> mx.array:
        return normal(columns**-0.5, rows, columns)

    tensors = {"model.embed_tokens.weight": normal(spread * hidden**-0.5, settings["vocab_size"], hidden)}
    for i in range(settings["num_hidden_layers"]):
        layer = {
            "input_layernorm.weight": 1 + normal(0.1, hidden),
            "self_attn.q_proj.weight": matrix(heads * size, hidden),
            "self_attn.q_proj.bias": normal(0.5, heads * size),
            "self_attn.k_proj.weight": matrix(kv_heads * size, hidden),
            "self_attn.k_proj.bias": normal(0.5, kv_heads * size),
            "self_attn.v_proj.weight": matrix(kv_heads * size, hidden),
            "self_attn.v_proj.bias": normal(0.1, kv_heads * size),
            "self_attn.o_proj.weight": matrix(hidden, heads * size),
            "post_attention_layernorm.weight": 1 + normal(0.1, hidden),
            "mlp.gate_proj.weight": matrix(inner, hidden),
            "mlp.up_proj.weight": matrix(inner, hidden),
            "mlp.down_proj.weight": matrix(hidden, inner),
        }
        tensors |= {f"model.layers.{i}.{name}": array for name, array in layer.items()}
    tensors["model.norm.weight"] = 1 + normal(0.1, hidden)
    if not settings["tie_word_embeddings"]:
        tensors["lm_head.weight"] = spread * matrix(settings["vocab_size"], hidden)
    return tensors


def write_shards(folder: Path, tensors: Mapping[str, mx.array], shards: int) -> None:
    """model.safetensors, or `shards` files of it and their index."""
    if shards == 1:
        mx.save_safetensors(str(folder / "model.safetensors"), dict(tensors), {"format": "pt"})
        return
    weight_map = {}
    names = sorted(tensors)
    for s in range(shards):
        file = f"model-{s + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[s::shards]}
        mx.save_safetensors(str(folder / file), part, {"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": sum(a.nbytes for a in tensors.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_tokenizer(folder: Path, chat_template: str | None = None) -> None:
    """tokenizer.json and tokenizer_config.json of a byte-level BPE tokenizer split as Qwen2's is."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENIZER_SIZE - len(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_SAMPLE], trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    assert tokenizer.get_vocab_size() == TOKENIZER_SIZE
    tokenizer.save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 1024,
        "clean_up_tokenization_spaces": False,
    }
    if chat_template is not None:
        settings["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _quantize(tensors: Mapping[str, mx.array], quantization: Mapping[str, Any]) -> dict[str, mx.array]:
    """Replace each matrix by MLX's packed triple, but where the block says otherwise."""
    out = {}
    for name, array in tensors.items():
        path = name.removesuffix(".weight")
        block = quantization.get(path, quantization)
        if array.ndim != 2 or block is False:
            out[name] = array
            continue
        packed, scales, biases = mx.quantize(array, block["group_size"], block["bits"])
        out |= {name: packed, f"{path}.scales": scales, f"{path}.biases": biases}
    return out
