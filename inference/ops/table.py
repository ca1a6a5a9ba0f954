"""Which implementation of each operation is in force, and why: the one table that the model looks operations up in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import mlx.core as mx

import metal_kernels
from inference.errors import ConfigError
from inference.ops import mlx_ops, native, packing, reference
from inference.ops.decoder_layer import LayerWeights, Parts, by_parts
from inference.ops.draws import Draw
from inference.ops.experts import Experts, pack_experts, plain_experts
from inference.ops.paged import PagedKV, RaggedLayout
from inference.ops.rounding import PRODUCTS
from inference.ops.weights import Weight, arrange
from inference.protocol import ACTIVATIONS


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that the model computes: what it is, and its implementations by name, best first."""

    doc: str
    implementations: Mapping[str, Callable[..., Any]]


LAYER = "decoder_layer"
"""The operation that is made of others: natively in one go, or by the parts that are in force."""

IDLE = ("expert_linear",)
"""What no model here is made of: our own kernels of these are looked at only where they are asked for."""

PARTS = tuple(f.name for f in fields(Parts))

_MODULES = {"native": native, "mlx": mlx_ops, "reference": reference}


def _operation(name: str, doc: str) -> Operation:
    usable = {kind: module for kind, module in _MODULES.items() if kind != "native" or metal_kernels.native}
    found = {kind: getattr(m, name) for kind, m in usable.items() if hasattr(m, name)}
    return Operation(doc, {**found, "parts": by_parts} if name == LAYER else found)


OPERATIONS: Mapping[str, Operation] = {
    name: _operation(name, doc)
    for name, doc in {
        "linear": "multiply by a weight matrix, dense or quantized, and add its bias",
        "expert_linear": "multiply each row by the matrices of the experts that were chosen for it",
        "embedding": "look up the rows of tokens in the embedding matrix",
        "rms_norm": "scale each row to unit mean square",
        "add_rms_norm": "add a residual, and scale each row of the sum",
        "rope": "turn queries and keys by their position",
        "silu_mul": "SwiGLU's gate: silu(gate) * up",
        "write_kv": "put this step's keys and values into their slots of the KV cache",
        "paged_attention": "attention over the KV cache through block tables",
        LAYER: "all of a layer in one go, where each of its parts is our own kernel",
        "largest": "find the largest logits, in order",
        "greedy": "find the largest logit, and rows that are not numbers",
        "draw": "draw a token by its probability, of those that min-p, top-k and top-p leave",
    }.items()
}

IMPLEMENTATIONS = tuple(_MODULES)
"""Every name that an implementation may have."""


def function(operation: str, implementation: str, activations: str = "exact") -> Callable[..., Any]:
    """What an implementation computes an operation by; a layer natively, or by the parts of another name."""
    if operation == LAYER and implementation == "native":
        return partial(OPERATIONS[LAYER].implementations["native"], activations=activations)
    if operation == LAYER:
        return partial(by_parts, Parts(**{part: function(part, implementation, activations) for part in PARTS}))
    if operation in PRODUCTS and activations != "exact":
        rounding: Callable[..., Any] = getattr(_MODULES[implementation], f"{activations}_{operation}")
        return rounding
    return OPERATIONS[operation].implementations[implementation]


def arranged(weight: Weight, implementation: str) -> Weight:
    """The same weight in the order in memory that an implementation of `linear` reads fastest."""
    return _placed(weight, implementation == "native" and not native.on_gpu())


def arranged_experts(experts: Experts, implementation: str) -> Experts:
    """The same for the matrices of `expert_linear`."""
    if implementation == "native" and not native.on_gpu():
        return pack_experts(experts)
    return plain_experts(experts)


def _placed(weight: Weight, packed: bool) -> Weight:
    return packing.pack(weight) if packed else arrange(packing.plain(weight))


@dataclass(frozen=True, slots=True)
class Merit:
    """What is known of one of our own kernels on this machine."""

    agrees: bool
    """With the reference; otherwise it is never used."""
    earns: bool
    """Whether it is used where nothing is asked for by name."""
    reason: str
    ratio: float = 0.0
    """How many times as fast as MLX's operations it is, if it was timed."""
    error: float | None = None
    """How far it is from the reference, if it was compared."""

    @classmethod
    def refused(cls, reason: str, error: float | None = None) -> Merit:
        return cls(agrees=False, earns=False, reason=reason, error=error)


def out_of_reach(activations: str, quantized: bool = True) -> dict[str, Merit]:
    """Refusals, by operation, of our own kernels that the default device has not, or not for such a model."""
    ours = (name for name, operation in OPERATIONS.items() if "native" in operation.implementations)
    missing = {name: native.why_missing(name, activations, quantized) for name in ours}
    return {name: Merit.refused(reason) for name, reason in missing.items() if reason}


@dataclass(frozen=True, slots=True)
class OpChoice:
    """The implementation of one operation that is in force, and the reason."""

    operation: str
    implementation: str
    reason: str
    ratio: float = 0.0
    """How many times as fast as MLX's operations our own kernel is, where that was measured."""
    error: float | None = None
    """How far our own kernel is from the reference, where that was measured."""


@dataclass(frozen=True, slots=True)
class OpTable(Parts):
    """One callable for each operation; see `reference` for what each computes. Immutable: choose anew with `select`."""

    expert_linear: Callable[[mx.array, Experts, mx.array], mx.array]
    embedding: Callable[[mx.array, Weight], mx.array]
    decoder_layer: Callable[[mx.array, LayerWeights, int, PagedKV, RaggedLayout], mx.array]
    largest: Callable[[mx.array, int], mx.array]
    greedy: Callable[[mx.array], mx.array]
    draw: Callable[[mx.array, Sequence[Draw]], mx.array]
    chosen: tuple[OpChoice, ...]
    reads_packed: bool
    """Whether matrices are multiplied by our own CPU kernels."""

    @classmethod
    def select(
        cls, spec: str = "auto", merits: Mapping[str, Merit] | None = None, activations: str = "exact"
    ) -> OpTable:
        """The table that `spec` asks for: a default, then exceptions, such as "mlx,paged_attention=reference".

        The default is auto (the best of each operation's) or an implementation's name. `merits` says of operations
        whether their native implementation may be used, and whether without being asked for; what the default device
        does not have is never used. Raises ConfigError.
        """
        if activations not in ACTIVATIONS:
            raise ConfigError(f"activations is {activations!r}, but must be one of {', '.join(ACTIVATIONS)}")
        default, exceptions = _parse(spec)
        merits = {**(merits or {}), **out_of_reach(activations)}
        wanted = {name: exceptions.get(name, default) for name in OPERATIONS}
        single = {
            name: _choose(name, wanted[name], name in exceptions, merits.get(name))
            for name in OPERATIONS
            if name != LAYER
        }
        layer = _choose_layer(single, wanted, merits)
        if layer.implementation == "native":
            for part in _not_ours(single):
                single[part] = replace(single[part], implementation="native", reason=layer.reason)
        functions = {name: function(name, c.implementation, activations) for name, c in single.items()}
        functions[LAYER] = (
            function(LAYER, "native", activations) if layer.implementation == "native" else _layer_by(functions)
        )
        choices = {
            name: replace(choice, error=merits[name].error) if name in merits else choice
            for name, choice in (single | {LAYER: layer}).items()
        }
        reads_packed = single["linear"].implementation == "native" and not native.on_gpu()
        return cls(**functions, chosen=tuple(choices[name] for name in OPERATIONS), reads_packed=reads_packed)

    def in_parts(self, change: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> OpTable:
        """The same with layers computed by their parts, and every operation but them changed."""
        functions: dict[str, Any] = {n: change(n, getattr(self, n)) for n in OPERATIONS if n != LAYER}
        return replace(self, **functions, decoder_layer=_layer_by(functions))

    def arrange(self, weight: Weight) -> Weight:
        """The same weight in the order in memory that this table's matrix multiplication reads fastest."""
        return _placed(weight, self.reads_packed)

    def choices(self) -> tuple[OpChoice, ...]:
        """What is in force for each operation, in the order of OPERATIONS."""
        return self.chosen


def named(spec: str) -> set[str]:
    """The operations that a spec makes exceptions of. Raises ConfigError."""
    return set(_parse(spec)[1])


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


def _layer_by(functions: Mapping[str, Callable[..., Any]]) -> Callable[..., mx.array]:
    return partial(by_parts, Parts(**{part: functions[part] for part in PARTS}))


def _choose_layer(parts: Mapping[str, OpChoice], wanted: Mapping[str, str], merits: Mapping[str, Merit]) -> OpChoice:
    merit, asked = merits.get(LAYER), wanted[LAYER]
    if asked == "parts":
        return OpChoice(LAYER, "parts", "asked for by name")
    if "native" not in OPERATIONS[LAYER].implementations:
        return OpChoice(LAYER, "parts", metal_kernels.why_missing)
    if merit and not merit.agrees:
        return OpChoice(LAYER, "parts", merit.reason)
    if others := [part for part in _not_ours(parts) if not _may_come_back(part, wanted[part], merits.get(part))]:
        return OpChoice(LAYER, "parts", f"not all parts of a layer are our own kernels: {', '.join(others)}")
    if asked == "auto" and merit:
        return OpChoice(LAYER, "native" if merit.earns else "parts", merit.reason, merit.ratio)
    return OpChoice(LAYER, "native", _UNTRIED if asked == "auto" else "asked for", merit.ratio if merit else 0.0)


def _not_ours(choices: Mapping[str, OpChoice]) -> list[str]:
    return [part for part in PARTS if choices[part].implementation != "native"]


def _may_come_back(part: str, wanted: str, merit: Merit | None) -> bool:
    """Whether a layer in one go, which is timed as a whole, may bring back a kernel that lost by itself.

    Little of what makes a small operation slow is in there. But `linear` also multiplies by the head, the largest
    matrix of all.
    """
    return wanted == "auto" and merit is not None and merit.agrees and part != "linear" and merit.ratio > _HARMLESS


_HARMLESS = 0.5
_UNTRIED = "the fastest that this build has"


def _choose(operation: str, wanted: str, by_name: bool, merit: Merit | None) -> OpChoice:
    refused = merit is not None and not merit.agrees
    names = [n for n in OPERATIONS[operation].implementations if n != "native" or not refused]
    ratio = merit.ratio if merit else 0.0
    if wanted in names:
        return OpChoice(operation, wanted, "asked for by name" if by_name else "asked for", ratio)
    if wanted in ("auto", "native") and merit:
        best = next(n for n in names if n != "native" or merit.earns)
        return OpChoice(operation, best, merit.reason, ratio)
    if wanted == "auto":
        return OpChoice(operation, names[0], _UNTRIED)
    missing = metal_kernels.why_missing if wanted == "native" else ""
    return OpChoice(operation, names[0], missing or f"there is no {wanted} implementation of it")


assert {f.name for f in fields(OpTable)} == {*OPERATIONS, "chosen", "reads_packed"}
