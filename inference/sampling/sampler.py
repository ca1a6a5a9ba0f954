"""From a step's logits to its tokens: the one entry to sampling."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Protocol, cast

import mlx.core as mx

from inference.ops import mlx_ops
from inference.ops.draws import Draw
from inference.ops.noise import draw_key
from inference.protocol import SamplingParams, TokenLogprob
from inference.sampling.edits import LogitEdits, apply_edits
from inference.sampling.logprobs import logprobs


class Choosing(Protocol):
    """The operations that sampling is made of, as they are in force: see `reference`."""

    def largest(self, x: mx.array, count: int, /) -> mx.array: ...
    def greedy(self, x: mx.array, /) -> mx.array: ...
    def draw(self, x: mx.array, draws: Sequence[Draw], /) -> mx.array: ...


class SamplingState:
    """What sampling has to remember of one request: its parameters, its seed and what it has put out."""

    def __init__(self, params: SamplingParams, seed: int, prompt_ids: Sequence[int]) -> None:
        self.params = params
        self.seed = seed
        self.position = 0
        """Index in the output of the token to be sampled next."""
        self.edits = LogitEdits(params, prompt_ids) if LogitEdits.needed(params) else None

    def append(self, token_id: int) -> None:
        """The token became part of the output."""
        self.position += 1
        if self.edits is not None:
            self.edits.append(token_id)

    def ahead(self, token_ids: Sequence[int]) -> SamplingState:
        """What it will be once these, too, are part of the output; itself for none."""
        if not token_ids:
            return self
        later = copy(self)
        later.edits = self.edits and self.edits.copy()
        for token_id in token_ids:
            later.append(token_id)
        return later


@dataclass(frozen=True, slots=True)
class Sampled:
    """The outcome for one row. If `error` is set there is no token: the row's logits were not numbers."""

    token_id: int
    logprob: TokenLogprob | None = None
    error: str = ""


def sample(logits: mx.array, states: Sequence[SamplingState], ops: Choosing = mlx_ops) -> list[Sampled]:
    """Sample the next token of each row: `logits` [R, V] float32, one state per row.

    Evaluates the arrays. Nothing is done for a feature that no row uses; with all rows greedy and unedited the logits
    are gone through once. States are read, not changed: the caller appends what it accepts.
    """
    token_ids = choose(logits, states, ops)
    reported: dict[int, TokenLogprob] = {}
    wanting = [(r, n) for r, s in enumerate(states) if (n := s.params.logprobs) is not None and token_ids[r] >= 0]
    if wanting:
        rows = [row for row, _ in wanting]
        part = logits if len(rows) == len(states) else logits[mx.array(rows)]
        found = logprobs(part, [token_ids[row] for row in rows], [n for _, n in wanting], ops.largest)
        reported = dict(zip(rows, found, strict=True))
    return [
        Sampled(-1, error="the model's output for this request is not a number (NaN or infinite): try it again")
        if token_id < 0
        else Sampled(token_id, reported.get(row))
        for row, token_id in enumerate(token_ids)
    ]


def choose(logits: mx.array, states: Sequence[SamplingState], ops: Choosing) -> list[int]:
    """The next token of each row, as `sample`, and nothing more of it; -1 for a row that is not numbers."""
    edited = apply_edits(logits, [state.edits for state in states])
    tokens = cast(list[int], _tokens(edited, states, ops).tolist())
    return [-1 if token == logits.shape[-1] else token for token in tokens]


def accepted(draft: Sequence[int], rows: Sequence[Sampled]) -> Sequence[Sampled]:
    """What of a verified draft becomes output: row i was sampled after the draft's first i tokens.

    Rows count up to the first that is not the draft's token, which is there in its place. So the output is what it
    would be without drafts, token for token, at any temperature: each token is drawn from the model's distribution with
    the numbers of its own position, whether it was guessed or not. That a draft model draws with the same numbers makes
    its guesses right nearly as often as can be (Daliri, Musco and Suresh 2024, "Coupling without communication and
    drafter-invariant speculative decoding").
    """
    for place, row in enumerate(rows):
        if row.error:
            return rows[: max(1, place)]  # not the fault of the tokens before it; it will be seen again on its own
        if place == len(draft) or row.token_id != draft[place]:
            return rows[: place + 1]
    raise AssertionError("one row more than there are drafts")


def _tokens(logits: mx.array, states: Sequence[SamplingState], ops: Choosing) -> mx.array:
    """Token ids [R]: of greedy rows the largest logit's, a draw for the others; V for a row that is not numbers."""
    drawing = [row for row, state in enumerate(states) if state.params.temperature > 0]
    if not drawing:
        return ops.greedy(logits)
    draws = [_draw(states[row]) for row in drawing]
    if len(drawing) == len(states):
        return ops.draw(logits, draws)
    greedy = [row for row, state in enumerate(states) if state.params.temperature == 0]
    mixed = mx.zeros(len(states), dtype=mx.uint32)
    mixed[mx.array(drawing)] = ops.draw(logits[mx.array(drawing)], draws)
    mixed[mx.array(greedy)] = ops.greedy(logits[mx.array(greedy)])
    return mixed


def _draw(state: SamplingState) -> Draw:
    params = state.params
    key = draw_key(state.seed, state.position)
    return Draw(key, params.temperature, params.min_p, params.top_k, params.top_p)
