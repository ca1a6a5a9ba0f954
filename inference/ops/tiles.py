"""Tile registers (AMX) earn their place like our own kernels: they are used where they were seen to give what is given
without them, and no slower.

They multiply the rounded activations of many rows. A process in which they lose goes on without them, at a lower level.
"""

from __future__ import annotations

import datetime
import math
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType

import mlx.core as mx

import metal_kernels
from inference.ops import stopwatch
from inference.ops.agreement import TOLERANCE, distance
from inference.ops.cases import CONCERNS, STEPS, Case, Thunk, at_once, forget_weights, prepared
from inference.ops.demands import Demands
from inference.ops.native import on_gpu
from inference.ops.table import function
from inference.ops.verdicts import Race, Verdict, verdicts

LEVEL, WITHOUT = "amx", "avx512bf16"
_STEP = STEPS[-1]
"""Of few rows, as in a decode, no tiles are made."""


def settle(demands: Demands, progress: Callable[[str], None] = lambda stage: None) -> Verdict | None:
    """The verdict on tiles for these demands, found now if it is not known; the level is lowered if it is against them.

    None where nothing would be multiplied by them: on another processor, or where a lower level is in force already.
    """
    native = metal_kernels.native
    if native is None or on_gpu() or native.level() != LEVEL or demands.activations == "exact":
        return None
    known, what = verdicts(), filed_under(demands)
    if known.needed(what):
        progress("trying the processor's tile registers, once on this machine")
        known.add({what: _look(native, demands)})
    verdict = known[what]
    if not verdict.earns:
        native.set_level(WITHOUT)
    return verdict


def filed_under(demands: Demands) -> str:
    """What a verdict is about, in words."""
    return f"tiles {demands.cut().spelled(CONCERNS['linear'])}"


def _look(native: ModuleType, demands: Demands) -> Verdict:
    tolerance, today = TOLERANCE[demands.dtype], datetime.date.today().isoformat()
    multiply = function("linear", "native", demands.activations)
    try:
        thunk = prepared("linear", Case(_STEP), demands, multiply, "native")
        found, expected = _at(native, LEVEL, thunk), _at(native, WITHOUT, thunk)
        errors = [distance(ours, theirs) for ours, theirs in zip(found, expected, strict=True)]
        error = math.nan if any(map(math.isnan, errors)) else max(errors)
        races = []
        if error <= tolerance:
            times = stopwatch.race(partial(_at, native, LEVEL, thunk), partial(_at, native, WITHOUT, thunk))
            races.append(Race(_STEP.name, _STEP.rows, *times))
        return Verdict(error, tolerance, demands.dtype, tuple(races), today)
    except Exception as failure:  # whatever it is, others can compute this
        print(f"the processor's tile registers fail: {failure}", file=sys.stderr)
        return Verdict(math.inf, tolerance, demands.dtype, (), today)
    finally:
        native.set_level(LEVEL)
        forget_weights()


def _at(native: ModuleType, level: str, thunk: Thunk) -> list[mx.array]:
    """A computation's results with the kernels of a level."""
    native.set_level(level)
    results = thunk(at_once)
    mx.eval(results)
    return results
