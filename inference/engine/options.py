"""Every engine option as asked for, as in force, and why the two differ."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from inference.engine.kv_pool import PoolSize
from inference.errors import ConfigError
from inference.model.loader import LoadedModel
from inference.ops.attention import in_force
from inference.ops.kv_store import KVFormat
from inference.ops.proof import UNASKED
from inference.ops.table import PARTS, OpChoice, OpTable
from inference.ops.weights import runs_on_cpu
from inference.protocol import EngineConfig, KernelState, ModelInfo, OptionState, in_words

_LIVE = {f.name: bool(f.metadata["live"]) for f in fields(EngineConfig)}


class Options:
    """The requested configuration beside the one in force.

    `in_force` has concrete values where the request says "auto" or 0. Its `kernels` can be parsed like the request's.
    """

    def __init__(
        self, requested: EngineConfig, loaded: LoadedModel, model: ModelInfo, pool: PoolSize, capacity: int
    ) -> None:
        """As an engine starts. `capacity`: the most tokens that one request may have, by model, request and pool."""
        self.requested = requested
        self._started_with = requested
        kept = loaded.model.kv_format(requested.kv_cache_dtype)
        found = settled(requested, loaded.model.ops, model, kept)
        self.in_force = replace(
            requested,
            num_kv_blocks=pool.num_blocks,
            max_model_len=capacity,
            draft=model.draft or "none",
            **({"dtype": loaded.dtype} | {name: each.value for name, each in found.items()}),
        )
        self._kernels = found["kernels"].kernels
        self._reasons = {
            "num_kv_blocks": pool.reason,
            "max_model_len": self._length_reason(loaded.info.context_length),
            "dtype": loaded.dtype_reason,
            "draft": "" if model.draft else "this model has none that comes with it",
            **{name: each.reason for name, each in found.items()},
        }

    def _length_reason(self, context_length: int) -> str:
        asked, got = self.requested.max_model_len, self.in_force.max_model_len
        if got == asked:
            return ""
        if got == context_length:
            return "the longest that the model was made for"
        return f"the KV pool of {self.in_force.num_kv_blocks} blocks holds no more"

    def check(self, changes: Mapping[str, Any]) -> EngineConfig:
        """The request with `changes`. Raises ConfigError for an unknown option or a value that it can't take."""
        for name, value in changes.items():
            if name not in _LIVE:
                raise ConfigError(f"there is no option {name!r}; the options are {', '.join(_LIVE)}")
            expected = type(getattr(self.requested, name))
            if type(value) is not expected:
                raise ConfigError(f"{name} is {value!r}, but must be {_KINDS[expected]}")
        return replace(self.requested, **changes)

    def request(self, requested: EngineConfig, found: Mapping[str, Settled]) -> None:
        """Take a checked request: live options are in force from now on, as asked for or as `found` says."""
        changed = {name: getattr(requested, name) for name, live in _LIVE.items() if live}
        self.in_force = replace(self.in_force, **changed)
        self.requested = requested
        for name, each in found.items():
            self.overrule(name, each)

    def overrule(self, name: str, found: Settled) -> None:
        """An option is in force otherwise than it was asked for."""
        self.in_force = replace(self.in_force, **{name: found.value})
        if name == "kernels":
            self._kernels = found.kernels
        self.explain(name, found.reason)

    def explain(self, name: str, reason: str) -> None:
        """Say why an option is in force as it is; an empty reason takes the explanation back."""
        self._reasons[name] = reason

    def states(self) -> tuple[OptionState, ...]:
        """All options, in the order of EngineConfig."""
        return tuple(self._state(name, live) for name, live in _LIVE.items())

    def _state(self, name: str, live: bool) -> OptionState:
        requested = in_words(getattr(self.requested, name))
        pending = not live and getattr(self.requested, name) != getattr(self._started_with, name)
        reason = "takes effect when the engine restarts" if pending else self._reasons.get(name, "")
        kernels = self._kernels if name == "kernels" else ()
        return OptionState(name, requested, in_words(getattr(self.in_force, name)), reason, live, kernels)


_KINDS = {bool: "true or false", int: "a whole number", str: "a word"}


def kernels_in_force(ops: OpTable) -> tuple[str, str]:
    """What a table amounts to as a `kernels` value, and the reasons of its choices."""
    choices = [choice for choice in ops.choices() if not _follows(choice, ops)]
    common, _ = Counter(choice.implementation for choice in choices).most_common(1)[0]
    exceptions = [f"{c.operation}={c.implementation}" for c in choices if c.implementation != common]
    reasons = (_measured(reason, choices) for reason in dict.fromkeys(choice.reason for choice in choices))
    return ",".join([common, *exceptions]), "; ".join(reasons)


def _measured(reason: str, choices: Iterable[OpChoice]) -> str:
    """A reason that some choices share, with how many times as fast each kernel was."""
    ratios = [f"{c.operation} {c.ratio:.1f}×" for c in choices if c.reason == reason and c.ratio]
    return f"{reason} ({', '.join(ratios)})" if ratios else reason


def _told(choice: OpChoice) -> KernelState:
    error = choice.error if choice.error is not None and math.isfinite(choice.error) else None
    return KernelState(choice.operation, choice.implementation, choice.reason, choice.ratio, error)


def _follows(choice: OpChoice, ops: OpTable) -> bool:
    """Whether the choice is no news: of what nobody asks for, or layers by parts that are not all our own kernels."""
    if choice.reason == UNASKED:
        return True
    parts = [other.implementation for other in ops.choices() if other.operation in PARTS]
    return choice.implementation == "parts" and set(parts) != {"native"}


@dataclass(frozen=True, slots=True)
class Settled:
    """What an option's request amounts to, and why if it is something else."""

    value: Any
    reason: str = ""
    kernels: tuple[KernelState, ...] = ()
    """Of the option of that name."""


def settled(requested: EngineConfig, ops: OpTable, model: ModelInfo, kept: KVFormat) -> dict[str, Settled]:
    """The options that depend on each other, the model or the machine."""
    activations = Settled(requested.activations)
    if requested.activations == "int8" and model.quantization == "none":
        activations = Settled("exact", "this model's matrices are not quantized, and take their input as it is")
    caching = Settled(requested.enable_prefix_caching)
    if requested.enable_prefix_caching and requested.kv_layout != "paged":
        caching = Settled(False, "only paged blocks can be kept and shared")
    kernels, reason = kernels_in_force(ops)
    if requested.attention != "auto":
        reason += "; attention has a switch of its own"
    # A choice that was left to the loader stays the loader's to explain.
    dtype = {} if requested.dtype == "auto" else {"dtype": Settled(requested.dtype, _why_slow(requested.dtype, ops))}
    return {
        **dtype,
        "speculation": _speculation(requested, model),
        "kernels": Settled(kernels, reason, tuple(map(_told, ops.choices()))),
        "attention": Settled(*in_force(ops, requested.attention)),
        "activations": activations,
        "kv_cache_dtype": Settled(kept.name, "that of the activations" if requested.kv_cache_dtype == "auto" else ""),
        "enable_prefix_caching": caching,
    }


def _why_slow(dtype: str, ops: OpTable) -> str:
    """Where a type is not what it promises, as a sentence; empty if it is."""
    linear = next(choice.implementation for choice in ops.choices() if choice.operation == "linear")
    if dtype == "float32" or linear == "native" or not runs_on_cpu():
        return ""
    return f"in force, but without our own kernels {dtype} is slower on a CPU than float32"


def _speculation(requested: EngineConfig, model: ModelInfo) -> Settled:
    asked = requested.speculation
    if asked == "off":
        return Settled("off")
    if requested.kv_layout == "none":
        return Settled("off", "where nothing is kept, every draft would be computed again")
    if model.draft or asked == "ngram":
        return Settled(
            "draft" if asked == "auto" else asked, f"the model {model.draft} drafts" if asked == "auto" else ""
        )
    return Settled("off", "there is no draft model: start with --draft, or choose ngram")
