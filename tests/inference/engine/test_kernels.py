"""Kernels that are wrong on purpose, through a whole engine: refused, named, and every token is the right one."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.ops.packing import why_missing
from inference.ops.table import LAYER, OPERATIONS, PARTS
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
@pytest.mark.parametrize("operation", OPERATIONS)
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
