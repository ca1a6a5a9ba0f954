"""Tile registers are used where they are right and no slower: on a made-up processor that says it has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

import metal_kernels
from inference.doctor import Status, _tile_registers
from inference.ops import native, verdicts
from inference.ops.demands import ORDINARY, Demands
from inference.ops.packing import why_missing
from inference.ops.proof import trusted
from inference.ops.tiles import settle
from tests.inference.ops.kernels import Machine

pytestmark = pytest.mark.skipif(bool(why_missing()), reason="no native kernels here")

SMALL = replace(ORDINARY, hidden=64, inner=96, heads=4, kv_heads=2, head_size=16, vocabulary=331, matrices=((4, 32),))
INT8 = SMALL.under("int8", "float32")


class Processor:
    """The extension as it is, on a processor of which the best level is "amx"."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.now = "amx"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def level(self) -> str:
        return self.now

    def set_level(self, level: str) -> None:
        self.now = level


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path / "cache")


@pytest.fixture
def processor(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Processor:
    made = Processor(metal_kernels.native)
    monkeypatch.setattr(metal_kernels, "native", made)
    return made


@pytest.fixture
def by_tiles(processor: Processor, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Puts something in the place of what tiles compute."""

    def put(kernel: Callable[..., Any]) -> None:
        for name in ("int8_linear", "bfloat16_linear"):
            honest = getattr(native, name)

            def multiply(x: mx.array, weight: Any, honest: Callable[..., Any] = honest) -> Any:
                return kernel(honest(x, weight)) if processor.now == "amx" else honest(x, weight)

            monkeypatch.setattr(native, name, multiply)

    return put


@pytest.mark.parametrize("activations", ["int8", "bfloat16"])
def test_what_agrees_and_keeps_up_is_used(processor: Processor, activations: str) -> None:
    verdict = settle(SMALL.under(activations, "float32"))
    assert verdict is not None
    assert verdict.earns
    assert [race.rows for race in verdict.races] == [32]
    assert processor.now == "amx"


@pytest.mark.parametrize("activations", ["int8", "bfloat16"])
@pytest.mark.parametrize("wrong", [lambda y: y * 1.01, lambda y: y * mx.nan])
def test_what_is_wrong_is_not_used_by_anything(
    processor: Processor, by_tiles: Callable[..., None], activations: str, wrong: Callable[..., Any]
) -> None:
    by_tiles(wrong)
    demands = SMALL.under(activations, "float32")
    choices = {choice.operation: choice for choice in trusted("auto", demands).choices()}
    assert processor.now == "avx512bf16"
    assert choices["linear"].implementation == "native"  # our own kernel goes on without tiles
    # Another start reads what this one has found.
    verdicts._opened.cache_clear()
    processor.now = "amx"
    by_tiles(lambda y: y)
    verdict = settle(demands)
    assert verdict is not None
    assert not verdict.agrees
    assert processor.now == "avx512bf16"


def test_what_fails_is_not_used(
    processor: Processor, by_tiles: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(result: mx.array) -> mx.array:
        raise RuntimeError("no such register")

    by_tiles(fail)
    settle(INT8)
    assert processor.now == "avx512bf16"
    assert "the processor's tile registers fail: no such register" in capsys.readouterr().err


def test_what_is_slow_is_looked_at_again_by_later_starts(
    processor: Processor, machine: Machine, by_tiles: Callable[..., None]
) -> None:
    def slowly(result: mx.array) -> mx.array:
        machine.now += 0.05
        return result

    by_tiles(slowly)
    for _ in range(3):
        verdicts._opened.cache_clear()
        processor.now = "amx"
        settle(INT8)
        assert processor.now == "avx512bf16"
    verdicts._opened.cache_clear()
    processor.now = "amx"
    told: list[str] = []
    verdict = settle(INT8, told.append)
    assert verdict is not None
    assert verdict.looks == 3
    assert told == []


@pytest.mark.parametrize(("level", "demands"), [("avx512bf16", INT8), ("amx", SMALL)])
def test_where_tiles_would_multiply_nothing_they_are_not_looked_at(
    processor: Processor, level: str, demands: Demands
) -> None:
    """At a lower level, which `GLASSCHAT_CPU` may name, and where activations stay as they are."""
    processor.now = level
    assert settle(demands) is None
    assert processor.now == level


def test_the_doctor_says_what_became_of_them(processor: Processor, by_tiles: Callable[..., None]) -> None:
    good = list(_tile_registers())
    assert [finding.status for finding in good] == [Status.OK, Status.OK]
    assert all("products of many rows by AMX agree with those without" in finding.detail for finding in good)
    by_tiles(lambda y: y * 2)
    verdicts.verdicts().forget()
    (bad,) = _tile_registers()
    assert bad.status is Status.FAIL
    assert "int8 products of many rows by AMX are not used, they differ by 1e+00" in bad.detail
    assert list(_tile_registers()) == []  # a lower level is in force
