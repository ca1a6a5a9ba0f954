"""Compares implementations of the operations with the reference, here and now, on this machine's device.

An operation is trusted where its results were seen to agree, not where they should.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from inference.ops.cases import STEPS, Operation, Step, Thunk, prepared
from inference.ops.demands import ORDINARY, Demands
from inference.ops.kv_store import INTEGERS, GroupedStore, from_groups
from inference.ops.table import LAYER, function

TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2, "float16": 2e-3}
"""Largest accepted error: a few roundings of the type, accumulated over the width of a layer."""
_CHAIN = 4
"""A layer is a chain of operations that round what others have rounded: its error may be so many times as large."""
_COARSE = 4e-3
"""And by this larger for each time that it rounds to few bits on the way (int8 activations, integers in the cache): a
difference in the last bit then takes some numbers to the other side of a step, which is a hundredth of the largest
around."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far one implementation is from the reference on random input."""

    operation: str
    implementation: str
    dtype: str
    error: float
    """Root mean square of the difference as a fraction of that of the reference, or the share of wrong ids; the worst
    of several inputs."""
    tolerance: float

    @property
    def agrees(self) -> bool:
        return self.error <= self.tolerance  # False for NaN, as it should be


def compare(operation: str, implementation: str, demands: Demands = ORDINARY) -> Agreement:
    """Run one operation on random input of a model's shapes, by `implementation` and by the reference."""
    compute = function(operation, implementation, demands.activations)
    thunks = {step: prepared(operation, step, demands, compute, implementation) for step in STEPS}
    return against_reference(operation, implementation, demands, thunks.__getitem__)


def against_reference(
    operation: str, implementation: str, demands: Demands, thunk: Callable[[Step], Thunk]
) -> Agreement:
    """The same with the implementation's computations made ready before."""
    truth: Operation = function(operation, "reference", demands.activations)
    errors = []
    for step in STEPS:
        expected = _seen(operation, prepared(operation, step, demands, truth, "reference")())
        found = _seen(operation, thunk(step)())
        errors += [distance(ours, theirs) for ours, theirs in zip(found, expected, strict=True)]
    tolerance = TOLERANCE[demands.dtype]
    if operation == LAYER:
        coarse = (demands.activations != "exact") + (demands.kv in INTEGERS)
        tolerance = _CHAIN * tolerance + _COARSE * coarse
    # A NaN must win over any number, which max() does not promise.
    error = math.nan if any(math.isnan(e) for e in errors) else max(errors)
    return Agreement(operation, implementation, demands.dtype, error, tolerance)


def _seen(operation: str, results: list[mx.array]) -> list[mx.array]:
    """What counts of some results: of a cache of integers the numbers that they stand for."""
    if operation == "write_kv" and len(results) == 6:
        return [from_groups(GroupedStore(*results[first : first + 3])) for first in (0, 3)]
    return results


def distance(ours: mx.array, truth: mx.array) -> float:
    """Root mean square of the difference as a fraction of that of the truth, or the share of wrong ids."""
    if ours.shape != truth.shape:
        return math.inf
    if mx.issubdtype(truth.dtype, mx.integer):
        return _number(mx.mean(ours != truth))
    wide = truth.astype(mx.float32)
    difference = ours.astype(mx.float32) - wide
    return math.sqrt(_number(mx.mean(difference * difference)) / _number(mx.mean(wide * wide)))


def _number(x: mx.array) -> float:
    item: Any = x.item()
    return float(item)
