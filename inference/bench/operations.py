"""Where a step's time goes, operation by operation: each is evaluated on its own and timed.

That takes away what MLX does with a whole graph (its own overhead overlaps with computing), so the sum is a little more
than a step takes; what counts is the proportions.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from inference.model.qwen2 import Qwen2
from inference.ops.kv_store import KVFormat
from inference.ops.paged import PagedKV, RaggedLayout

REST = "the rest"


@dataclass(frozen=True, slots=True)
class OperationTime:
    """An operation's part in a step."""

    operation: str
    implementation: str
    calls: int
    seconds: float
    """All calls of one step together."""


@dataclass(frozen=True, slots=True)
class StepTimes:
    """A step of some tokens, taken apart."""

    title: str
    operations: tuple[OperationTime, ...]
    together: float
    """Seconds of the step as the engine takes it, whole layers in one go where the table has them so."""

    @property
    def seconds(self) -> float:
        return sum(each.seconds for each in self.operations)


def take_apart(
    model: Qwen2,
    title: str,
    query_lens: tuple[int, ...],
    context_lens: tuple[int, ...],
    *,
    block_size: int,
    kept: KVFormat,
    repeats: int,
) -> StepTimes:
    """Time the operations of a step with these lengths, over a cache of its own; the least of several repeats each."""
    needed = [-(-length // block_size) for length in context_lens]
    starts = [sum(needed[:i]) for i in range(len(needed))]
    tables = [range(start, start + count) for start, count in zip(starts, needed, strict=True)]
    layout = RaggedLayout.build(query_lens, context_lens, tables, block_size)
    kv = model.new_cache(sum(needed), block_size, kept)
    ids = mx.zeros(sum(query_lens), mx.int32)
    used, implementations = model.ops, {c.operation: c.implementation for c in model.ops.choices()}
    best: dict[str, OperationTime] = {}
    together = math.inf

    def step() -> float:
        start = time.perf_counter()
        hidden = model.forward(ids, layout, kv)
        mx.eval(model.logits(hidden[mx.array(layout.last_rows)]), kv.arrays)
        return time.perf_counter() - start

    try:
        for _ in range(repeats):
            together = min(together, step())
            watch = _Watch()
            model.use(used.in_parts(watch.timed))
            watch.seconds[REST] = step() - sum(watch.seconds.values())
            model.use(used)
            for name, seconds in watch.seconds.items():
                if name not in best or seconds < best[name].seconds:
                    best[name] = OperationTime(name, implementations.get(name, "mlx"), watch.calls[name], seconds)
    finally:
        model.use(used)
    return StepTimes(title, tuple(sorted(best.values(), key=lambda each: -each.seconds)), together)


class _Watch:
    """Wraps the operations of a table so that each call is evaluated at once and its time added up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def timed(self, name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            # What the operation waits for is not its own: the inputs' lazy arithmetic goes to the rest.
            mx.eval(*_arrays(arguments))
            start = time.perf_counter()
            result = operation(*arguments)
            mx.eval(*_arrays((*arguments, result)))
            self.seconds[name] += time.perf_counter() - start
            self.calls[name] += 1
            return result

        return call


def _arrays(values: Iterable[Any]) -> list[mx.array]:
    arrays = []
    for value in values:
        if isinstance(value, mx.array):
            arrays.append(value)
        elif isinstance(value, tuple):
            arrays += _arrays(value)
        elif isinstance(value, PagedKV):
            arrays += value.arrays
    return arrays
