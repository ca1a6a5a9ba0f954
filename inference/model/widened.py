"""The demo model at the real shapes of Qwen2.5: what it says is the demo's, what it costs is the large model's.

Random weights accept no draft, and a small model leaves a draft little to save. `demo:0.5b` is the demo model with the
sizes of Qwen2.5-0.5B: its own weights among zeros, its own layers before others that add nothing. So speculative
decoding can be measured on real text, with the real acceptance, at the real cost. `demo:0.5b:4bit` and `:8bit` are
quantized, and then the demo as it would be when quantized alike.

How the function stays, for hidden size E widened to E', heads of D to D', a vocabulary of V to V':

- The stream has zeros beyond E. A norm's mean then is E/E' of what it was, so its weight is times sqrt(E/E'), and its
  eps times E/E'.
- Rotary pair i turns by theta^(-2i/D), which is pair i * D'/D of the larger head. Scores are divided by sqrt(D'), so
  queries are times sqrt(D'/D).
- A query head stays with its key head: head r of group g is head r of the larger group g.
- Tokens from V on must never be chosen, not even by a draw, and logits have no bias. So each of the V tokens puts a
  small constant c into two further places of the stream. All norms ignore them (their eps is that much smaller), but
  the last one amplifies both, with opposite signs. In the head the rows from V on answer to the first of the two, with
  a large negative number; the others to both or neither, which is nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from inference.errors import ModelError
from inference.machine import cache_directory
from inference.model import making
from inference.model.config import ModelConfig, read_json
from inference.model.making import KINDS, TOKENIZER_FILES, Tensors
from inference.model.synthetic import SHAPES, Shape, layer
from inference.model.weights import Checkpoint

PREFIX = "demo:"
VERSION = 1
"""Raise it when what is written changes."""

Floats = NDArray[np.float32]

_MARK = 255.0
"""What c and the large number are times a power of two: exact in bfloat16, and in groups of 4 and of 8 bits."""
_AMPLIFIED = 1024.0
_UNWANTED = _MARK * 128


def ensure(ref: str, progress: Callable[[str], None], *, source: Path) -> Path:
    """The directory of the model `ref`, made first of the model in `source` if it isn't there.

    Raises ModelError for an unknown size or kind, one too small for the source, or a full disk.
    """
    size, kind = parse(ref)

    def fill(draft: Path) -> None:
        widen(source, draft, SHAPES[size], KINDS[kind], lambda stage: progress(f"making {ref}: {stage}"))

    return making.once(_directory(_digest(source), size, kind), ref, fill)


def parse(ref: str) -> tuple[str, str]:
    """Size and kind of a reference such as demo:0.5b or demo:0.5b:4bit. Raises ModelError."""
    size, _, kind = ref.removeprefix(PREFIX).lower().partition(":")
    kind = kind or "bf16"
    if size not in SHAPES or kind not in KINDS:
        raise ModelError(
            f"{ref!r} is no widened demo model: the sizes are {', '.join(SHAPES)}, the kinds {', '.join(KINDS)}, "
            f"as in {PREFIX}0.5b or {PREFIX}0.5b:4bit"
        )
    return size, kind


def existing(source: Path) -> Iterator[tuple[str, Path]]:
    """Those made of `source` that are in the cache, each with the reference that asks for it."""
    if not (source / "config.json").exists():
        return
    digest = _digest(source)
    for size in SHAPES:
        for kind in KINDS:
            directory = _directory(digest, size, kind)
            if (directory / "config.json").exists():
                yield f"{PREFIX}{size}:{kind}", directory


def widen(source: Path, directory: Path, shape: Shape, bits: int, progress: Callable[[str], None]) -> None:
    """Write the model in `source`, which must not be quantized, at another shape. Raises ModelError if it is larger."""
    config = ModelConfig.from_directory(source)
    wide = _Widening(Checkpoint(source), config, shape, bits)

    def parts() -> Iterator[Tensors]:
        for i in range(shape.num_hidden_layers):
            progress(f"layer {i + 1} of {shape.num_hidden_layers}")
            yield wide.layer(i)
        progress("embedding")
        yield wide.ends()

    raw = {**read_json(source / "config.json"), **wide.config}
    making.write(directory, parts(), shape.num_hidden_layers + 1, raw, f"{source.name}, widened")
    making.copy(source, directory, (*TOKENIZER_FILES, "generation_config.json"))


@dataclass(frozen=True, slots=True)
class _Axis:
    """Of a matrix: where the old elements lie, and how many there are now."""

    places: NDArray[np.intp]
    size: int


class _Widening:
    """The tensors of a checkpoint, each in its place among zeros."""

    def __init__(self, checkpoint: Checkpoint, old: ModelConfig, new: Shape, bits: int) -> None:
        self._checkpoint, self._old, self._new, self._bits = checkpoint, old, new, bits
        self._head_dim = new.hidden_size // new.num_attention_heads
        self._tied = old.tie_word_embeddings and new.tie_word_embeddings
        self._rng = np.random.default_rng(0)
        self._check()
        self._mark = _MARK * 2.0 ** math.floor(math.log2(math.sqrt(old.rms_norm_eps * old.hidden_size / 4) / _MARK))
        """c: both of them together are at most half of what eps is in the sum of a norm."""

    def _check(self) -> None:
        old, new = self._old, self._new
        groups = [c.num_attention_heads // c.num_key_value_heads for c in (old, new)]
        if (
            old.hidden_size + 2 > new.hidden_size
            or old.num_hidden_layers > new.num_hidden_layers
            or old.num_key_value_heads > new.num_key_value_heads
            or groups[0] > groups[1]
            or old.intermediate_size > new.intermediate_size
            or old.vocab_size > new.vocab_size
            or self._head_dim % old.head_dim
        ):
            raise ModelError(
                f"{self._checkpoint.directory} does not fit into a model of that size: choose a larger one"
            )
        if old.quantization:
            raise ModelError(f"{self._checkpoint.directory} is quantized, but only a dense model can be widened")

    @property
    def config(self) -> Mapping[str, Any]:
        """What config.json says otherwise than the source's."""
        old, new = self._old, self._new
        return {
            "hidden_size": new.hidden_size,
            "num_hidden_layers": new.num_hidden_layers,
            "num_attention_heads": new.num_attention_heads,
            "num_key_value_heads": new.num_key_value_heads,
            "head_dim": self._head_dim,
            "intermediate_size": new.intermediate_size,
            "vocab_size": new.vocab_size,
            "tie_word_embeddings": self._tied,
            "rms_norm_eps": (old.rms_norm_eps * old.hidden_size - 2 * self._mark**2) / new.hidden_size,
            "layer_types": ["full_attention"] * new.num_hidden_layers,
            **making.quantization(self._bits),
        }

    def layer(self, i: int) -> Tensors:
        """Layer number i: the source's, or after its last one a random one whose outputs are zero."""
        old, new = self._old, self._new
        path = f"model.layers.{i}"
        if i >= old.num_hidden_layers:
            tensors = layer(new, i, self._bits, self._rng)
            mixed = new.num_attention_heads * self._head_dim
            for name, inputs in (("self_attn.o_proj", mixed), ("mlp.down_proj", new.intermediate_size)):
                tensors |= self._stored(f"{path}.{name}", np.zeros((new.hidden_size, inputs), np.float32))
            return tensors
        key_heads = np.arange(old.num_key_value_heads)
        old_group, new_group = (c.num_attention_heads // c.num_key_value_heads for c in (old, new))
        query_heads = (key_heads[:, None] * new_group + np.arange(old_group)).ravel()
        stream = _Axis(np.arange(old.hidden_size), new.hidden_size)
        queries = _Axis(self._places(query_heads), new.num_attention_heads * self._head_dim)
        keys = _Axis(self._places(key_heads), new.num_key_value_heads * self._head_dim)
        inner = _Axis(np.arange(old.intermediate_size), new.intermediate_size)
        return {
            **self._norm(f"{path}.input_layernorm"),
            **self._matrix(f"{path}.self_attn.q_proj", queries, stream, math.sqrt(self._head_dim / old.head_dim)),
            **self._matrix(f"{path}.self_attn.k_proj", keys, stream),
            **self._matrix(f"{path}.self_attn.v_proj", keys, stream),
            **self._matrix(f"{path}.self_attn.o_proj", stream, queries),
            **self._norm(f"{path}.post_attention_layernorm"),
            **self._matrix(f"{path}.mlp.gate_proj", inner, stream),
            **self._matrix(f"{path}.mlp.up_proj", inner, stream),
            **self._matrix(f"{path}.mlp.down_proj", stream, inner),
        }

    def ends(self) -> Tensors:
        """All that is not in a layer."""
        old, new = self._old, self._new
        first = new.hidden_size - 2
        tensors = self._norm("model.norm")
        tensors["model.norm.weight"][first:] = mx.array([_AMPLIFIED, -_AMPLIFIED])
        embedding = self._rows("model.embed_tokens.weight")
        head = embedding
        if not self._tied:
            head = embedding.copy() if old.tie_word_embeddings else self._rows("lm_head.weight")
        embedding[: old.vocab_size, first:] = self._mark
        head[old.vocab_size :, first] = -_UNWANTED
        tensors |= self._stored("model.embed_tokens", embedding)
        return tensors if self._tied else tensors | self._stored("lm_head", head)

    def _rows(self, name: str) -> Floats:
        """[V', E'], with the matrix of that name in its upper left corner."""
        old, new = self._old, self._new
        rows = np.zeros((new.vocab_size, new.hidden_size), np.float32)
        rows[: old.vocab_size, : old.hidden_size] = self._read(name, old.vocab_size, old.hidden_size)
        return rows

    def _places(self, heads: NDArray[np.intp]) -> NDArray[np.intp]:
        """Where the elements of the old heads lie if these are their numbers among the new ones."""
        old, size = self._old, self._head_dim
        within = np.arange(old.head_dim // 2) * (size // old.head_dim)
        within = np.concatenate([within, within + size // 2])
        return (heads[:, None] * size + within).ravel()

    def _norm(self, path: str) -> Tensors:
        """Its weight [E'] in float32, because rounded anew it would be another norm."""
        wide = np.zeros(self._new.hidden_size, np.float32)
        size = self._old.hidden_size
        wide[:size] = self._read(f"{path}.weight", size) * math.sqrt(size / self._new.hidden_size)
        return {f"{path}.weight": mx.array(wide)}

    def _matrix(self, path: str, rows: _Axis, columns: _Axis, factor: float = 1.0) -> Tensors:
        """The matrix at `path`, and its bias if it has one, times `factor`."""
        height, width = len(rows.places), len(columns.places)
        matrix = np.zeros((rows.size, columns.size), np.float32)
        matrix[np.ix_(rows.places, columns.places)] = factor * self._read(f"{path}.weight", height, width)
        tensors = self._stored(path, matrix)
        if f"{path}.bias" in self._checkpoint:
            vector = np.zeros(rows.size, np.float32)
            vector[rows.places] = factor * self._read(f"{path}.bias", height)
            tensors[f"{path}.bias"] = _narrow(vector)
        return tensors

    def _read(self, name: str, *shape: int) -> Floats:
        return np.array(self._checkpoint.floats(name, shape, mx.float32))

    def _stored(self, path: str, matrix: Floats) -> Tensors:
        return making.quantized(path, _narrow(matrix), self._bits)


def _narrow(values: Floats) -> mx.array:
    """In bfloat16 where that loses nothing."""
    wide = mx.array(values)
    narrow = wide.astype(mx.bfloat16)
    return narrow if mx.array_equal(narrow.astype(mx.float32), wide).item() else wide


def _directory(digest: str, size: str, kind: str) -> Path:
    return cache_directory() / "widened" / f"demo-{size}-{kind}-{digest}"


def _digest(source: Path) -> str:
    """Of all that the result depends on."""
    digest = hashlib.sha256(str(VERSION).encode())
    for file in sorted(source.iterdir()):
        if file.suffix in (".json", ".jinja", ".safetensors"):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
