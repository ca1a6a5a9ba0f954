"""What config.json says of a Qwen2 model, checked: shapes, positions, quantization."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference.errors import ModelError

BITS = (4, 8)
GROUP_SIZES = (32, 64, 128)


@dataclass(frozen=True, slots=True)
class Quantization:
    """Bits of an element, and how many of them share a scale and a bias."""

    bits: int
    group_size: int

    def __str__(self) -> str:
        return f"{self.bits}-bit, groups of {self.group_size}"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a Qwen2 model, in the names of config.json."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    eos_token_ids: frozenset[int] = frozenset()
    quantization: Quantization | None = None
    """How matrices are quantized that `quantization_overrides` doesn't name; only those whose scales are stored."""
    quantization_overrides: Mapping[str, Quantization] = field(default_factory=dict)
    """By path of a matrix, such as "model.layers.0.mlp.down_proj"."""

    @classmethod
    def from_directory(cls, directory: Path) -> ModelConfig:
        """Read `directory`/config.json. Raises ModelError for anything but a Qwen2 that can be run here."""
        path = directory / "config.json"
        return _Reader(path, read_json(path)).config()

    def quantization_of(self, path: str) -> Quantization | None:
        """How the matrix at `path` is quantized if it is; None if the config says nothing of quantization."""
        return self.quantization_overrides.get(path, self.quantization)

    @property
    def kv_elements_per_token(self) -> int:
        """Elements that the KV cache holds of one token, keys and values of all layers together."""
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ModelError if it is missing, unreadable or something else than an object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: expected a model directory in Hugging Face or MLX format") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} can't be read as JSON ({error}): download the model again") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds a JSON {type(value).__name__}, but an object was expected")
    return value


@dataclass(frozen=True, slots=True)
class _Reader:
    """Picks a ModelConfig out of the JSON; every complaint names the file."""

    path: Path
    raw: Mapping[str, Any]

    def config(self) -> ModelConfig:
        self._require_qwen2()
        hidden, heads = self._integer("hidden_size"), self._integer("num_attention_heads")
        kv_heads = self._integer("num_key_value_heads", default=heads)
        if heads % kv_heads:
            raise self._error(f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}")
        if self.raw.get("head_dim") is None and hidden % heads:
            raise self._error(f"hidden_size {hidden} is not a multiple of num_attention_heads {heads}")
        head_dim = self._integer("head_dim", default=hidden // heads)
        if head_dim % 2:
            raise self._error(f"the head size is {head_dim}, but rotary positions need an even one")
        quantization, overrides = self._quantization()
        return ModelConfig(
            hidden_size=hidden,
            num_hidden_layers=self._integer("num_hidden_layers"),
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            head_dim=head_dim,
            intermediate_size=self._integer("intermediate_size"),
            vocab_size=self._integer("vocab_size"),
            max_position_embeddings=self._integer("max_position_embeddings", default=32768),
            rms_norm_eps=self._number("rms_norm_eps", self.raw.get("rms_norm_eps", 1e-6)),
            rope_theta=self._rope_theta(),
            tie_word_embeddings=bool(self.raw.get("tie_word_embeddings", False)),
            eos_token_ids=token_ids(self.raw.get("eos_token_id")),
            quantization=quantization,
            quantization_overrides=overrides,
        )

    def _error(self, what: str) -> ModelError:
        return ModelError(f"{self.path}: {what}")

    def _require_qwen2(self) -> None:
        found = self.raw.get("model_type")
        names = self.raw.get("architectures") or ["Qwen2ForCausalLM"]
        if found != "qwen2" or "Qwen2ForCausalLM" not in names:
            raise self._error(
                f"the architecture is {found or 'not named'} ({', '.join(map(str, names))}), "
                "but only qwen2 (Qwen2ForCausalLM) can be run"
            )
        activation = self.raw.get("hidden_act", "silu")
        if activation != "silu":
            raise self._error(f"hidden_act is {activation!r}, but Qwen2's is 'silu'")
        layer_types = self.raw.get("layer_types") or ()
        windowed = any(kind != "full_attention" for kind in layer_types) if layer_types else False
        if self.raw.get("use_sliding_window") or windowed:
            raise self._error("the model uses sliding-window attention, but only full attention can be run")

    def _rope_theta(self) -> float:
        """The base of the rotary angles. transformers 5 keeps it in `rope_parameters`, older ones beside it."""
        parameters = self.raw.get("rope_parameters") or {}
        scaling = self.raw.get("rope_scaling") or {}
        for block in (parameters, scaling):
            if not isinstance(block, Mapping):
                raise self._error(f"rope_parameters is {block!r}, but an object was expected")
            kind = block.get("rope_type", block.get("type", "default"))
            if kind != "default":
                raise self._error(f"rotary positions are scaled by {kind!r}, but only unscaled ones can be run")
        theta = parameters.get("rope_theta", scaling.get("rope_theta", self.raw.get("rope_theta", 10000.0)))
        return self._number("rope_theta", theta)

    def _quantization(self) -> tuple[Quantization | None, dict[str, Quantization]]:
        """The block that MLX's converter writes, under either of the names that it uses."""
        block = self.raw.get("quantization") or self.raw.get("quantization_config")
        if not block:
            return None, {}
        if not isinstance(block, Mapping) or block.get("quant_method") is not None:
            method = block.get("quant_method") if isinstance(block, Mapping) else block
            raise self._error(f"the weights are quantized by {method!r}, but only MLX's own quantization can be run")
        overrides = {
            name: self._quantization_block(name, value) for name, value in block.items() if isinstance(value, Mapping)
        }
        return self._quantization_block("quantization", block), overrides

    def _quantization_block(self, name: str, block: Mapping[str, Any]) -> Quantization:
        bits, group_size, mode = block.get("bits"), block.get("group_size"), block.get("mode", "affine")
        if bits not in BITS or group_size not in GROUP_SIZES or mode != "affine":
            raise self._error(
                f"{name} is {bits} bits in groups of {group_size} ({mode}), "
                "but only affine quantization to 4 or 8 bits in groups of 32, 64 or 128 can be run"
            )
        return Quantization(bits, group_size)

    def _integer(self, key: str, default: int | None = None) -> int:
        value = self.raw.get(key)
        value = default if value is None else value
        if value is None:
            raise self._error(f"{key} is missing")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._error(f"{key} is {value!r}, but must be a whole number of at least 1")
        return value

    def _number(self, key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise self._error(f"{key} is {value!r}, but must be a number above 0")
        return float(value)


def token_ids(value: object) -> frozenset[int]:
    """The ids of an `eos_token_id` entry, which is a number, a list of them, or null."""
    values = value if isinstance(value, list) else [value]
    return frozenset(v for v in values if isinstance(v, int) and not isinstance(v, bool))
