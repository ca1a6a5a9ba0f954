"""Matrices are multiplied in the type that is fastest."""

from __future__ import annotations

import precision
import pytest
import torch


@pytest.mark.parametrize(
    ("slower", "faster"), [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)], ids=str
)
def test_the_faster_type_is_taken(monkeypatch: pytest.MonkeyPatch, slower: torch.dtype, faster: torch.dtype) -> None:
    monkeypatch.setattr(precision, "_seconds", {slower: 2.0, faster: 1.0}.get)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    precision.product_type.cache_clear()
    try:
        assert precision.product_type() is faster
        assert precision.rounds_products() is (faster is torch.bfloat16)
    finally:
        precision.product_type.cache_clear()
