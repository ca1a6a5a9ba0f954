"""Greedy output is transformers' output, token for token, whatever company, pool, budget and options it is made in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.protocol import FinishReason, SamplingParams
from tests.inference.engine.harness import Run, engine, reference_tokens

MOST_TOKENS = 14
_LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 23, 31, 40, 47)
_rng = np.random.default_rng(3)
_common = _rng.integers(0, 331, 24).tolist()
PROMPTS = [
    # Every other one begins like the others of its kind, up to half of its length.
    tuple((_common[: n // 2] if i % 2 else []) + _rng.integers(0, 331, n - n // 2 * (i % 2)).tolist())
    for i, n in enumerate(_LENGTHS)
]


def greedy(max_tokens: int) -> SamplingParams:
    return SamplingParams(temperature=0, ignore_eos=True, max_tokens=max_tokens)


def assert_lossless(run: Run, folder: Path, asked: dict[str, tuple[tuple[int, ...], int]]) -> None:
    """`asked`: prompt and max_tokens by request id. Aborted requests have made a beginning, the others all of it."""
    for request_id, (prompt, max_tokens) in asked.items():
        outcome = run.outcomes[request_id]
        expected = list(reference_tokens(folder, prompt, MOST_TOKENS)[:max_tokens])
        if outcome.reason is FinishReason.ABORTED:
            assert outcome.token_ids == expected[: len(outcome.token_ids)]
        else:
            assert outcome.reason is FinishReason.LENGTH, outcome.finished
            assert outcome.token_ids == expected, request_id


@pytest.mark.parametrize("batch", range(1, 17))
def test_batches_of_1_to_16(folder: Path, batch: int) -> None:
    run = Run(engine(folder, num_kv_blocks=400))
    asked = {str(i): (prompt, MOST_TOKENS) for i, prompt in enumerate(PROMPTS[-batch:])}
    for request_id, (prompt, max_tokens) in asked.items():
        run.submit(request_id, prompt, greedy(max_tokens))
    run.finish()
    assert_lossless(run, folder, asked)
    assert max(len(record.scheduled) for record in run.records) == batch


@pytest.mark.parametrize("budget", [1, 2, 3, 5, 8, 13, 21, 34, 64])
@pytest.mark.parametrize("chunked", [True, False])
def test_any_budget_with_and_without_chunks(folder: Path, budget: int, chunked: bool) -> None:
    run = Run(engine(folder, num_kv_blocks=200, max_num_batched_tokens=budget, enable_chunked_prefill=chunked))
    asked = {str(i): (prompt, 4) for i, prompt in enumerate(PROMPTS[::3])}
    for request_id, (prompt, max_tokens) in asked.items():
        run.submit(request_id, prompt, greedy(max_tokens))
    run.finish()
    assert_lossless(run, folder, asked)
    if chunked:
        assert all(sum(s.num_tokens for s in record.scheduled) <= budget for record in run.records)


@pytest.mark.parametrize("block_size", [1, 3, 4, 16])
@pytest.mark.parametrize("kernels", ["native", "mlx", "reference"])
def test_a_pool_that_is_too_small_preempts_and_loses_nothing(folder: Path, block_size: int, kernels: str) -> None:
    longest = max(map(len, PROMPTS)) + MOST_TOKENS
    blocks = -(-longest // block_size) + 2
    run = Run(engine(folder, num_kv_blocks=blocks, block_size=block_size, kernels=kernels))
    asked = {str(i): (prompt, MOST_TOKENS) for i, prompt in enumerate(PROMPTS[:12])}
    for request_id, (prompt, max_tokens) in asked.items():
        run.submit(request_id, prompt, greedy(max_tokens))
    run.finish()
    assert_lossless(run, folder, asked)
    if block_size < 16:
        assert any(record.preempted for record in run.records)


CHANGES = (
    {"kernels": "reference"},
    {"kernels": "mlx"},
    {"kernels": "native"},
    {"kernels": "mlx,paged_attention=reference"},
    {"kernels": "mlx,linear=native"},
    {"attention": "plain"},
    {"attention": "flash"},
    {"attention": "auto"},
    {"max_num_batched_tokens": 1},
    {"max_num_batched_tokens": 7},
    {"max_num_batched_tokens": 64},
    {"enable_chunked_prefill": False},
    {"enable_chunked_prefill": True},
    {"max_num_seqs": 1},
    {"max_num_seqs": 3},
    {"max_num_seqs": 16},
    {"enable_prefix_caching": False},
    {"enable_prefix_caching": True},
    {"activations": "exact"},
    {"kv_layout": "dense"},
    {"kv_layout": "none"},
    {"kv_layout": "paged"},
    {"kv_cache_dtype": "float32"},
    {"scheduling_policy": "fcfs"},
    {"scheduling_policy": "priority"},
    {"scheduling_policy": "fair"},
    {"scheduling_policy": "shortest"},
    {"speculation": "draft"},
    {"speculation": "ngram"},
    {"speculation": "off"},
    {"num_speculative_tokens": 1},
    {"num_speculative_tokens": 6},
    {"adaptive_speculation": False},
    {"adaptive_speculation": True},
)


@st.composite
def histories(draw: st.DrawFn) -> dict[str, Any]:
    """An engine's configuration, and what happens before which step."""
    longest = max(map(len, PROMPTS)) + MOST_TOKENS
    block_size = draw(st.sampled_from([1, 2, 4, 7, 16]))
    least = -(-longest // block_size)
    requests = draw(st.lists(st.tuples(st.sampled_from(PROMPTS), st.integers(1, MOST_TOKENS)), min_size=1, max_size=16))
    steps = st.integers(0, 40)
    return {
        "options": {
            "block_size": block_size,
            "num_kv_blocks": least + draw(st.integers(0, 2 * least)),
            "max_num_batched_tokens": draw(st.integers(1, 64)),
            "max_num_seqs": draw(st.integers(1, 16)),
            "enable_chunked_prefill": draw(st.booleans()),
            "enable_prefix_caching": draw(st.booleans()),
            "kernels": draw(st.sampled_from(["native", "mlx", "reference"])),
            "attention": draw(st.sampled_from(["auto", "flash", "plain"])),
            "speculation": draw(st.sampled_from(["off", "draft", "ngram"])),
            "num_speculative_tokens": draw(st.integers(1, 6)),
            "adaptive_speculation": draw(st.booleans()),
        },
        "requests": [(*request, draw(steps)) for request in requests],
        "aborts": draw(st.lists(st.tuples(st.integers(0, len(requests) - 1), steps), max_size=3)),
        "changes": draw(st.lists(st.tuples(st.sampled_from(CHANGES), steps), max_size=5)),
    }


@settings(max_examples=150)
@given(history=histories())
def test_any_history(folder: Path, draft: Path, history: dict[str, Any]) -> None:
    """Random arrivals, aborts and changes of live options, in random pools under random budgets."""
    run = Run(engine(folder, draft, **history["options"]))
    at: dict[int, list[Any]] = {}
    asked = {}
    for i, (prompt, max_tokens, step) in enumerate(history["requests"]):
        asked[str(i)] = (prompt, max_tokens)
        at.setdefault(step, []).append(lambda i=i, p=prompt, n=max_tokens: run.submit(str(i), p, greedy(n)))
    for request, step in history["aborts"]:
        at.setdefault(step, []).append(lambda r=str(request): run.abort(r))
    for changes, step in history["changes"]:
        at.setdefault(step, []).append(lambda c=changes: run.configure(**c))
    run.finish(at)
    assert not any(configured.error for configured in run.configured)
    assert_lossless(run, folder, asked)
