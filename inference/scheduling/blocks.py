"""Bookkeeping of KV cache blocks: how many block tables hold each, which are free, and what is still in the free ones.

A block is a number; the arrays behind it live elsewhere. A block goes back only when the last table lets go of it (Kwon
et al. 2023, "PagedAttention", section 4.3). One that is full keeps its content while it is free, and is found by it
again: that is the prefix cache.
"""

from __future__ import annotations

import struct
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from inference.protocol import BlockCounts

ROOT = b""
"""What stands for the content before the first block."""


def chain(parent: bytes, tokens: Sequence[int]) -> bytes:
    """The name of a block's content: a hash of its tokens and of the name of all that is before it.

    Keys and values depend on every token before them, so blocks of equal tokens are equal only after equal prefixes.
    """
    return blake2b(parent + struct.pack(f"<{len(tokens)}I", *tokens), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Content:
    """What a full block holds: its tokens, after those that `parent` is the name of."""

    name: bytes
    parent: bytes
    tokens: tuple[int, ...]


class BlockPool:
    """A fixed number of blocks. `free + used == total` always, and a free block may be cached: have content.

    Empty blocks are handed out first, the oldest freed before the others; then those with content, which they lose, the
    least recently used first.
    """

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 1:
            raise ValueError(f"a pool needs at least one block, not {num_blocks}")
        self._references = [0] * num_blocks
        self._empty = deque(range(num_blocks))
        self._cached: dict[int, None] = {}
        """Free blocks with content, in the order in which they were last let go of."""
        self._contents: dict[int, Content] = {}
        self._by_name: dict[bytes, int] = {}
        self._changed: set[int] = set()

    @property
    def total(self) -> int:
        return len(self._references)

    @property
    def num_free(self) -> int:
        return len(self._empty) + len(self._cached)

    @property
    def counts(self) -> BlockCounts:
        return BlockCounts(
            total=self.total, used=self.total - self.num_free, free=self.num_free, cached=len(self._cached)
        )

    # --- tables ---

    def allocate(self, count: int) -> list[int]:
        """Take `count` free blocks, each held once. The caller has checked `num_free`."""
        if count > self.num_free:
            raise ValueError(f"{count} blocks asked for, but only {self.num_free} are free")
        taken = [self._empty.popleft() if self._empty else self._evict() for _ in range(count)]
        for block in taken:
            self._references[block] = 1
        self._changed.update(taken)
        return taken

    def share(self, blocks: Iterable[int]) -> None:
        """Another block table holds these blocks too; a free one among them has content."""
        for block in blocks:
            if self._references[block] == 0:
                if block not in self._cached:
                    raise ValueError(f"block {block} is free and empty, and can't be shared")
                del self._cached[block]
            self._references[block] += 1
            self._changed.add(block)

    def release(self, blocks: Sequence[int]) -> None:
        """One block table lets go of these blocks; those that nobody else holds become free.

        The end of the table goes first: a prefix should outlive what follows it.
        """
        for block in reversed(blocks):
            if self._references[block] == 0:
                raise ValueError(f"block {block} is already free")
            self._references[block] -= 1
            self._changed.add(block)
            if self._references[block] == 0:
                if block in self._contents:
                    self._cached[block] = None
                else:
                    self._empty.append(block)

    def references(self, block: int) -> int:
        """How many block tables hold this block."""
        return self._references[block]

    # --- contents ---

    def publish(self, block: int, content: Content) -> None:
        """A block that is held has become full. Where another one has the same content, that stays the one to find."""
        if self._references[block] == 0:
            raise ValueError(f"block {block} is free: nobody can have filled it")
        if content.name not in self._by_name and block not in self._contents:
            self._by_name[content.name] = block
            self._contents[block] = content
            self._changed.add(block)

    def find(self, content: Content) -> int | None:
        """The block with this content. A hash proves nothing, so tokens and parent are compared as well."""
        block = self._by_name.get(content.name)
        return block if block is not None and self._contents[block] == content else None

    def content(self, block: int) -> Content | None:
        """What can be found in a block; None if it is empty, not full, or the twin of another."""
        return self._contents.get(block)

    def forget(self) -> None:
        """Nothing in any block can be reused any more. Tables keep what they hold."""
        self._changed.update(self._contents)
        self._contents.clear()
        self._by_name.clear()
        self._empty.extend(self._cached)
        self._cached.clear()

    def changes(self) -> list[int]:
        """Blocks that were taken, shared, let go of, filled or emptied since the last call, in order."""
        changed, self._changed = sorted(self._changed), set()
        return changed

    def _evict(self) -> int:
        block = next(iter(self._cached))
        del self._cached[block]
        del self._by_name[self._contents.pop(block).name]
        return block

    def check(self, tables: Iterable[Sequence[int]]) -> None:
        """Raise AssertionError unless the counts are exactly what these block tables hold."""
        held = Counter(block for table in tables for block in table)
        free = {*self._empty, *self._cached}
        assert len(free) == self.num_free, "a block is in the free lists twice"
        for block, references in enumerate(self._references):
            assert references == held[block], f"block {block}: {references} references, {held[block]} holders"
            assert (block in free) == (references == 0), f"block {block} is both free and held, or neither"
        assert set(self._cached) == free & self._contents.keys(), "a free block lost its content"
        assert all(self._contents[block].name == name for name, block in self._by_name.items()), "a wrong name"
        assert len(self._by_name) == len(self._contents), "a content can't be found"
