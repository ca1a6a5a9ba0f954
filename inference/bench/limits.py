"""What this machine can do at most, measured by a short probe, and what a model's steps ask of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx

import metal_kernels
from inference.bench.measure import Result
from inference.model.config import ModelConfig
from inference.model.loader import LoadedModel
from inference.ops.weights import runs_on_cpu

_READ_BYTES = 512 << 20
"""Larger than a processor's caches are meant to help with, small enough for any machine that runs a model."""
_PASSES = 7
_MATRIX = 2048


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes that can be read of memory in a second, and operations (a multiplication and an addition are two)."""

    read_bandwidth: float
    peak: float
    peak_of: str
    """What was multiplied, and how."""


def measure_limits(activations: str = "exact") -> Limits:
    """Probe this machine for about a second, on as many threads as the kernels have, or on the GPU.

    With `activations` "bfloat16" or "int8" the peak is that of products of such numbers.
    """
    native = metal_kernels.native
    if native is not None and runs_on_cpu():
        bandwidth = native.read_bandwidth(_READ_BYTES, _PASSES)
        if activations == "int8":
            return Limits(bandwidth, native.int8_peak(), f"int8 in registers, {native.level()}")
        if activations == "bfloat16":
            return Limits(bandwidth, native.bf16_peak(), f"bfloat16 in registers, {native.level()}")
        return Limits(bandwidth, native.float_peak(), f"float32 in registers, {native.level()}")
    words = mx.ones(_READ_BYTES // 4)
    a = mx.ones((_MATRIX, _MATRIX), mx.float32 if runs_on_cpu() else mx.float16)
    mx.eval(words, a)
    return Limits(
        _READ_BYTES / _least_seconds(lambda: mx.sum(words)),
        2 * _MATRIX**3 / _least_seconds(lambda: a @ a),
        f"MLX's matrix product in {a.dtype}".replace("mlx.core.", ""),
    )


def _least_seconds(work: Callable[[], mx.array]) -> float:
    least = float("inf")
    for _ in range(_PASSES):
        start = time.perf_counter()
        mx.eval(work())
        least = min(least, time.perf_counter() - start)
    return least


@dataclass(frozen=True, slots=True)
class Work:
    """What a model's steps have to read and to compute, at the least."""

    config: ModelConfig
    weight_bytes: int
    """All that are stored, of which a step reads nearly all once."""
    embedding_bytes: int
    """Of those, the rows that are only looked up: all of an embedding that is not also the head."""
    kv_bytes_per_token: int

    @classmethod
    def of(cls, loaded: LoadedModel, kv_bytes_per_token: int) -> Work:
        """`kv_bytes_per_token`: as the engine keeps them."""
        return cls(loaded.config, loaded.info.weight_bytes, loaded.model.lookup_bytes, kv_bytes_per_token)

    def step_bytes(self, contexts: int) -> float:
        """Bytes that one step reads: the weights once, and the keys and values of all `contexts` tokens together."""
        return self.weight_bytes - self.embedding_bytes + contexts * self.kv_bytes_per_token

    def operations(self, tokens: int, attended: int, predictions: int) -> float:
        """Multiplications and additions for so many tokens through the layers, which look at `attended` keys in all,
        and the logits of some of them."""
        c = self.config
        queries, keys = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
        layer = c.hidden_size * (2 * queries + 2 * keys) + 3 * c.hidden_size * c.intermediate_size
        matrices = 2 * tokens * layer * c.num_hidden_layers
        attention = 4 * attended * queries * c.num_hidden_layers
        return float(matrices + attention + 2 * predictions * c.hidden_size * c.vocab_size)


@dataclass(frozen=True, slots=True)
class Efficiency:
    """How near a measured result is to the machine's limits. Rates are by the second, shares are of the limits."""

    step_bytes: float
    """What a decode step reads, in the middle of the answers."""
    step_operations: float
    read_rate: float
    """Bytes that the decode steps read."""
    read_share: float
    decode_rate: float
    """Operations of the decode steps."""
    decode_share: float
    prefill_rate: float
    prefill_share: float

    @classmethod
    def of(cls, result: Result, work: Work, limits: Limits) -> Efficiency:
        load = result.workload
        contexts = load.concurrency * (load.prompt_tokens + load.gen_tokens // 2)
        steps = result.decode_speed.median / load.concurrency
        step_bytes = work.step_bytes(contexts)
        step_operations = work.operations(load.concurrency, contexts, load.concurrency)
        prompt = work.operations(load.prompt_tokens, load.prompt_tokens * (load.prompt_tokens + 1) // 2, 1)
        prefill_rate = prompt / load.prompt_tokens * result.prefill_speed.median
        return cls(
            step_bytes,
            step_operations,
            step_bytes * steps,
            step_bytes * steps / limits.read_bandwidth,
            step_operations * steps,
            step_operations * steps / limits.peak,
            prefill_rate,
            prefill_rate / limits.peak,
        )
