"""The block pool: nothing is lost, nothing is handed out twice, sharing is counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.scheduling.blocks import BlockPool


def test_a_block_is_free_again_only_when_its_last_holder_lets_go():
    pool = BlockPool(4)
    table = pool.allocate(3)
    pool.share(table[:2])
    pool.release(table)
    assert pool.num_free == 2
    assert [pool.references(block) for block in table] == [1, 1, 0]
    pool.release(table[:2])
    assert pool.num_free == 4


def test_a_table_is_freed_from_its_end_so_that_prefixes_are_reused_last():
    pool = BlockPool(3)
    table = pool.allocate(3)
    pool.release(table)
    assert pool.allocate(3) == table[::-1]


def test_misuse_is_refused_and_changes_nothing():
    pool = BlockPool(2)
    with pytest.raises(ValueError, match="only 2 are free"):
        pool.allocate(3)
    with pytest.raises(ValueError, match="already free"):
        pool.release([0])
    with pytest.raises(ValueError, match="can't be shared"):
        pool.share([1])
    with pytest.raises(ValueError, match="at least one block"):
        BlockPool(0)
    assert pool.counts.free == pool.counts.total == 2


@given(
    st.integers(1, 20),
    st.lists(st.tuples(st.sampled_from(["take", "share", "drop"]), st.integers(0, 10**6)), max_size=60),
)
def test_counts_always_match_the_tables_that_exist(num_blocks, actions):
    pool, tables = BlockPool(num_blocks), []
    for action, number in actions:
        if action == "take":
            count = number % (num_blocks + 1)
            if count <= pool.num_free:
                tables.append(pool.allocate(count))
        elif tables:
            table = tables[number % len(tables)]
            if action == "share":
                prefix = table[: number % (len(table) + 1)]
                pool.share(prefix)
                tables.append(prefix)
            else:
                tables.remove(table)
                pool.release(table)
        pool.check(tables)
        counts = pool.counts
        assert counts.free + counts.used == counts.total == num_blocks
    for table in tables:
        pool.release(table)
    assert pool.num_free == num_blocks
