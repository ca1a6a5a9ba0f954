"""The block pool: nothing is lost, nothing is handed out twice, sharing is counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.scheduling.blocks import ROOT, BlockPool, Content, chain


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
    with pytest.raises(ValueError, match="nobody can have filled it"):
        pool.publish(0, content(1))
    with pytest.raises(ValueError, match="at least one block"):
        BlockPool(0)
    assert pool.counts.free == pool.counts.total == 2


def content(*tokens: int, parent: bytes = ROOT) -> Content:
    return Content(chain(parent, tokens), parent, tokens)


def test_a_free_block_is_found_by_its_content_until_it_is_needed():
    pool = BlockPool(2)
    (block,) = pool.allocate(1)
    pool.publish(block, content(1, 2))
    pool.release([block])
    assert (pool.counts.free, pool.counts.cached) == (2, 1)
    assert pool.find(content(1, 2)) == block
    assert pool.allocate(1) != [block], "an empty one is handed out first"
    assert pool.allocate(1) == [block]
    assert pool.find(content(1, 2)) is None


def test_the_twin_of_a_block_is_not_found_and_not_kept():
    pool = BlockPool(3)
    first, twin = pool.allocate(2)
    for block in (first, twin):
        pool.publish(block, content(5))
    pool.release([twin])
    assert pool.counts.cached == 0
    assert pool.find(content(5)) == first


def test_a_name_alone_proves_nothing():
    """Two contents with one hash: what is found must have the very tokens, after the very parent."""
    pool = BlockPool(1)
    (block,) = pool.allocate(1)
    true = content(1)
    pool.publish(block, true)
    assert pool.find(Content(true.name, true.parent, (2,))) is None
    assert pool.find(Content(true.name, b"other", true.tokens)) is None


@given(st.lists(st.integers(0, 2**32 - 1), max_size=5), st.lists(st.integers(0, 2**32 - 1), max_size=5))
def test_names_differ_where_tokens_or_parents_do(left, right):
    assert (chain(ROOT, left) == chain(ROOT, right)) == (left == right)
    assert chain(b"x", left) != chain(b"y", left)


@given(
    st.integers(1, 20),
    st.lists(
        st.tuples(st.sampled_from(["take", "share", "drop", "fill", "find", "forget"]), st.integers(0, 10**6)),
        max_size=80,
    ),
)
def test_counts_always_match_the_tables_that_exist(num_blocks, actions):
    pool, tables = BlockPool(num_blocks), []
    filled: dict[int, Content] = {}
    for action, number in actions:
        if action == "take":
            count = number % (num_blocks + 1)
            if count <= pool.num_free:
                tables.append(pool.allocate(count))
                filled = {block: kept for block, kept in filled.items() if block not in tables[-1]}
        elif action == "find":
            if (block := pool.find(content(number % 7))) is not None:
                assert filled[block] == content(number % 7)
                pool.share([block])
                tables.append([block])
        elif action == "forget":
            pool.forget()
            filled.clear()
        elif tables:
            table = tables[number % len(tables)]
            if action == "share":
                prefix = table[: number % (len(table) + 1)]
                pool.share(prefix)
                tables.append(prefix)
            elif action == "fill" and table:
                block = table[number % len(table)]
                if pool.content(block) is None:
                    filled[block] = content(number % 7)
                    pool.publish(block, filled[block])
            elif action == "drop":
                tables.remove(table)
                pool.release(table)
        pool.check(tables)
        counts = pool.counts
        assert counts.free + counts.used == counts.total == num_blocks
        assert counts.cached <= counts.free
    for table in tables:
        pool.release(table)
    assert pool.num_free == num_blocks
