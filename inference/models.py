"""The models on this machine seen from outside: list them, fetch one, look into one without loading it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from inference.errors import ModelError
from inference.model import hub
from inference.model.config import ModelConfig
from inference.model.weights import Checkpoint, count_parameters, stored_dtype
from inference.paths import expanded

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Summary:
    """What a model is and what it costs, read from its config and the headers of its files."""

    ref: str
    path: str
    disk_bytes: int
    num_parameters: int
    dtype: str
    """Type of the stored weights, or of their scales if they are quantized."""
    quantization: str
    context_length: int
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_size: int
    vocab_size: int
    tied_embeddings: bool
    kv_bytes_per_token: int
    """In `dtype`; twice as much if the engine computes in float32 instead of 16 bits."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def local() -> list[Summary | ModelError]:
    """Every model that can be used by name without a network; one that is there but broken as the error it gives."""
    return [_summary_or_error(model.ref, model.path) for model in hub.local_models()]


def inspect(ref: str) -> Summary:
    """Look into a model; anything `--model` takes. One on the hub is downloaded first. Raises ModelError."""
    return _summary(ref, hub.resolve(ref))


def download(ref: str, progress: Callable[[str], None]) -> Summary:
    """Fetch a model from the hub, or make a synthetic one. Raises ModelError."""
    on_hub = ref not in hub.BUNDLED and "/" in ref and not expanded(ref).exists()
    return _summary(ref, hub.download(ref, progress) if on_hub else hub.resolve(ref, progress))


def _summary_or_error(ref: str, path: Path) -> Summary | ModelError:
    try:
        return _summary(ref, path)
    except ModelError as error:
        return error


def _summary(ref: str, path: Path) -> Summary:
    config, checkpoint = ModelConfig.from_directory(path), Checkpoint(path)
    dtype = stored_dtype(checkpoint)
    return Summary(
        ref=ref,
        path=str(path),
        disk_bytes=hub.disk_bytes(path),
        num_parameters=count_parameters(checkpoint, config),
        dtype=dtype,
        quantization=str(config.quantization or "none"),
        context_length=config.max_position_embeddings,
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        head_size=config.head_dim,
        vocab_size=config.vocab_size,
        tied_embeddings=config.tie_word_embeddings,
        kv_bytes_per_token=config.kv_elements_per_token * _BYTES[dtype],
    )
