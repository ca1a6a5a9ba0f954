"""A model's weights as a GGUF file, for llama.cpp to be measured with: the same numbers in about the same bytes.

4-bit matrices become Q4_0 (4.5 bits for each weight, as ours with groups of 64), 8-bit ones Q8_0, others bfloat16. Q4_0
has no offsets, so the numbers are requantized: good for measuring speed, not for answers. The file has no tokenizer.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from inference.machine import cache_directory
from inference.model.config import ModelConfig
from inference.model.weights import Checkpoint, MatrixReader
from inference.ops.weights import DenseWeight, QuantizedWeight, Weight

_LAYER_MATRICES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_LAYER_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def file_for(directory: Path) -> Path:
    """Where the conversion of a model is kept: it is made once for the weights as they are."""
    files = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in directory.iterdir()]
    digest = hashlib.sha256(repr(sorted(files)).encode()).hexdigest()[:12]
    return cache_directory() / "gguf" / f"{directory.resolve().name}-{digest}.gguf"


def export(directory: Path, file: Path) -> None:
    """Convert, by the package `gguf`. Raises ModelError for a checkpoint that can't be read."""
    import gguf

    config = ModelConfig.from_directory(directory)
    reader = MatrixReader(Checkpoint(directory), config, mx.float32)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".part")
    writer = gguf.GGUFWriter(str(unfinished), "qwen2")
    _describe(writer, config)
    for name, weight in _matrices(reader, config):
        _add_matrix(writer, gguf, name, weight)
    for name, vector in _vectors(reader, config):
        writer.add_tensor(name, np.array(vector, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.replace(file)


def _describe(writer: Any, config: ModelConfig) -> None:
    writer.add_name("measured")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")


def _matrices(reader: MatrixReader, config: ModelConfig) -> list[tuple[str, Weight]]:
    c = config
    queries, keys = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
    shapes = {
        "self_attn.q_proj": (queries, c.hidden_size),
        "self_attn.k_proj": (keys, c.hidden_size),
        "self_attn.v_proj": (keys, c.hidden_size),
        "self_attn.o_proj": (c.hidden_size, queries),
        "mlp.gate_proj": (c.intermediate_size, c.hidden_size),
        "mlp.up_proj": (c.intermediate_size, c.hidden_size),
        "mlp.down_proj": (c.hidden_size, c.intermediate_size),
    }
    found = [("token_embd", reader.matrix("model.embed_tokens", c.vocab_size, c.hidden_size))]
    if not c.tie_word_embeddings:
        found.append(("output", reader.matrix("lm_head", c.vocab_size, c.hidden_size)))
    for i in range(c.num_hidden_layers):
        for path, name in _LAYER_MATRICES.items():
            bias = name in ("attn_q", "attn_k", "attn_v")
            found.append((f"blk.{i}.{name}", reader.matrix(f"model.layers.{i}.{path}", *shapes[path], bias=bias)))
    return found


def _vectors(reader: MatrixReader, config: ModelConfig) -> list[tuple[str, mx.array]]:
    found = [("output_norm.weight", reader.vector("model.norm.weight", config.hidden_size))]
    for i in range(config.num_hidden_layers):
        for path, name in _LAYER_NORMS.items():
            vector = reader.vector(f"model.layers.{i}.{path}.weight", config.hidden_size)
            found.append((f"blk.{i}.{name}.weight", vector))
    return found


def _add_matrix(writer: Any, gguf: Any, name: str, weight: Weight) -> None:
    numbers, kind = _numbers(weight), gguf.GGMLQuantizationType
    bits = weight.bits if isinstance(weight, QuantizedWeight) else 16
    stored = {4: kind.Q4_0, 8: kind.Q8_0, 16: kind.BF16}[bits]
    packed = gguf.quants.quantize(numbers, stored)
    writer.add_tensor(f"{name}.weight", packed, raw_dtype=stored)
    if weight.bias is not None:
        writer.add_tensor(f"{name}.bias", np.array(weight.bias.astype(mx.float32)))


def _numbers(weight: Weight) -> NDArray[np.float32]:
    if isinstance(weight, QuantizedWeight):
        parts = (weight.packed, weight.scales, weight.biases)
        return np.array(mx.dequantize(*parts, weight.group_size, weight.bits).astype(mx.float32))
    assert isinstance(weight, DenseWeight)
    return np.array(weight.weight.astype(mx.float32))
