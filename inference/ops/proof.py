"""A kernel earns its place: our own are used where they were seen to agree with the reference and to be no slower.

At first use on a device each is compared and timed on random input of the model's shapes; later starts read what was
found. So a kernel that is wrong on a machine where nobody tried it gives no wrong text, and one that is slow no delay.
"""

from __future__ import annotations

import datetime
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import mlx.core as mx

from inference.ops import stopwatch
from inference.ops.agreement import against_reference
from inference.ops.cases import CONCERNS, STEPS, Step, Thunk, forget_weights, prepared
from inference.ops.decoder_layer import Parts, by_parts
from inference.ops.demands import Demands
from inference.ops.rounding import PRODUCTS
from inference.ops.table import LAYER, OPERATIONS, PARTS, Merit, OpTable, function, out_of_reach
from inference.ops.tiles import settle
from inference.ops.verdicts import Race, Verdict, verdicts

Progress = Callable[[str], None]


def trusted(spec: str, demands: Demands, progress: Progress = lambda stage: None) -> OpTable:
    """The table that is asked for, with our own kernels only where they earn it here. Raises ConfigError.

    `progress` is told if they have to be looked at first.
    """
    unreachable = out_of_reach(demands.activations, demands.quantized)
    table = OpTable.select(spec, unreachable, demands.activations)
    if not any(choice.implementation == "native" for choice in table.choices()):
        return table
    found = proven(demands, progress)
    merits = unreachable | {name: _merit(name, each) for name, each in found.items()}
    return OpTable.select(spec, merits, demands.activations)


def proven(demands: Demands, progress: Progress = lambda stage: None) -> dict[str, Verdict]:
    """The verdict on each of this device's own kernels for these demands; those that are not known yet are found now.

    So are, some more times, those that were found slow. What is found without tile registers is a verdict of its own.
    """
    settle(demands, progress)
    unreachable = out_of_reach(demands.activations, demands.quantized)
    built = [name for name, operation in OPERATIONS.items() if "native" in operation.implementations]
    ours = [name for name in built if name not in unreachable]
    known = verdicts()
    if missing := [name for name in ours if known.needed(filed_under(name, demands))]:
        progress("trying our own kernels, once on this machine")
        known.add(_looked_at(missing, demands, {n: known[k] for n in ours if (k := filed_under(n, demands)) in known}))
    return {name: known[filed_under(name, demands)] for name in ours}


def filed_under(operation: str, demands: Demands) -> str:
    """What a verdict is about, in words."""
    return f"{operation} {demands.cut().spelled(CONCERNS[operation])}"


def _looked_at(operations: Iterable[str], demands: Demands, known: dict[str, Verdict]) -> dict[str, Verdict]:
    found = dict(known)
    # A layer is timed against the parts that would stand in for it, so these come first; and multiplication does.
    for name in sorted(operations, key=LAYER.__eq__):
        found[name] = _look(name, demands, found)
    forget_weights()
    return {filed_under(name, demands): found[name] for name in operations}


def _look(operation: str, demands: Demands, found: Mapping[str, Verdict]) -> Verdict:
    native, theirs = (function(operation, each, demands.activations) for each in ("native", "mlx"))
    if operation == LAYER:
        best = {part: "native" if found[part].earns else "mlx" for part in PARTS}
        theirs = partial(by_parts, Parts(**{p: function(p, best[p], demands.activations) for p in PARTS}))
    # In a model it finds the weights as those want them that multiply by them.
    order = "native" if operation not in PRODUCTS and "linear" in found and found["linear"].earns else "mlx"
    today = datetime.date.today().isoformat()
    try:
        thunks = {step: prepared(operation, step, demands, native, "native") for step in STEPS}
        agreement = against_reference(operation, "native", demands, thunks.__getitem__)
    except ValueError as error:  # as kernels say what they are not made for
        return Verdict(math.inf, 0.0, demands.dtype, (), today, limit=str(error))
    except Exception as error:  # whatever it is, others can compute this
        print(f"our own {operation} fails: {error}", file=sys.stderr)
        return Verdict(math.inf, 0.0, demands.dtype, (), today)
    races = (
        [_race(step, thunks[step], prepared(operation, step, demands, theirs, order)) for step in STEPS]
        if agreement.agrees
        else []
    )
    return Verdict(agreement.error, agreement.tolerance, agreement.dtype, tuple(races), today)


def _race(step: Step, ours: Thunk, theirs: Thunk) -> Race:
    return Race(step.name, step.rows, *stopwatch.race(lambda: mx.eval(ours()), lambda: mx.eval(theirs())))


def _merit(operation: str, verdict: Verdict) -> Merit:
    if verdict.limit:
        return Merit.refused(f"our own kernel is not made for this: {verdict.limit}")
    if verdict.error == math.inf:
        return Merit.refused("our own kernel fails on this machine")
    if not verdict.agrees:
        reason = f"our own kernel differs from the reference by {verdict.error:.0e} in {verdict.dtype} on this machine"
        return Merit.refused(reason)
    rival = "its parts" if operation == LAYER else "MLX's own"
    pace = f"agrees with the reference, and no slower than {rival}"
    if not verdict.earns:
        pace = f"our own kernel agrees with the reference, but is slower than {rival} here"
    return Merit(agrees=True, earns=verdict.earns, reason=pace, ratio=verdict.ratio)
