"""A kernel earns its place: our own are used where they were seen to agree with the reference and to be no slower.

At first use on a device each is compared and timed on random input of the model's shapes; later starts read what was
found. So a kernel that is wrong on a machine where nobody tried it gives no wrong text, and one that is slow no delay.
"""

from __future__ import annotations

import datetime
import math
import sys
from collections.abc import Callable, Container, Iterable, Mapping
from functools import partial

import mlx.core as mx

from inference.ops import stopwatch
from inference.ops.agreement import against_reference
from inference.ops.cases import CONCERNS, Thunk, as_tried, at_once, forget_weights, prepared
from inference.ops.decoder_layer import Parts, by_parts
from inference.ops.demands import Demands
from inference.ops.native import failed_operations, on_gpu
from inference.ops.rounding import PRODUCTS
from inference.ops.table import IDLE, LAYER, OPERATIONS, PARTS, Merit, OpTable, function, named, out_of_reach
from inference.ops.tiles import settle
from inference.ops.variants import Heat, checks, heats
from inference.ops.verdicts import Race, Verdict, verdicts

Progress = Callable[[str], None]

UNASKED = "no model here asks for it"


def trusted(spec: str, demands: Demands, progress: Progress = lambda stage: None) -> OpTable:
    """The table that is asked for, with our own kernels only where they earn it here. Raises ConfigError.

    `progress` is told if they have to be looked at first.
    """
    unreachable = out_of_reach(demands.activations, demands.quantized)
    table = OpTable.select(spec, unreachable, demands.activations)
    if not any(choice.implementation == "native" for choice in table.choices()):
        return table
    idle = {name: Merit.refused(UNASKED) for name in IDLE if name not in named(spec)}
    found = proven(demands, progress, without=idle)
    merits = unreachable | idle | {name: _merit(name, each) for name, each in found.items()}
    return OpTable.select(spec, merits, demands.activations)


def proven(
    demands: Demands, progress: Progress = lambda stage: None, *, without: Container[str] = ()
) -> dict[str, Verdict]:
    """The verdict on each of this device's own kernels for these demands; those that are not known yet are found now.

    So are, some more times, those that were found slow. What is found without tile registers is a verdict of its own.
    """
    settle(demands, progress)
    unreachable = out_of_reach(demands.activations, demands.quantized)
    built = [name for name, operation in OPERATIONS.items() if "native" in operation.implementations]
    ours = [name for name in built if name not in unreachable and name not in without]
    known = verdicts()
    if missing := [name for name in ours if known.needed(filed_under(name, demands))]:
        progress("trying our own kernels, once on this machine")
        known.add(_looked_at(missing, demands, {n: known[k] for n in ours if (k := filed_under(n, demands)) in known}))
    return {name: known[filed_under(name, demands)] for name in ours}


def refuse(error: Exception, table: OpTable, demands: Demands) -> bool:
    """Whether an error is that of kernels of ours that `table` uses. They fail on this machine, and are used no more by
    the tables of these demands that are chosen from now on."""
    failing = failed_operations(error)
    used = [c.operation for c in table.choices() if c.operation in failing and c.implementation == "native"]
    if used:
        verdicts().add({filed_under(name, demands): failed(demands, error) for name in used})
    return bool(used)


def filed_under(operation: str, demands: Demands) -> str:
    """What a verdict is about, in words."""
    return f"{operation} {as_tried(demands).spelled(CONCERNS[operation])}"


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
        cases = checks(operation, demands)
        thunks = {case: prepared(operation, case, demands, native, "native") for case in cases}
        agreement = against_reference(operation, "native", demands, thunks)
    except ValueError as error:  # as kernels say what they are not made for
        return Verdict(math.inf, 0.0, demands.dtype, (), today, limit=str(error))
    except Exception as error:  # whatever it is, others can compute this
        print(f"our own {operation} fails: {error}", file=sys.stderr)
        return failed(demands, error)
    if not agreement.agrees:
        return Verdict(agreement.error, agreement.tolerance, agreement.dtype, (), today)
    races = []
    for heat in heats(operation, demands):
        ours = (thunks.get(case) or prepared(operation, case, demands, native, "native") for case in heat.cases)
        others = (prepared(operation, case, demands, theirs, order) for case in heat.cases)
        races.append(_race(heat, zip(ours, others, strict=True)))
    return Verdict(agreement.error, agreement.tolerance, agreement.dtype, tuple(races), today, by_step=on_gpu())


def failed(demands: Demands, error: Exception) -> Verdict:
    """On a kernel that raises."""
    today = datetime.date.today().isoformat()
    return Verdict(math.inf, 0.0, demands.dtype, (), today, failure=str(error) or type(error).__name__)


def _race(heat: Heat, pairs: Iterable[tuple[Thunk, Thunk]]) -> Race:
    ours = theirs = 0.0
    for mine, others in pairs:
        # A GPU takes longer to be told of one small operation than to compute it: in a chat many follow each other.
        count = stopwatch.repeats(partial(_run, others, 1)) if on_gpu() else 1
        times = stopwatch.race(partial(_run, mine, count), partial(_run, others, count))
        ours, theirs = ours + times[0] / count, theirs + times[1] / count
    return Race(heat.name, heat.rows, ours, theirs)


def _run(thunk: Thunk, count: int) -> None:
    """Compute a case so many times, each after the one before."""
    results = thunk(at_once)
    for _ in range(1, count):
        results = thunk(partial(_after, results[-1]))
    mx.eval(results)


def _after(before: mx.array, x: mx.array) -> mx.array:
    """x, changed by a number of what was computed before."""
    return x + before.reshape(-1)[:1].astype(x.dtype)


def _merit(operation: str, verdict: Verdict) -> Merit:
    if verdict.limit:
        return Merit.refused(f"our own kernel is not made for this: {verdict.limit}")
    if verdict.failure:
        return Merit.refused(f"our own kernel fails on this machine: {verdict.failure}")
    if not verdict.agrees:
        reason = f"our own kernel differs from the reference by {verdict.error:.0e} in {verdict.dtype} on this machine"
        return Merit.refused(reason, verdict.error)
    rival = "its parts" if operation == LAYER else "MLX's own"
    pace = f"agrees with the reference, and no slower than {rival}"
    if not verdict.earns:
        pace = f"our own kernel agrees with the reference, but is slower than {rival} here"
    return Merit(agrees=True, earns=verdict.earns, reason=pace, ratio=verdict.ratio, error=verdict.error)
