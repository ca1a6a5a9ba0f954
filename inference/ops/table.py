"""Which implementation of each operation is in force, and why: the one table that the model looks operations up in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import mlx.core as mx

from inference.errors import ConfigError
from inference.ops import mlx_ops, native, packing, reference
from inference.ops.kv_store import KVStore
from inference.ops.paged import PagedKV, RaggedLayout
from inference.ops.weights import Weight, arrange
from inference.protocol import ACTIVATIONS


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that the model computes: what it is, and its implementations by name, best first."""

    doc: str
    implementations: Mapping[str, Callable[..., Any]]


_MODULES = {"native": native, "mlx": mlx_ops, "reference": reference}


def _operation(name: str, doc: str) -> Operation:
    usable = {kind: module for kind, module in _MODULES.items() if kind != "native" or not packing.why_missing()}
    return Operation(doc, {kind: getattr(m, name) for kind, m in usable.items() if hasattr(m, name)})


OPERATIONS: Mapping[str, Operation] = {
    name: _operation(name, doc)
    for name, doc in {
        "linear": "multiply by a weight matrix, dense or quantized, and add its bias",
        "embedding": "look up the rows of tokens in the embedding matrix",
        "rms_norm": "scale each row to unit mean square",
        "rope": "turn queries and keys by their position",
        "silu_mul": "SwiGLU's gate: silu(gate) * up",
        "write_kv": "put this step's keys and values into their slots of the KV cache",
        "paged_attention": "attention over the KV cache through block tables",
        "largest": "find the largest logits, to draw one of them",
    }.items()
}

IMPLEMENTATIONS = tuple(_MODULES)
"""Every name that an implementation may have."""


def function(operation: str, implementation: str, activations: str = "exact") -> Callable[..., Any]:
    """What an implementation computes an operation by."""
    if operation == "linear" and activations != "exact":
        rounding: Callable[..., Any] = getattr(_MODULES[implementation], f"{activations}_linear")
        return rounding
    return OPERATIONS[operation].implementations[implementation]


@dataclass(frozen=True, slots=True)
class OpChoice:
    """The implementation of one operation that is in force, and the reason."""

    operation: str
    implementation: str
    reason: str


@dataclass(frozen=True, slots=True)
class OpTable:
    """One callable for each operation; see `reference` for what each computes. Immutable: choose anew with `select`."""

    linear: Callable[[mx.array, Weight], mx.array]
    embedding: Callable[[mx.array, Weight], mx.array]
    rms_norm: Callable[[mx.array, mx.array, float], mx.array]
    rope: Callable[[mx.array, mx.array, float], mx.array]
    silu_mul: Callable[[mx.array, mx.array], mx.array]
    write_kv: Callable[[PagedKV, int, mx.array, mx.array, RaggedLayout], None]
    paged_attention: Callable[[mx.array, KVStore, KVStore, RaggedLayout, float], mx.array]
    largest: Callable[[mx.array, int], mx.array]
    chosen: tuple[OpChoice, ...]

    @classmethod
    def select(
        cls, spec: str = "auto", refused: Mapping[str, str] | None = None, activations: str = "exact"
    ) -> OpTable:
        """The table that `spec` asks for: a default, then exceptions, such as "mlx,paged_attention=reference".

        The default is auto (the best of each operation's) or an implementation's name. `refused` names operations
        whose native implementation may not be used, and why. Raises ConfigError.
        """
        if activations not in ACTIVATIONS:
            raise ConfigError(f"activations is {activations!r}, but must be one of {', '.join(ACTIVATIONS)}")
        default, exceptions = _parse(spec)
        refused = refused or {}
        choices = tuple(
            _choose(name, exceptions.get(name, default), name in exceptions, refused) for name in OPERATIONS
        )
        functions = {c.operation: function(c.operation, c.implementation, activations) for c in choices}
        return cls(**functions, chosen=choices)

    def arrange(self, weight: Weight) -> Weight:
        """The same weight in the order in memory that this table's matrix multiplication reads fastest."""
        return packing.pack(weight) if self.reads_packed else arrange(packing.plain(weight))

    @property
    def reads_packed(self) -> bool:
        """Whether matrices are multiplied by our own kernels."""
        return any(c.operation == "linear" and c.implementation == "native" for c in self.chosen)

    def choices(self) -> tuple[OpChoice, ...]:
        """What is in force for each operation, in the order of OPERATIONS."""
        return self.chosen


def _parse(spec: str) -> tuple[str, dict[str, str]]:
    """The default of a spec, and its exceptions by operation."""
    default, exceptions = "auto", {}
    for place, part in enumerate(piece.strip() for piece in spec.split(",")):
        operation, equals, implementation = (piece.strip() for piece in part.partition("="))
        if not equals:
            if place > 0:
                raise ConfigError(f"kernels has {part!r} after a comma, but expects operation=implementation there")
            if operation not in ("auto", *IMPLEMENTATIONS):
                raise ConfigError(f"kernels is {part!r}, but must start with one of auto, {', '.join(IMPLEMENTATIONS)}")
            default = operation
        elif operation not in OPERATIONS:
            raise ConfigError(f"kernels names an operation {operation!r}; the operations are {', '.join(OPERATIONS)}")
        elif implementation not in OPERATIONS[operation].implementations:
            names = ", ".join(OPERATIONS[operation].implementations)
            raise ConfigError(f"kernels asks for {operation}={implementation}, but {operation} has only {names}")
        else:
            exceptions[operation] = implementation
    return default, exceptions


def _choose(operation: str, wanted: str, by_name: bool, refused: Mapping[str, str]) -> OpChoice:
    names = [n for n in OPERATIONS[operation].implementations if n != "native" or operation not in refused]
    if wanted in names:
        return OpChoice(operation, wanted, "asked for by name" if by_name else "asked for")
    if operation in refused:
        return OpChoice(operation, names[0], refused[operation])
    if wanted == "auto":
        return OpChoice(operation, names[0], "the fastest that this build has")
    missing = packing.why_missing() if wanted == "native" else ""
    return OpChoice(operation, names[0], missing or f"there is no {wanted} implementation of it")


assert {f.name for f in fields(OpTable)} == {*OPERATIONS, "chosen"}
