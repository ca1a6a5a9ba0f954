"""Compares implementations of the operations with the reference, here and now, on this machine's device.

An operation is trusted where its results were seen to agree, not where they should.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from inference.ops.cases import Case, Operation, Thunk, at_once, prepared
from inference.ops.demands import ORDINARY, Demands
from inference.ops.kv_store import INTEGERS, GroupedStore, from_groups
from inference.ops.table import LAYER, function
from inference.ops.variants import checks

TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2, "float16": 2e-3}
"""Largest accepted error: a few roundings of the type, accumulated over the width of a layer."""
_PEAK = 5
"""A single number may be off by so many times as much as all are on average: a wrong edge of a tile, or one element,
is lost in the average of many."""
_STRAY = 20
"""And so many times where numbers are rounded to few bits on the way: one that falls to the other side of a step stands
out from the rest."""
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
    """As `distance` measures it; the worst of several inputs."""
    tolerance: float

    @property
    def agrees(self) -> bool:
        return self.error <= self.tolerance  # False for NaN, as it should be


def compare(operation: str, implementation: str, demands: Demands = ORDINARY) -> Agreement:
    """Run one operation on random input of a model's shapes, by `implementation` and by the reference."""
    compute = function(operation, implementation, demands.activations)
    cases = checks(operation, demands)
    thunks = {case: prepared(operation, case, demands, compute, implementation) for case in cases}
    return against_reference(operation, implementation, demands, thunks)


def against_reference(operation: str, implementation: str, demands: Demands, thunks: Mapping[Case, Thunk]) -> Agreement:
    """The same with the implementation's computations made ready before."""
    coarse = (demands.activations != "exact") + (demands.kv in INTEGERS) if operation == LAYER else 0
    peak = _STRAY if coarse else _PEAK
    errors = []
    for case, thunk in thunks.items():
        found = _seen(operation, thunk(at_once))
        expected = true_results(operation, case, demands)
        errors += [distance(ours, theirs, peak) for ours, theirs in zip(found, expected, strict=True)]
    tolerance = TOLERANCE[demands.dtype]
    if operation == LAYER:
        tolerance = _CHAIN * tolerance + _COARSE * coarse
    # A NaN must win over any number, which max() does not promise.
    error = math.nan if any(math.isnan(e) for e in errors) else max(errors, default=0.0)
    return Agreement(operation, implementation, demands.dtype, error, tolerance)


def true_results(operation: str, case: Case, demands: Demands) -> list[mx.array]:
    """What the reference computes of a case, the same every time."""
    reference: Operation = function(operation, "reference", demands.activations)
    return _seen(operation, prepared(operation, case, demands, reference, "reference")(at_once))


def _seen(operation: str, results: list[mx.array]) -> list[mx.array]:
    """What counts of some results: of a cache of integers the numbers that they stand for."""
    if operation == "write_kv" and len(results) == 6:
        return [from_groups(GroupedStore(*results[first : first + 3])) for first in (0, 3)]
    return results


def distance(ours: mx.array, truth: mx.array, peak: int = _PEAK) -> float:
    """The share of wrong ids; of other numbers, how far they are from the truth as a fraction of its root mean square.

    That is the root mean square of the differences, or the `peak`-th part of the largest if that is more; of large
    numbers, whose roundings are as large, as a fraction of themselves.
    """
    if ours.shape != truth.shape:
        return math.inf
    if mx.issubdtype(truth.dtype, mx.integer):
        return _number(mx.mean(ours != truth))
    wide = truth.astype(mx.float32)
    difference = mx.abs(ours.astype(mx.float32) - wide)
    scale = _spread(wide)
    mean = _number(_spread(difference) / scale)
    worst = _number(mx.max(difference / mx.maximum(scale, mx.abs(wide))))
    # A NaN is in the mean, whatever max() makes of it.
    return mean if math.isnan(mean) else max(mean, worst / peak)


def _spread(x: mx.array) -> mx.array:
    return mx.sqrt(mx.mean(x * x))


def _number(x: mx.array) -> float:
    item: Any = x.item()
    return float(item)
