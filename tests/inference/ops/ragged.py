"""Random ragged batches for property tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from inference.ops.paged import RaggedLayout


@dataclass(frozen=True)
class Batch:
    query_lens: tuple[int, ...]
    context_lens: tuple[int, ...]
    tables: tuple[tuple[int, ...], ...]
    """Shuffled, without a block in common."""
    block_size: int
    num_blocks: int

    def layout(self) -> RaggedLayout:
        return RaggedLayout.build(self.query_lens, self.context_lens, self.tables, self.block_size)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Up to 6 sequences: decodes, drafts to verify, chunks of prompts; some with blocks to spare."""
    query_lens = draw(st.lists(st.one_of(st.just(1), st.integers(2, 6), st.integers(2, 40)), min_size=1, max_size=6))
    context_lens = [query + draw(st.one_of(st.just(0), st.integers(0, 60))) for query in query_lens]
    block_size = draw(st.sampled_from([1, 3, 4, 16]))
    spare = draw(st.integers(0, 2))
    counts = [-(-context // block_size) + spare for context in context_lens]
    num_blocks = sum(counts) + 1
    order = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).permutation(num_blocks).tolist()
    tables = []
    for count in counts:
        tables.append(tuple(order[:count]))
        order = order[count:]
    return Batch(tuple(query_lens), tuple(context_lens), tuple(tables), block_size, num_blocks)
