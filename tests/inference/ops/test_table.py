"""Choosing implementations: what a spec gives, and what it is told if it is wrong."""

from __future__ import annotations

import pytest

from inference.errors import ConfigError
from inference.ops import mlx_ops, reference
from inference.ops.table import OPERATIONS, OpTable


@pytest.mark.parametrize(("spec", "module"), [("reference", reference), ("mlx", mlx_ops), ("auto", mlx_ops)])
def test_one_name_for_all(spec: str, module: object) -> None:
    ops = OpTable.select(spec)
    for name in OPERATIONS:
        assert getattr(ops, name) is getattr(module, name)
    assert [choice.operation for choice in ops.choices()] == list(OPERATIONS)
    assert all(choice.reason for choice in ops.choices())


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
