"""Random weights at the real shapes of Qwen2.5, for measuring speed without a download.

`synthetic:0.5b` is quantized to 4 bits in groups of 64, as models are usually run; `synthetic:0.5b:8bit` and
`synthetic:0.5b:bf16` are the other kinds. A model is written to the cache directory once, layer by layer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from inference.errors import ModelError
from inference.machine import cache_directory
from inference.model import making
from inference.model.making import GROUP_SIZE, KINDS, TOKENIZER_FILES, Tensors

PREFIX = "synthetic:"

VERSION = 1
"""Part of the directory's name: raise it when what is written changes."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers in which the sizes of Qwen2.5 differ."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int
    tie_word_embeddings: bool


SHAPES = {
    "0.5b": Shape(896, 24, 14, 2, 4864, 151936, True),
    "1.5b": Shape(1536, 28, 12, 2, 8960, 151936, True),
    "7b": Shape(3584, 28, 28, 4, 18944, 152064, False),
}
"""From the config.json of Qwen/Qwen2.5-*-Instruct."""


def ensure(ref: str, progress: Callable[[str], None], *, tokenizer_from: Path) -> Path:
    """The directory of the synthetic model `ref`, written first if it isn't there.

    It gets the tokenizer in the directory `tokenizer_from`, or, if there is none, one that has a token for each byte.
    Raises ModelError for an unknown size or kind, or a full disk.
    """
    size, kind = parse(ref)
    directory = _directory(size, kind)

    def fill(draft: Path) -> None:
        write(draft, SHAPES[size], KINDS[kind], lambda stage: progress(f"making {ref}: {stage}"))
        _write_tokenizer(draft, tokenizer_from)

    return making.once(directory, ref, fill)


def parse(ref: str) -> tuple[str, str]:
    """Size and kind of a reference such as synthetic:0.5b or synthetic:7b:8bit. Raises ModelError."""
    size, _, kind = ref.removeprefix(PREFIX).lower().partition(":")
    kind = kind or next(iter(KINDS))
    if size not in SHAPES or kind not in KINDS:
        raise ModelError(
            f"{ref!r} is no synthetic model: the sizes are {', '.join(SHAPES)}, the kinds {', '.join(KINDS)}, "
            f"as in {PREFIX}0.5b or {PREFIX}0.5b:8bit"
        )
    return size, kind


def existing() -> Iterator[tuple[str, Path]]:
    """The synthetic models in the cache, each with the reference that asks for it."""
    for size in SHAPES:
        for kind in KINDS:
            directory = _directory(size, kind)
            if (directory / "config.json").exists():
                yield f"{PREFIX}{size}:{kind}", directory


def write(directory: Path, shape: Shape, bits: int, progress: Callable[[str], None]) -> None:
    """Write config.json and weights, one file for each layer and one for the rest; config.json last."""
    rng = np.random.default_rng(0)
    count = shape.num_hidden_layers

    def parts() -> Iterator[Tensors]:
        for i in range(count):
            progress(f"layer {i + 1} of {count}")
            yield layer(shape, i, bits, rng)
        progress("embedding")
        yield _ends(shape, bits, rng)

    making.write(directory, parts(), count + 1, _config(shape, bits), "random weights")


def _directory(size: str, kind: str) -> Path:
    return cache_directory() / "synthetic" / f"qwen2.5-{size}-{kind}-v{VERSION}"


def _config(shape: Shape, bits: int) -> Mapping[str, Any]:
    names = Shape.__dataclass_fields__
    config: dict[str, Any] = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        **{name: getattr(shape, name) for name in names},
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "torch_dtype": "bfloat16",
    }
    return {**config, **making.quantization(bits)}


def layer(shape: Shape, i: int, bits: int, rng: np.random.Generator) -> Tensors:
    """Layer number i, of random weights that keep activations at their size."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    keys = hidden // shape.num_attention_heads * shape.num_key_value_heads
    path = f"model.layers.{i}"
    tensors = {f"{path}.{name}.weight": _ones(hidden) for name in ("input_layernorm", "post_attention_layernorm")}
    for name, outputs, inputs in (
        ("self_attn.q_proj", hidden, hidden),
        ("self_attn.k_proj", keys, hidden),
        ("self_attn.v_proj", keys, hidden),
        ("self_attn.o_proj", hidden, hidden),
        ("mlp.gate_proj", inner, hidden),
        ("mlp.up_proj", inner, hidden),
        ("mlp.down_proj", hidden, inner),
    ):
        tensors |= _matrix(f"{path}.{name}", outputs, inputs, bits, rng)
        if name.endswith(("q_proj", "k_proj", "v_proj")):
            tensors[f"{path}.{name}.bias"] = mx.zeros(outputs, mx.bfloat16)
    return tensors


def _ends(shape: Shape, bits: int, rng: np.random.Generator) -> Tensors:
    """All that is not in a layer."""
    tensors = {"model.norm.weight": _ones(shape.hidden_size)}
    tensors |= _matrix("model.embed_tokens", shape.vocab_size, shape.hidden_size, bits, rng)
    if not shape.tie_word_embeddings:
        tensors |= _matrix("lm_head", shape.vocab_size, shape.hidden_size, bits, rng)
    return tensors


def _matrix(path: str, outputs: int, inputs: int, bits: int, rng: np.random.Generator) -> Tensors:
    """Random elements, uniform, of mean 0 and variance 1 / inputs, so that activations keep their size.

    Random bits are random elements in any of these kinds, and cost a tenth of drawing normal numbers.
    """
    width = (12 / inputs) ** 0.5
    if bits == 16:
        elements = rng.integers(-32768, 32768, (outputs, inputs), np.int16)
        return {f"{path}.weight": (mx.array(elements) * (width / 65536)).astype(mx.bfloat16)}
    step = width / 2**bits
    groups = (outputs, inputs // GROUP_SIZE)
    words = rng.integers(0, 2**32, (outputs, inputs * bits // 32), np.uint32)
    return {
        f"{path}.weight": mx.array(words),
        f"{path}.scales": mx.full(groups, step, mx.bfloat16),
        f"{path}.biases": mx.full(groups, step * (1 - 2**bits) / 2, mx.bfloat16),
    }


def _ones(size: int) -> mx.array:
    return mx.ones(size, mx.bfloat16)


def _write_tokenizer(directory: Path, source: Path) -> None:
    """Copy a tokenizer, or make one of 256 bytes and an end token; ids above it decode to a placeholder."""
    if (source / TOKENIZER_FILES[0]).exists():
        making.copy(source, directory, TOKENIZER_FILES)
        return
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<|im_start|>", "<|im_end|>")])
    tokenizer.save(str(directory / TOKENIZER_FILES[0]))
    (directory / TOKENIZER_FILES[1]).write_text(json.dumps({"eos_token": "<|im_end|>"}))
