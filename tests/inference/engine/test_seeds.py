"""A request's seed decides its tokens, whatever else is in the batch and however often it is interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.protocol import SamplingParams
from tests.inference.engine.harness import Run, engine

_rng = np.random.default_rng(8)
PROMPTS = [tuple(_rng.integers(0, 331, n).tolist()) for n in (1, 5, 16, 30)]


@st.composite
def sampled_requests(draw: st.DrawFn) -> tuple[tuple[int, ...], SamplingParams]:
    params = SamplingParams(
        temperature=draw(st.sampled_from([0.5, 1.0, 2.0])),
        top_p=draw(st.sampled_from([0.7, 1.0])),
        top_k=draw(st.sampled_from([0, 5, 40])),
        min_p=draw(st.sampled_from([0, 0.05])),
        repetition_penalty=draw(st.sampled_from([1.0, 1.2])),
        presence_penalty=draw(st.sampled_from([0, 0.4])),
        seed=draw(st.integers(0, 2**63 - 1)),
        max_tokens=draw(st.integers(1, 10)),
    )
    return draw(st.sampled_from(PROMPTS)), params


@settings(max_examples=50)
@given(st.lists(sampled_requests(), min_size=1, max_size=8), st.integers(1, 64), st.integers(0, 15))
def test_a_seed_gives_the_same_tokens_alone_and_in_any_batch(
    folder: Path, requests: list[tuple[tuple[int, ...], SamplingParams]], budget: int, spare_blocks: int
) -> None:
    def run(chosen: dict[str, Any], **options: Any) -> Run:
        made = Run(engine(folder, **options))
        for request_id, (prompt, params) in chosen.items():
            made.submit(request_id, prompt, params)
        return made.finish()

    everyone = {str(i): request for i, request in enumerate(requests)}
    tight = run(everyone, num_kv_blocks=10 + spare_blocks, max_num_batched_tokens=budget)
    for request_id, request in everyone.items():
        alone = run({request_id: request})
        assert alone.outcomes[request_id].token_ids == tight.outcomes[request_id].token_ids
        assert alone.outcomes[request_id].text == tight.outcomes[request_id].text


def test_a_seed_that_was_drawn_is_reported_and_repeats_the_answer(folder: Path) -> None:
    first, second = Run(engine(folder)), Run(engine(folder))
    first.submit("a", PROMPTS[1], SamplingParams(max_tokens=12))
    started = first.outcomes["a"].started
    assert started is not None
    second.submit("a", PROMPTS[1], SamplingParams(max_tokens=12, seed=started.seed))
    assert first.finish().outcomes["a"].token_ids == second.finish().outcomes["a"].token_ids
    other = Run(engine(folder)).submit("a", PROMPTS[1], SamplingParams(max_tokens=12)).started
    assert other is not None
    assert other.seed != started.seed
