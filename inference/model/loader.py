"""From a model's name to a model that runs: weights in the memory layout that suits the device, tokenizer, facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from inference.errors import ConfigError, ModelError
from inference.model import hub
from inference.model.config import ModelConfig, read_json, token_ids
from inference.model.qwen2 import Qwen2
from inference.model.tokenizer import Tokenizer
from inference.model.weights import Checkpoint, MatrixReader, count_parameters, stored_dtype
from inference.ops.decoder_layer import LayerWeights
from inference.ops.demands import Demands
from inference.ops.proof import trusted
from inference.ops.table import OpTable
from inference.ops.weights import Weight, runs_on_cpu, stack_rows
from inference.protocol import ModelInfo

DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to run, and all that the engine needs to know of it."""

    model: Qwen2
    tokenizer: Tokenizer
    config: ModelConfig
    info: ModelInfo
    eos_ids: frozenset[int]
    """Any of these ends an answer: what config.json, generation_config.json and the tokenizer name."""
    dtype: str
    """Type of activations and KV cache: float32, bfloat16 or float16."""
    dtype_reason: str
    """Why it is that type, if the caller left the choice."""


def load(
    ref: str,
    *,
    dtype: str = "auto",
    kernels: str = "auto",
    activations: str = "exact",
    progress: Callable[[str], None] = lambda stage: None,
) -> LoadedModel:
    """Find, check and load a model: see `hub.resolve` for what `ref` may be.

    `progress` is told in a phrase what is being done. Raises ModelError for a model that can't be loaded, ConfigError
    for an unknown `dtype`, `kernels` or `activations`.
    """
    OpTable.select(kernels, activations=activations)  # complains before anything is read
    directory = hub.resolve(ref, progress)
    config = ModelConfig.from_directory(directory)
    checkpoint = Checkpoint(directory)
    _check_depth(checkpoint, config)
    chosen, reason = choose_dtype(dtype, stored_dtype(checkpoint))
    tokenizer = Tokenizer.from_directory(directory)
    if tokenizer.vocab_size > config.vocab_size:
        raise ModelError(
            f"{directory}: the tokenizer has {tokenizer.vocab_size} tokens, but the model only {config.vocab_size}"
        )
    demands = _demands(checkpoint, config, chosen, activations)
    ops = trusted(kernels, demands, progress)
    builder = _Builder(MatrixReader(checkpoint, config, DTYPES[chosen]), config, ops, demands, progress)
    model = builder.model()
    info = ModelInfo(
        name=ref,
        path=str(directory),
        architecture="Qwen2ForCausalLM",
        num_parameters=count_parameters(checkpoint, config),
        weight_bytes=builder.weight_bytes,
        context_length=config.max_position_embeddings,
        num_layers=config.num_hidden_layers,
        vocab_size=config.vocab_size,
        kv_bytes_per_token=config.kv_elements_per_token * DTYPES[chosen].size,
        quantization=str(config.quantization or "none"),
    )
    eos_ids = config.eos_token_ids | _generation_eos_ids(directory) | tokenizer.eos_ids
    return LoadedModel(model, tokenizer, config, info, eos_ids, chosen, reason)


def demands_of(ref: str) -> Demands:
    """What a model asks of the operations where no option says otherwise; reads no weights. Raises ModelError."""
    directory = hub.resolve(ref)
    config, checkpoint = ModelConfig.from_directory(directory), Checkpoint(directory)
    return _demands(checkpoint, config, choose_dtype("auto", stored_dtype(checkpoint))[0], "exact")


def _demands(checkpoint: Checkpoint, config: ModelConfig, dtype: str, activations: str) -> Demands:
    kinds = {_kind(checkpoint, config, name.removesuffix(".weight")) for name in checkpoint.tensors if _is_matrix(name)}
    return Demands(
        hidden=config.hidden_size,
        inner=config.intermediate_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_size=config.head_dim,
        vocabulary=config.vocab_size,
        matrices=tuple(sorted(kinds)),
        dtype=dtype,
        kv=dtype,
        activations=activations,
    )


def _is_matrix(name: str) -> bool:
    return name.endswith(".weight") and not name.endswith("norm.weight")


def _kind(checkpoint: Checkpoint, config: ModelConfig, path: str) -> tuple[int, int]:
    kind = config.quantization_of(path) if f"{path}.scales" in checkpoint else None
    return (kind.bits, kind.group_size) if kind else (0, 0)


def choose_dtype(requested: str, stored: str) -> tuple[str, str]:
    """The type to compute in, and why if `requested` is "auto". `stored` is the checkpoint's. Raises ConfigError."""
    if requested in DTYPES:
        return requested, ""
    if requested != "auto":
        raise ConfigError(f"dtype is {requested!r}, but must be auto, {', '.join(DTYPES)}")
    if runs_on_cpu() and stored != "float32":
        # Measured on an x86 CPU: dense matrices 1.1 times, 4-bit ones 9 times as fast as in bfloat16.
        return "float32", f"faster on a CPU than the checkpoint's {stored}, and exact"
    return stored, "the checkpoint's own type"


class _Builder:
    """Reads a model's weights, layer by layer, so that no more than one layer is held twice."""

    def __init__(
        self,
        reader: MatrixReader,
        config: ModelConfig,
        ops: OpTable,
        demands: Demands,
        progress: Callable[[str], None],
    ) -> None:
        self.weight_bytes = 0
        self._demands = demands
        self._reader = reader
        self._config = config
        self._ops = ops
        self._progress = progress

    def model(self) -> Qwen2:
        config = self._config
        embedding = self._matrix("model.embed_tokens", config.vocab_size, config.hidden_size)
        layers = []
        for i in range(config.num_hidden_layers):
            self._progress(f"loading weights, layer {i + 1} of {config.num_hidden_layers}")
            layers.append(self._layer(f"model.layers.{i}"))
        norm = self._vector("model.norm.weight")
        head = embedding
        if not config.tie_word_embeddings:
            head = self._matrix("lm_head", config.vocab_size, config.hidden_size)
        return Qwen2(config, embedding, layers, norm, head, self._ops, self._demands)

    def _layer(self, path: str) -> LayerWeights:
        c, attention, mlp = self._config, f"{path}.self_attn", f"{path}.mlp"
        queries, keys = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
        read = self._reader.matrix
        qkv = [
            read(f"{attention}.{name}", outputs, c.hidden_size, bias=True)
            for name, outputs in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys))
        ]
        gate_up = [read(f"{mlp}.{name}", c.intermediate_size, c.hidden_size) for name in ("gate_proj", "up_proj")]
        return LayerWeights(
            attention_norm=self._vector(f"{path}.input_layernorm.weight"),
            qkv=tuple(map(self._place, stack_rows(qkv))),
            out=self._matrix(f"{attention}.o_proj", c.hidden_size, queries),
            mlp_norm=self._vector(f"{path}.post_attention_layernorm.weight"),
            gate_up=tuple(map(self._place, stack_rows(gate_up))),
            down=self._matrix(f"{mlp}.down_proj", c.hidden_size, c.intermediate_size),
            heads=c.num_attention_heads,
            kv_heads=c.num_key_value_heads,
            head_size=c.head_dim,
            theta=c.rope_theta,
            eps=c.rms_norm_eps,
        )

    def _matrix(self, path: str, outputs: int, inputs: int) -> Weight:
        return self._place(self._reader.matrix(path, outputs, inputs))

    def _vector(self, name: str) -> mx.array:
        vector = self._reader.vector(name, self._config.hidden_size)
        mx.eval(vector)
        self.weight_bytes += vector.nbytes
        return vector

    def _place(self, weight: Weight) -> Weight:
        """Read it from the file, now."""
        weight = self._ops.arrange(weight)
        mx.eval(weight.arrays)
        self.weight_bytes += weight.nbytes
        return weight


def _check_depth(checkpoint: Checkpoint, config: ModelConfig) -> None:
    """A checkpoint with more layers than the config admits would load, and talk nonsense."""
    path = f"model.layers.{config.num_hidden_layers}.input_layernorm.weight"
    if path in checkpoint:
        raise ModelError(
            f"{checkpoint.info(path).file} has weights for more than the {config.num_hidden_layers} layers "
            "that config.json calls for"
        )


def _generation_eos_ids(directory: Path) -> frozenset[int]:
    path = directory / "generation_config.json"
    return token_ids(read_json(path).get("eos_token_id")) if path.exists() else frozenset()
