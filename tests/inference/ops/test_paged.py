"""The ragged layout: where tokens stand, what is refused, how sequences are grouped for attention."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.ops.kv_store import KVFormat
from inference.ops.paged import PagedKV, RaggedLayout
from tests.inference.ops.ragged import Batch, batches


def test_positions_and_slots() -> None:
    layout = RaggedLayout.build([3, 1], [5, 4], [[7, 2], [1]], 4)
    assert layout.positions.tolist() == [2, 3, 4, 3]
    assert layout.slots.tolist() == [7 * 4 + 2, 7 * 4 + 3, 2 * 4 + 0, 1 * 4 + 3]
    assert layout.tables.tolist() == [[7, 2], [1, 0]]
    assert layout.last_rows == (2, 3)
    assert layout.num_tokens == 4


@pytest.mark.parametrize(
    ("query_lens", "context_lens", "tables", "message"),
    [
        ([], [], [], "at least one sequence"),
        ([1], [1, 2], [[0]], "as many of each"),
        ([0], [1], [[0]], "between 1 and the context"),
        ([2], [1], [[0]], "between 1 and the context"),
        ([1], [5], [[0]], "do not hold 5 tokens"),
        ([1], [1], [[]], "do not hold 1 tokens"),
        ([1], [1], [[-1]], "negative block"),
    ],
)
def test_impossible_steps_are_refused(
    query_lens: list[int], context_lens: list[int], tables: list[list[int]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        RaggedLayout.build(query_lens, context_lens, tables, 4)


@given(batches())
def test_each_token_stands_once(batch: Batch) -> None:
    layout = batch.layout()
    expected = [
        (position, table[position // batch.block_size] * batch.block_size + position % batch.block_size)
        for query, context, table in zip(batch.query_lens, batch.context_lens, batch.tables, strict=True)
        for position in range(context - query, context)
    ]
    assert list(zip(layout.positions.tolist(), layout.slots.tolist(), strict=True)) == expected


@given(batches())
def test_groups_cover_the_batch_and_waste_little(batch: Batch) -> None:
    layout = batch.layout()
    rows = [row for group in layout.groups for row in group.rows.tolist()]
    assert sorted(rows) == list(range(layout.num_tokens))
    if layout.ungroup is None:
        assert rows == sorted(rows)
    else:
        assert np.array(rows)[np.array(layout.ungroup)].tolist() == list(range(layout.num_tokens))
    gathered = sum(np.prod(group.tables.shape) for group in layout.groups)
    needed = sum(-(-context // batch.block_size) for context in batch.context_lens)
    assert gathered <= 2 * needed


@given(batches())
def test_groups_read_only_their_own_blocks(batch: Batch) -> None:
    layout = batch.layout()
    starts = np.cumsum(layout.query_lens) - np.array(layout.query_lens)
    for group in layout.groups:
        for row, table in zip(group.rows.tolist()[:: group.query_len], group.tables.tolist(), strict=True):
            sequence = int(np.searchsorted(starts, row))
            assert set(table) <= set(batch.tables[sequence])


def test_pool_is_finite_and_counts_its_bytes() -> None:
    kv = PagedKV.allocate(2, 5, 4, 3, 8, KVFormat(mx.bfloat16))
    assert [array.shape for array in kv.arrays] == [(5, 4, 3, 8)] * 4
    assert kv.nbytes == 4 * 5 * 4 * 3 * 8 * 2
    assert not any(array.any().item() for array in kv.arrays)


@given(st.integers(1, 3), st.integers(1, 40))
def test_last_rows_end_their_sequences(count: int, query_len: int) -> None:
    layout = RaggedLayout.build([query_len] * count, [query_len] * count, [list(range(40))] * count, 1)
    assert layout.last_rows == tuple(query_len * (i + 1) - 1 for i in range(count))
