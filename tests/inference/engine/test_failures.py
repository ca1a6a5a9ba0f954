"""A step that fails costs only the request that made it fail, and the engine goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from inference.engine.batch import Batch
from inference.engine.engine import Engine
from inference.protocol import FinishReason, RequestState, SamplingParams
from tests.inference.engine.harness import Run, engine, reference_tokens

POISON = 13
"""A token that no other prompt has: batches that hold it fail."""
PROMPTS = {
    "a": (17, 250, 3, 99, 41),
    "b": (8, 9),
    "poisoned": (4, POISON, 5),
    "c": (77, 6, 5, 44, 3, 2, 1, 9, 200),
}
COUNT = 8


def greedy(max_tokens: int = COUNT) -> SamplingParams:
    return SamplingParams(temperature=0, ignore_eos=True, max_tokens=max_tokens)


def sabotage(target: Engine, before: Callable[[Batch], None]) -> None:
    """Have `before` called with each batch, to raise what it likes, after K and V have been spoilt."""
    compute = target._runner.compute

    def spoilt(batch: Batch) -> mx.array | None:
        before(batch)
        return compute(batch)

    target._runner.compute = spoilt  # type: ignore[method-assign]


def holds_poison(batch: Batch) -> bool:
    return POISON in np.array(batch.token_ids).tolist()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError("out"), "memory ran out"),
        (RuntimeError("[malloc] Unable to allocate 99999999999 bytes."), "lower max_num_batched_tokens"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("odd"), "send it again"),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_the_request_that_breaks_its_batch_fails_alone(folder: Path, error: Exception, words: str, late: bool) -> None:
    run = Run(engine(folder))

    def explode(batch: Batch) -> None:
        if holds_poison(batch):
            raise error

    sabotage(run.engine, explode)
    names = ["a", "b", "c", "poisoned"] if late else list(PROMPTS)
    for name in names:
        if late and name == "poisoned":
            for _ in range(3):
                run.step()
        run.submit(name, PROMPTS[name], greedy())
    run.finish()
    failed = run.outcomes["poisoned"].finished
    assert failed is not None
    assert failed.reason is FinishReason.ERROR
    assert words in failed.message
    for name in "abc":
        assert run.outcomes[name].reason is FinishReason.LENGTH
        assert tuple(run.outcomes[name].token_ids) == reference_tokens(folder, PROMPTS[name], COUNT)


def test_a_failure_that_does_not_come_back_costs_nobody(folder: Path) -> None:
    run = Run(engine(folder))
    failures = iter([False, False, False, True])

    def hiccup(_: Batch) -> None:
        if next(failures, False):
            raise RuntimeError("a hiccup")

    sabotage(run.engine, hiccup)
    for name, prompt in PROMPTS.items():
        run.submit(name, prompt, greedy())
    run.finish()
    for name, prompt in PROMPTS.items():
        assert tuple(run.outcomes[name].token_ids) == reference_tokens(folder, prompt, COUNT)


def test_the_pool_is_not_trusted_after_a_failure(folder: Path) -> None:
    """Whatever the failed step did to the cache, nothing computed later may show it."""
    run = Run(engine(folder))
    kv = run.engine._runner._kv
    failed = []

    def spoil(_: Batch) -> None:
        if len(run.records) == 3 and not failed:
            failed.append(True)
            for layer in range(len(kv.keys)):
                kv.keys[layer] = kv.keys[layer] + mx.nan
            raise RuntimeError("the device is gone")

    sabotage(run.engine, spoil)
    for name in "abc":
        run.submit(name, PROMPTS[name], greedy())
    run.finish()
    assert failed
    for name in "abc":
        assert tuple(run.outcomes[name].token_ids) == reference_tokens(folder, PROMPTS[name], COUNT)


def test_requests_come_go_and_show_while_the_culprit_is_sought(folder: Path) -> None:
    run = Run(engine(folder))

    def explode(batch: Batch) -> None:
        if holds_poison(batch):
            raise RuntimeError("no")

    sabotage(run.engine, explode)
    for name, prompt in PROMPTS.items():
        run.submit(name, prompt, greedy())
    run.step()
    assert run.engine._trial.active
    run.submit("new", PROMPTS["b"], greedy())
    record = run.step()
    assert {row.request_id for row in record.requests} == {*PROMPTS, "new"}
    assert sum(row.state is RequestState.RUNNING for row in record.requests) <= 1
    run.abort("a")
    run.abort("c")
    run.finish()
    assert run.outcomes["poisoned"].reason is FinishReason.ERROR
    assert run.outcomes["a"].reason is run.outcomes["c"].reason is FinishReason.ABORTED
    for name in ("b", "new"):
        assert tuple(run.outcomes[name].token_ids) == reference_tokens(folder, PROMPTS["b"], COUNT)


def test_a_row_of_nan_ends_its_own_request(folder: Path) -> None:
    run = Run(engine(folder))
    compute = run.engine._runner.compute

    def spoilt(batch: Batch) -> mx.array | None:
        logits = compute(batch)
        for row, chunk in enumerate(batch.sampling):
            if chunk.request.request_id == "b" and len(chunk.request.output_ids) == 3 and logits is not None:
                logits[row, 5] = mx.nan
        return logits

    run.engine._runner.compute = spoilt  # type: ignore[method-assign]
    for name in "abc":
        run.submit(name, PROMPTS[name], greedy())
    run.finish()
    failed = run.outcomes["b"]
    assert failed.reason is FinishReason.ERROR
    assert failed.finished is not None
    assert "not a number" in failed.finished.message
    assert tuple(failed.token_ids) == reference_tokens(folder, PROMPTS["b"], 3)
    for name in "ac":
        assert tuple(run.outcomes[name].token_ids) == reference_tokens(folder, PROMPTS[name], COUNT)


def test_an_interrupted_step_is_computed_again(folder: Path) -> None:
    """Ctrl+C in a notebook, in the middle of a step."""
    run = Run(engine(folder))
    interrupts = iter([False, False, True])

    def interrupt(_: Batch) -> None:
        if next(interrupts, False):
            raise KeyboardInterrupt

    sabotage(run.engine, interrupt)
    for name in "abc":
        run.submit(name, PROMPTS[name], greedy())
    run.step()
    run.step()
    with pytest.raises(KeyboardInterrupt):
        run.engine.step()
    while run.engine.has_work:
        run.take(run.engine.step())
    for name in "abc":
        assert tuple(run.outcomes[name].token_ids) == reference_tokens(folder, PROMPTS[name], COUNT)
    assert run.engine._scheduler.blocks.used == 0
