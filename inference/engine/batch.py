"""From the scheduler's plan to what the model takes: one flat run of tokens, and where each of them stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from inference.ops.paged import RaggedLayout
from inference.scheduling.plan import Chunk


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's input."""

    token_ids: mx.array
    """[T] int32: the chunks' tokens one after another."""
    layout: RaggedLayout
    sampling: tuple[Chunk, ...]
    """The chunks that end in a new token."""
    sampling_rows: mx.array
    """[R] int32: the flat index of the last token of each, and of the tokens before drafts."""


def build_batch(chunks: Sequence[Chunk], block_size: int) -> Batch:
    """Lay out a step of at least one chunk. Each request's block table already covers its chunk."""
    token_ids: list[int] = []
    rows: list[int] = []
    for chunk in chunks:
        token_ids += chunk.request.token_ids(chunk.num_computed, chunk.num_computed + chunk.num_tokens)
        if chunk.samples:
            rows += range(len(token_ids) - 1 - chunk.drafts, len(token_ids))
    layout = RaggedLayout.build(
        [chunk.num_tokens for chunk in chunks],
        [chunk.num_computed + chunk.num_tokens for chunk in chunks],
        [chunk.request.block_table for chunk in chunks],
        block_size,
    )
    return Batch(
        token_ids=mx.array(token_ids, dtype=mx.int32),
        layout=layout,
        sampling=tuple(chunk for chunk in chunks if chunk.samples),
        sampling_rows=mx.array(rows, dtype=mx.int32),
    )
