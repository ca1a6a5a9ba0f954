"""Bookkeeping of KV cache blocks: which are free, and how many block tables hold each of the others.

A block is a number; the arrays behind it live elsewhere. Sharing is counted from the start (`share`), so that a block
goes back to the free list only when the last table lets go of it (Kwon et al. 2023, "PagedAttention", section 4.3).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence

from inference.protocol import BlockCounts


class BlockPool:
    """A fixed number of blocks. `free + used == total` always; the oldest freed block is handed out first."""

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 1:
            raise ValueError(f"a pool needs at least one block, not {num_blocks}")
        self._references = [0] * num_blocks
        self._free = deque(range(num_blocks))

    @property
    def total(self) -> int:
        return len(self._references)

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def counts(self) -> BlockCounts:
        return BlockCounts(total=self.total, used=self.total - self.num_free, free=self.num_free)

    def allocate(self, count: int) -> list[int]:
        """Take `count` free blocks, each held once. The caller has checked `num_free`."""
        if count > len(self._free):
            raise ValueError(f"{count} blocks asked for, but only {len(self._free)} are free")
        taken = [self._free.popleft() for _ in range(count)]
        for block in taken:
            self._references[block] = 1
        return taken

    def share(self, blocks: Iterable[int]) -> None:
        """Another block table holds these blocks too."""
        for block in blocks:
            if self._references[block] == 0:
                raise ValueError(f"block {block} is free and can't be shared")
            self._references[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """One block table lets go of these blocks; those that nobody else holds become free.

        The end of the table goes first: once freed blocks keep their content for reuse, a prefix should outlive
        what follows it.
        """
        for block in reversed(blocks):
            if self._references[block] == 0:
                raise ValueError(f"block {block} is already free")
            self._references[block] -= 1
            if self._references[block] == 0:
                self._free.append(block)

    def references(self, block: int) -> int:
        """How many block tables hold this block."""
        return self._references[block]

    def check(self, tables: Iterable[Sequence[int]]) -> None:
        """Raise AssertionError unless the counts are exactly what these block tables hold."""
        held = Counter(block for table in tables for block in table)
        free = set(self._free)
        assert len(free) == len(self._free), "a block is in the free list twice"
        for block, references in enumerate(self._references):
            assert references == held[block], f"block {block}: {references} references, {held[block]} holders"
            assert (block in free) == (references == 0), f"block {block} is both free and held, or neither"
