"""Which cases an operation is tried on: all that a device computes otherwise for a model, and what is timed.

On the CPU that is a decode and a prefill. A GPU's kernels are compiled for tiles of several sizes, with and without
sharing out columns or contexts, and the launch table chooses among them by the shapes of a step. It is asked here what
it would choose for this model, and each choice is tried once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inference.ops.cases import STEPS, Case, Product, Step
from inference.ops.demands import Demands
from inference.ops.kv_store import INTEGERS
from inference.ops.native import on_gpu

if TYPE_CHECKING:
    from metal_kernels._native import MetalLaunch

_TYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}

# Full and ragged tiles of every height, and as many rows as a step may have.
_ROWS = tuple(Step(f"{rows} rows", (rows,), (rows,)) for rows in (1, 2, 4, 8, 20, 33, 70, 300, 500))

# Tokens of a sequence, and contexts that are shared out: unevenly, so that parts of one are empty.
_ATTENDED = (
    *STEPS,
    *(Step("drafts", (tokens,), (200,)) for tokens in (2, 5)),
    *(Step("long contexts", (tokens, tokens), (2000, 300)) for tokens in (1, 2, 5)),
    Step("long chunk", (40, 1), (2000, 700)),
)


@dataclass(frozen=True, slots=True)
class Heat:
    """What is timed as one: a step's tokens through the cases that it is made of, one after another."""

    name: str
    cases: tuple[Case, ...]

    @property
    def rows(self) -> int:
        return self.cases[0].step.rows


RACED = (
    Step("decode", (1,), (500,)),
    Step("decodes", (1,) * 8, (500,) * 8),
    Step("prefill", (256,), (256,)),
)
"""What a GPU's kernels are timed on."""


def checks(operation: str, demands: Demands) -> tuple[Case, ...]:
    """What has to agree with the reference. Raises ValueError for what the kernels are not made for."""
    if on_gpu() and operation == "linear":
        return tuple(_distinct(_multiplied(demands)))
    if on_gpu() and operation == "paged_attention":
        return tuple(_distinct(_attended(demands)))
    return tuple(map(Case, STEPS))


def heats(operation: str, demands: Demands) -> tuple[Heat, ...]:
    """What is timed beside MLX's own operations."""
    if not on_gpu():
        return tuple(Heat(step.name, (Case(step),)) for step in STEPS)
    if operation != "linear":
        return tuple(Heat(step.name, (Case(step),)) for step in RACED)
    layer, head = _of_a_layer(demands), _heads(demands)
    found = [Heat(step.name, tuple(Case(step, product) for product in layer)) for step in RACED]
    found.append(Heat(f"{RACED[0].name}, head", tuple(Case(RACED[0], product) for product in head)))
    return tuple(heat for heat in found if heat.cases)


def _of_a_layer(demands: Demands) -> list[Product]:
    """The quantized matrices of a layer, for each kind."""
    heads, keys = demands.heads * demands.head_size, 2 * demands.kv_heads * demands.head_size
    shapes = (
        (heads + keys, demands.hidden, True),
        (demands.hidden, heads, False),
        (2 * demands.inner, demands.hidden, False),
        (demands.hidden, demands.inner, False),
    )
    return _quantized(demands, shapes)


def _heads(demands: Demands) -> list[Product]:
    return _quantized(demands, ((demands.vocabulary, demands.hidden, False),))


def _quantized(demands: Demands, shapes: Iterable[tuple[int, int, bool]]) -> list[Product]:
    """Those of whole groups: others are left as they are, and are no work for our kernels."""
    kinds = [kind for kind in demands.matrices if kind[0]]
    return [Product(o, i, bias, kind) for kind in kinds for o, i, bias in shapes if i % kind[1] == 0]


def _distinct(found: Iterable[tuple[Case, list[MetalLaunch]]]) -> Iterator[Case]:
    """The cases that launch a kernel, or one with other constants, that none before them did."""
    seen: set[tuple[object, ...]] = set()
    for case, launches in found:
        variants = {(each.kernel, *sorted(each.constants.items())) for each in launches}
        if variants - seen:
            seen |= variants
            yield case


def _multiplied(demands: Demands) -> list[tuple[Case, list[MetalLaunch]]]:
    """Every matrix with every number of rows, and what is launched for it; the least work first."""
    from metal_kernels._native import MetalLaunches

    found = []
    for product in (*_of_a_layer(demands), *_heads(demands)):
        for step in _ROWS:
            bits, group = product.kind
            shape = (_TYPES[demands.dtype], bits, group, step.rows, product.outputs, product.inputs, product.bias)
            plan = MetalLaunches.quantized(*shape)
            found.append((Case(step, product), [plan.multiply, *([plan.sum] if plan.sum else [])]))
    return sorted(found, key=lambda each: _work(each[0]))


def _work(case: Case) -> int:
    return case.step.rows * case.product.outputs * case.product.inputs if case.product else 0


def _attended(demands: Demands) -> Iterator[tuple[Case, list[MetalLaunch]]]:
    """Every step, and what is launched for its attention."""
    from metal_kernels._native import MetalLaunches

    kept = demands.kv if demands.kv in INTEGERS else "float"
    for step in _ATTENDED:
        layout = step.layout()
        plans = MetalLaunches.attention(
            _TYPES[demands.dtype],
            kept,
            demands.heads,
            demands.kv_heads,
            demands.head_size,
            layout.block_size,
            layout.tables.shape[1],
            demands.heads * demands.head_size,
            demands.head_size**-0.5,
            step.query_lens,
            step.context_lens,
        )
        yield Case(step), [each for plan in plans for each in (plan.attend, *([plan.merge] if plan.merge else []))]
