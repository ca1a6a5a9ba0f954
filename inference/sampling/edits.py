"""Changes to single logits: `logit_bias` and the penalties for tokens seen before.

They touch few of a row's V logits, so they are kept as lists of entries and applied by one gather and one scatter over
all rows that have any.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import mlx.core as mx

from inference.protocol import SamplingParams


class LogitEdits:
    """The entries of one request, kept up to date as its output grows.

    An entry is a token id with what happens to its logit x, in this order: x + `add`; then x / `factor` if positive,
    else x * `factor`; then x - `subtract`.
    """

    def __init__(self, params: SamplingParams, prompt_ids: Sequence[int]) -> None:
        self._params = params
        self._index: dict[int, int] = {}
        self._counts: dict[int, int] = {}
        self.token_ids: list[int] = []
        self.add: list[float] = []
        self.factor: list[float] = []
        self.subtract: list[float] = []
        for token_id, bias in params.logit_bias.items():
            self.add[self._entry(token_id)] = bias
        if params.repetition_penalty != 1:
            for token_id in set(prompt_ids):
                self.factor[self._entry(token_id)] = params.repetition_penalty

    @staticmethod
    def needed(params: SamplingParams) -> bool:
        """Whether these parameters ask for any edit at all."""
        return bool(params.logit_bias) or LogitEdits._penalises(params)

    @staticmethod
    def _penalises(params: SamplingParams) -> bool:
        return params.repetition_penalty != 1 or params.presence_penalty != 0 or params.frequency_penalty != 0

    def append(self, token_id: int) -> None:
        """A token was added to the output."""
        params = self._params
        if not self._penalises(params):
            return
        count = self._counts[token_id] = self._counts.get(token_id, 0) + 1
        entry = self._entry(token_id)
        self.factor[entry] = params.repetition_penalty
        self.subtract[entry] = params.presence_penalty + params.frequency_penalty * count

    def copy(self) -> LogitEdits:
        """One that grows by itself from here on."""
        other = copy(self)
        other._index, other._counts = dict(self._index), dict(self._counts)
        other.token_ids, other.add = list(self.token_ids), list(self.add)
        other.factor, other.subtract = list(self.factor), list(self.subtract)
        return other

    def entries(self, vocab_size: int) -> tuple[Sequence[int], Sequence[float], Sequence[float], Sequence[float]]:
        """Token ids, `add`, `factor` and `subtract`, of tokens that a row of so many logits has."""
        columns = (self.token_ids, self.add, self.factor, self.subtract)
        if all(token_id < vocab_size for token_id in self.token_ids):
            return columns
        known = [i for i, token_id in enumerate(self.token_ids) if token_id < vocab_size]
        ids, add, factor, subtract = columns
        return (
            [ids[i] for i in known],
            [add[i] for i in known],
            [factor[i] for i in known],
            [subtract[i] for i in known],
        )

    def _entry(self, token_id: int) -> int:
        if token_id not in self._index:
            self._index[token_id] = len(self.token_ids)
            self.token_ids.append(token_id)
            self.add.append(0.0)
            self.factor.append(1.0)
            self.subtract.append(0.0)
        return self._index[token_id]


def apply_edits(logits: mx.array, edits: Sequence[LogitEdits | None]) -> mx.array:
    """`logits` [R, V] with the entries of each row applied; the same array if there are none.

    A draft model may have fewer tokens than those that the entries name: what it has no logit for is passed over.
    """
    rows: list[int] = []
    token_ids: list[int] = []
    add: list[float] = []
    factor: list[float] = []
    subtract: list[float] = []
    for row, edit in enumerate(edits):
        if edit is not None:
            its_ids, its_add, its_factor, its_subtract = edit.entries(logits.shape[-1])
            rows += [row] * len(its_ids)
            token_ids += its_ids
            add += its_add
            factor += its_factor
            subtract += its_subtract
    if not rows:
        return logits
    at = (mx.array(rows, dtype=mx.uint32), mx.array(token_ids, dtype=mx.uint32))
    x = logits[at] + mx.array(add, dtype=mx.float32)
    scale = mx.array(factor, dtype=mx.float32)
    x = mx.where(x > 0, x / scale, x * scale) - mx.array(subtract, dtype=mx.float32)
    edited = mx.array(logits)  # assignment changes the array it is called on, and the raw logits are still needed
    edited[at] = x
    return edited
