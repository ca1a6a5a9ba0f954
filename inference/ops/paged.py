"""One step's tokens as a ragged batch, and the block pool that their keys and values live in.

The KV cache is cut into blocks of P tokens, and a sequence owns any blocks in any order: its block table lists them
(Kwon et al. 2023, "Efficient memory management for large language model serving with PagedAttention").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from inference.ops.kv_store import KVFormat, KVStore, arrays_of

if TYPE_CHECKING:
    from metal_kernels._native import Layout as NativeLayout

SHORT_QUERY = 16
"""Up to this query length, sequences with different contexts are worth gathering together under a mask."""


@dataclass(frozen=True)
class AttentionGroup:
    """Sequences of a step whose attention is computed in one go: b of them, with L queries each.

    `mask` is None (every query sees all keys), "causal" (aligned at the end), or booleans [b, 1, L, S], true where a
    query sees a key. Every query sees at least its own key.
    """

    rows: mx.array
    """[b * L] int32: the tokens of the flattened batch that are in this group, sequence after sequence."""
    tables: mx.array
    """[b, ceil(S / P)] int32: the blocks to gather; a short row is padded with a block of the same sequence."""
    query_len: int
    context_len: int
    """S: the keys of the longest sequence."""
    mask: mx.array | str | None


@dataclass(frozen=True)
class RaggedLayout:
    """Where each of a step's T tokens stands: B sequences one after another, without padding."""

    query_lens: tuple[int, ...]
    """Tokens of each sequence in this step; their sum is T."""
    context_lens: tuple[int, ...]
    """Tokens of each sequence that are in the cache once this step's are written."""
    tables: np.ndarray
    """[B, most blocks of a sequence] int32, rows padded with 0."""
    block_size: int

    @classmethod
    def build(
        cls,
        query_lens: Sequence[int],
        context_lens: Sequence[int],
        block_tables: Sequence[Sequence[int]],
        block_size: int,
    ) -> RaggedLayout:
        """Lay out a step. Tables may be longer than the context needs, never shorter.

        Raises ValueError for what no step may be: no sequence, a sequence without queries, more queries than context,
        a table that does not cover the context or holds a negative block.
        """
        if not (len(query_lens) == len(context_lens) == len(block_tables) > 0):
            counts = f"{len(query_lens)} query lengths, {len(context_lens)} contexts, {len(block_tables)} tables"
            raise ValueError(f"a step needs as many of each and at least one sequence, got {counts}")
        for query_len, context_len, table in zip(query_lens, context_lens, block_tables, strict=True):
            if not 1 <= query_len <= context_len:
                raise ValueError(f"query length {query_len} is not between 1 and the context length {context_len}")
            if len(table) * block_size < context_len:
                raise ValueError(f"{len(table)} blocks of {block_size} tokens do not hold {context_len} tokens")
            if min(table) < 0:
                raise ValueError(f"block table {list(table)} has a negative block")
        tables = np.zeros((len(block_tables), max(map(len, block_tables))), np.int32)
        for row, table in zip(tables, block_tables, strict=True):
            row[: len(table)] = table
        return cls(tuple(query_lens), tuple(context_lens), tables, block_size)

    @property
    def num_tokens(self) -> int:
        """T."""
        return sum(self.query_lens)

    @cached_property
    def _positions(self) -> np.ndarray:
        lens = np.array(self.query_lens)
        starts = np.cumsum(lens) - lens
        before = np.array(self.context_lens) - lens
        positions: np.ndarray = np.arange(lens.sum()) - np.repeat(starts, lens) + np.repeat(before, lens)
        return positions

    # Our own kernels need none of these arrays, so they are made when they are asked for.

    @cached_property
    def positions(self) -> mx.array:
        """[T] int32: query i of a sequence stands at `context_len - query_len + i`."""
        return mx.array(self._positions.astype(np.int32))

    @cached_property
    def slots(self) -> mx.array:
        """[T] int32: `block * P + offset`, where the token's key and value go."""
        sequence = np.repeat(np.arange(len(self.query_lens)), self.query_lens)
        blocks = self.tables[sequence, self._positions // self.block_size]
        return mx.array((blocks * self.block_size + self._positions % self.block_size).astype(np.int32))

    @cached_property
    def last_rows(self) -> tuple[int, ...]:
        """[B]: the row of each sequence's last token in the flattened batch."""
        return tuple(int(end) - 1 for end in np.cumsum(self.query_lens))

    @cached_property
    def slot_indices(self) -> tuple[mx.array, mx.array]:
        """`slots` as block [T] and offset [T]."""
        return self.slots // self.block_size, self.slots % self.block_size

    @cached_property
    def native(self) -> NativeLayout:
        """The same for our own kernels, checked."""
        from metal_kernels import _native

        tables: list[int] = self.tables.reshape(-1).tolist()
        return _native.Layout(self.query_lens, self.context_lens, tables, self.tables.shape[1], self.block_size)

    @cached_property
    def groups(self) -> tuple[AttentionGroup, ...]:
        """The sequences in groups for attention; computed once and used by every layer.

        Decodes, and other short queries, go together if the longest of them has less than twice the blocks of the
        shortest, so that padding at most doubles the keys read. Longer queries (chunks of prompts) go together only if
        their lengths and contexts are equal, and then need no mask but the causal one.
        """
        members: dict[tuple[int, int], list[int]] = {}
        for i, (query_len, context_len) in enumerate(zip(self.query_lens, self.context_lens, strict=True)):
            short = query_len <= SHORT_QUERY
            alike = self._blocks(context_len).bit_length() if short else context_len
            members.setdefault((query_len, alike), []).append(i)
        starts = np.cumsum(self.query_lens) - np.array(self.query_lens)
        return tuple(
            self._group(np.array(sequences), query_len, starts) for (query_len, _), sequences in members.items()
        )

    def _group(self, sequences: np.ndarray, query_len: int, starts: np.ndarray) -> AttentionGroup:
        contexts = np.array(self.context_lens)[sequences]
        longest = int(contexts.max())
        used = np.array([self._blocks(int(c)) for c in contexts])
        index = np.minimum(np.arange(self._blocks(longest)), used[:, None] - 1)
        mask: mx.array | str | None = "causal" if query_len > 1 else None
        if contexts.min() < longest:
            last_seen = contexts[:, None] - query_len + np.arange(query_len)
            mask = mx.array(np.arange(longest) <= last_seen[:, None, :, None])
        return AttentionGroup(
            rows=mx.array((starts[sequences][:, None] + np.arange(query_len)).reshape(-1).astype(np.int32)),
            tables=mx.array(self.tables[sequences[:, None], index]),
            query_len=query_len,
            context_len=longest,
            mask=mask,
        )

    @cached_property
    def ungroup(self) -> mx.array | None:
        """[T] int32: where each token is once the groups' tokens stand one after another; None if nowhere else."""
        order = np.concatenate([np.array(group.rows) for group in self.groups])
        if np.array_equal(order, np.arange(len(order))):
            return None
        return mx.array(np.argsort(order).astype(np.int32))

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.block_size)


@dataclass(frozen=True)
class PagedKV:
    """The pool: for each layer, keys and values of N blocks, [N, P, H, D].

    A write by MLX's operations replaces the layer's arrays by updated ones, which it does in place so long as nothing
    else holds the old ones: take no second reference to them across a step. Our own whole layers, and our own writes of
    integers, leave the arrays what they are and write in place whoever else holds them.
    """

    keys: list[KVStore]
    values: list[KVStore]

    @classmethod
    def allocate(
        cls, num_layers: int, num_blocks: int, block_size: int, num_kv_heads: int, head_size: int, kept: KVFormat
    ) -> PagedKV:
        """A pool of zeros, allocated at once. A masked key is read and multiplied by 0, so it must be finite."""
        shape = (num_blocks, block_size, num_kv_heads, head_size)
        kv = cls(
            [kept.allocate(shape) for _ in range(num_layers)],
            [kept.allocate(shape) for _ in range(num_layers)],
        )
        mx.eval(kv.arrays)
        return kv

    @property
    def arrays(self) -> list[mx.array]:
        """Every array of the pool: evaluate these, too, after a step that samples nothing."""
        return [array for store in (*self.keys, *self.values) for array in arrays_of(store)]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)
