"""Choosing implementations: what a spec gives, and what it is told if it is wrong."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import pytest

from inference.errors import ConfigError
from inference.ops import agreement, mlx_ops, reference
from inference.ops.agreement import trusted
from inference.ops.packing import why_missing
from inference.ops.table import LAYER, OPERATIONS, OpTable
from inference.ops.weights import Weight


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
    for choice in OpTable.select("auto").choices():
        assert choice.implementation == next(iter(OPERATIONS[choice.operation].implementations))
        assert choice.reason


@pytest.mark.skipif(bool(why_missing()), reason="no native kernels here")
def test_a_refused_kernel_gives_way_with_the_reason() -> None:
    for spec in ("auto", "native", "mlx,linear=native"):
        ops = OpTable.select(spec, refused={"linear": "it was wrong"})
        assert ops.linear is mlx_ops.linear
        assert next(c.reason for c in ops.choices() if c.operation == "linear") == "it was wrong"


@pytest.mark.skipif(bool(why_missing()), reason="no native kernels here")
def test_a_kernel_that_differs_from_the_reference_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(x: mx.array, weight: Weight) -> mx.array:
        return 1.1 * reference.linear(x, weight)

    assert trusted("native").reads_packed
    agreement._disagreement.cache_clear()
    implementations = {**OPERATIONS["linear"].implementations, "native": wrong}
    monkeypatch.setitem(OPERATIONS, "linear", replace(OPERATIONS["linear"], implementations=implementations))  # type: ignore[attr-defined]
    choice = next(c for c in trusted("auto").choices() if c.operation == "linear")
    agreement._disagreement.cache_clear()
    assert choice.implementation == "mlx"
    assert "differs from the reference by 1e-01 in float32" in choice.reason


@pytest.mark.skipif(bool(why_missing()), reason="no native kernels here")
def test_layers_go_by_parts_where_one_of_these_is_refused_or_where_they_are_themselves() -> None:
    for spec, refused, reason in [
        ("auto", {"rope": "it was wrong"}, "not all parts of a layer are our own kernels: rope"),
        ("auto,silu_mul=mlx", {}, "not all parts of a layer are our own kernels: silu_mul"),
        ("native", {LAYER: "it was wrong"}, "it was wrong"),
        ("native,decoder_layer=parts", {}, "asked for by name"),
    ]:
        layer = next(c for c in OpTable.select(spec, refused).choices() if c.operation == LAYER)
        assert (layer.implementation, layer.reason) == ("parts", reason)


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
