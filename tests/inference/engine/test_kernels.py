"""Kernels that are wrong on purpose, through a whole engine: refused, named, and every token is the right one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference.ops.packing import why_missing
from inference.ops.table import IDLE, LAYER, OPERATIONS, PARTS
from inference.protocol import FinishReason
from tests.inference.engine.harness import GREEDY, Run, engine, reference_tokens
from tests.inference.ops.kernels import Machine

pytestmark = pytest.mark.skipif(bool(why_missing()), reason="no native kernels here")

PROMPTS = (range(20), range(40, 47))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path / "cache")


def answers(run: Run, folder: Path, count: int = 10) -> None:
    """Serve two prompts at once; every token has to be that of the same weights elsewhere."""
    outcomes = [run.submit(f"request {i} {len(run.outcomes)}", prompt, GREEDY) for i, prompt in enumerate(PROMPTS)]
    for _ in range(count):
        run.step()
    for prompt, outcome in zip(PROMPTS, outcomes, strict=True):
        found = tuple(outcome.token_ids)
        assert len(found) >= count - 2
        assert found == reference_tokens(folder, tuple(prompt), count)[: len(found)]


def kernels(run: Run) -> tuple[str, str]:
    state = next(state for state in run.engine.options if state.name == "kernels")
    return state.effective, state.reason


@pytest.mark.parametrize("spec", ["auto", "native"])
@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name not in IDLE])
def test_a_wrong_kernel_is_refused_and_the_text_is_right(
    machine: Machine, folder: Path, operation: str, spec: str
) -> None:
    machine.break_kernel(operation)
    run = Run(engine(folder, kernels=spec))
    answers(run, folder)
    effective, reason = kernels(run)
    assert "differs from the reference by" in reason
    assert f"{operation}={'parts' if operation == LAYER else 'mlx'}" in effective
    assert (run.engine._runner.ops.choices()[list(OPERATIONS).index(LAYER)].implementation == "parts") == (
        operation in (*PARTS, LAYER)
    )


def test_a_kernel_that_no_one_checked_would_have_been_used(machine: Machine, folder: Path) -> None:
    """So the test above sees what it claims to see."""
    run = Run(engine(folder, kernels="native"))
    honest = run.engine._runner.ops
    machine.break_kernel("rope")
    run.engine._runner.ops = type(honest).select("native,decoder_layer=parts")
    with pytest.raises(AssertionError):
        answers(run, folder)
    run.engine._runner.ops = honest


def test_options_changed_while_it_runs_are_looked_at_too(machine: Machine, folder: Path) -> None:
    run = Run(engine(folder, kernels="mlx"))
    assert not machine.cache.exists()  # nothing of ours is asked for
    machine.break_kernel("paged_attention")
    assert run.configure(kernels="auto").error == ""
    assert "paged_attention=mlx" in kernels(run)[0]
    answers(run, folder)
    machine.slow_down("greedy", 0.05)
    run.configure(kv_cache_dtype="float16")
    assert "greedy=mlx" not in kernels(run)[0]  # what was found of it before, it has nothing to do with the cache
    assert len(list((machine.cache / "kernels").iterdir())) == 1


def test_the_reason_says_how_fast_each_kernel_is(machine: Machine, folder: Path) -> None:
    machine.slow_down("silu_mul", 0.01, "mlx")
    machine.slow_down("largest", 0.05)
    effective, reason = kernels(Run(engine(folder)))
    assert effective == "native,largest=mlx"
    assert "silu_mul 2.0×" in reason
    assert "slower than MLX's own here (largest 0.2×)" in reason
    assert "no slower than its parts (decoder_layer" in reason


def test_a_kernel_that_fails_in_a_chat_is_replaced_and_nobody_notices(machine: Machine, folder: Path) -> None:
    """As where a GPU has no room for a kernel that nothing has launched before."""
    failing = []

    def fails(honest: Callable[..., Any], *arguments: Any) -> Any:
        if failing:
            raise RuntimeError("Metal kernel RoPE: it needs more registers than there are")
        return honest(*arguments)

    machine.replace("rope", fails)
    run = Run(engine(folder, kernels="native,decoder_layer=parts"))
    outcomes = [run.submit(str(i), prompt, GREEDY) for i, prompt in enumerate(PROMPTS)]
    for step in range(12):
        failing += [step] * (step == 3)
        run.step()
    for prompt, outcome in zip(PROMPTS, outcomes, strict=True):
        assert outcome.finished is None
        found = tuple(outcome.token_ids)
        assert len(found) >= 10  # a step is lost, and the one after computes what the cache held
        assert found == reference_tokens(folder, tuple(prompt), 12)[: len(found)]
    told = next(option for option in run.configured[-1].options if option.name == "kernels")
    assert told.effective == "native,rope=mlx"
    assert "our own kernel fails on this machine: Metal kernel RoPE: it needs more registers" in told.reason
    assert len(run.configured) == 1
    # A later start knows.
    assert "rope=mlx" in kernels(Run(engine(folder, kernels="native,decoder_layer=parts")))[0]


def test_a_kernel_that_is_not_in_use_is_not_to_blame(machine: Machine, folder: Path) -> None:
    """Else the step would be tried for ever."""

    def fails(honest: Callable[..., Any], *arguments: Any) -> Any:
        raise RuntimeError("Metal kernel RoPE: says another")

    machine.replace("rope", fails, "mlx")
    run = Run(engine(folder, kernels="mlx"))
    outcome = run.submit("a", PROMPTS[0], GREEDY)
    run.finish()
    assert outcome.reason is FinishReason.ERROR


def test_each_operation_is_told_with_its_speed_and_exactness(machine: Machine, folder: Path) -> None:
    machine.break_kernel("rope")
    machine.slow_down("largest", 0.05)
    run = Run(engine(folder))
    state = next(state for state in run.engine.options if state.name == "kernels")
    assert [each.operation for each in state.kernels] == list(OPERATIONS)
    told = {each.operation: each for each in state.kernels}
    assert told["rope"].implementation == told["largest"].implementation == "mlx"
    assert "differs from the reference by" in told["rope"].reason
    assert told["rope"].error == pytest.approx(0.2, rel=0.2)
    assert told["rope"].ratio == 0  # nobody timed what is wrong
    assert "slower than MLX's own" in told["largest"].reason
    assert told["largest"].ratio == pytest.approx(1 / 6)
    assert told["largest"].error == 0
    assert told["silu_mul"].implementation == "native"
    assert 0 < (told["silu_mul"].error or 0) < 1e-4
    assert all(not state.kernels for state in run.engine.options if state.name != "kernels")
    assert run.configure(kernels="mlx").error == ""
    state = next(state for state in run.configured[-1].options if state.name == "kernels")
    assert {each.implementation for each in state.kernels} == {"mlx", "parts"}
