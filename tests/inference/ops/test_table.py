"""Choosing implementations: what a spec gives, and what it is told if it is wrong."""

from __future__ import annotations

import pytest

from inference.errors import ConfigError
from inference.ops import mlx_ops, reference
from inference.ops.packing import why_missing
from inference.ops.table import LAYER, OPERATIONS, PARTS, Merit, OpTable, out_of_reach


@pytest.mark.parametrize(("spec", "module"), [("reference", reference), ("mlx", mlx_ops)])
def test_one_name_for_all(spec: str, module: object) -> None:
    ops = OpTable.select(spec)
    for name in OPERATIONS:
        assert name == LAYER or getattr(ops, name) is getattr(module, name)
    layer = next(choice for choice in ops.choices() if choice.operation == LAYER)
    assert layer.implementation == "parts"
    assert [choice.operation for choice in ops.choices()] == list(OPERATIONS)
    assert all(choice.reason for choice in ops.choices())


def test_auto_takes_the_first_that_there_is() -> None:
    missing = out_of_reach("exact")
    for choice in OpTable.select("auto").choices():
        first, *others = OPERATIONS[choice.operation].implementations
        if missing.get(choice.operation):
            first = "parts" if choice.operation == LAYER else others[0]
        assert choice.implementation == first
        assert choice.reason


WRONG = Merit(agrees=False, earns=False, reason="it was wrong")
SLOW = Merit(agrees=True, earns=False, reason="it was slow", ratio=0.4)
SLOWER = Merit(agrees=True, earns=False, reason="it was slower", ratio=0.8)
FAST = Merit(agrees=True, earns=True, reason="it was fast", ratio=3.0)


@pytest.mark.skipif(bool(why_missing()), reason="no native kernels here")
def test_a_refused_kernel_gives_way_with_the_reason() -> None:
    for spec in ("auto", "native", "mlx,linear=native"):
        ops = OpTable.select(spec, {"linear": WRONG})
        assert ops.linear is mlx_ops.linear
        assert next(c.reason for c in ops.choices() if c.operation == "linear") == "it was wrong"


@pytest.mark.skipif(bool(why_missing()), reason="no native kernels here")
def test_a_slow_kernel_gives_way_unless_it_is_asked_for() -> None:
    for spec, implementation, reason in [
        ("auto", "mlx", "it was slow"),
        ("native", "native", "asked for"),
        ("linear=native", "native", "asked for by name"),
        ("linear=reference", "reference", "asked for by name"),
    ]:
        choice = next(c for c in OpTable.select(spec, {"linear": SLOW}).choices() if c.operation == "linear")
        assert (choice.implementation, choice.reason) == (implementation, reason)


@pytest.mark.skipif(bool(why_missing()), reason="no native kernels here")
def test_layers_go_by_parts_where_one_of_these_is_refused_or_where_they_are_themselves() -> None:
    others = "not all parts of a layer are our own kernels: "
    for spec, merits, implementation, reason in [
        ("auto", {"rope": WRONG}, "parts", f"{others}rope"),
        ("auto", {"rope": SLOW}, "parts", f"{others}rope"),
        ("auto", {"rope": SLOWER, LAYER: FAST}, "native", "it was fast"),
        ("auto", {"rope": SLOWER, LAYER: SLOWER}, "parts", "it was slower"),
        ("auto", {"linear": SLOWER, LAYER: FAST}, "parts", f"{others}linear"),
        ("auto,rope=mlx", {"rope": SLOWER, LAYER: FAST}, "parts", f"{others}rope"),
        ("auto,silu_mul=mlx", {}, "parts", f"{others}silu_mul"),
        ("native", {LAYER: WRONG}, "parts", "it was wrong"),
        ("native", {"linear": SLOW, LAYER: SLOW}, "native", "asked for"),
        ("native,decoder_layer=parts", {}, "parts", "asked for by name"),
    ]:
        ops = OpTable.select(spec, merits)
        layer = next(c for c in ops.choices() if c.operation == LAYER)
        assert (layer.implementation, layer.reason) == (implementation, reason), (spec, merits)
        parts = [c.implementation for c in ops.choices() if c.operation in PARTS]
        assert layer.implementation == "parts" or set(parts) == {"native"}


def test_exceptions() -> None:
    ops = OpTable.select(" mlx, paged_attention=reference ,rope = reference")
    chosen = {choice.operation: choice.implementation for choice in ops.choices()}
    assert chosen["paged_attention"] == chosen["rope"] == "reference"
    assert chosen["linear"] == "mlx"
    assert OpTable.select("linear=reference").linear is reference.linear


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cuda", "kernels is 'cuda', but must start with one of auto, "),
        ("", "kernels is ''"),
        ("mlx,reference", "'reference' after a comma, but expects operation=implementation"),
        ("mlx,softmax=mlx", "an operation 'softmax'; the operations are linear, "),
        ("rope=cuda", "rope=cuda, but rope has only "),
    ],
)
def test_wrong_specs(spec: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        OpTable.select(spec)
    assert message in str(caught.value)


def test_a_table_is_immutable() -> None:
    with pytest.raises(AttributeError):
        OpTable.select().rope = reference.rope  # type: ignore[misc]
