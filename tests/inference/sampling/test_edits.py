"""Edits of logits of fewer tokens than the edits name, as a draft model's are."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.protocol import SamplingParams
from inference.sampling.edits import LogitEdits, apply_edits

TOKENS = 12

biases = st.dictionaries(st.integers(0, TOKENS - 1), st.sampled_from([-5.0, 3.5]), max_size=4)
outputs = st.lists(st.integers(0, TOKENS - 1), max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(biases, outputs), min_size=1, max_size=3), st.integers(1, TOKENS))
def test_tokens_without_a_logit_change_nothing_of_the_others(
    rows: list[tuple[dict[int, float], list[int]]], known: int
) -> None:
    edits = []
    for bias, output in rows:
        edit = LogitEdits(SamplingParams(logit_bias=bias, frequency_penalty=0.5, repetition_penalty=1.3), [1, 11])
        for token_id in output:
            edit.append(token_id)
        edits.append(edit)
    logits = np.random.default_rng(0).standard_normal((len(rows), TOKENS)).astype(np.float32)
    whole = np.array(apply_edits(mx.array(logits), edits))
    part = np.array(apply_edits(mx.array(logits[:, :known]), edits))
    np.testing.assert_array_equal(part, whole[:, :known])
