"""Attention over a paged cache by the launches of a step: the plans, and the arrays that they are given."""

import mlx.core as mx
import numpy as np

from inference.ops.kv_store import arrays_of, to_groups
from inference.ops.paged import RaggedLayout
from metal_kernels._native import MetalLaunches
from metal_kernels.emulator import Output
from tests.metal_kernels.metal.device import NOTHING, TYPES, given, held, launch, random, room
from tests.metal_kernels.metal.wiring import take_rows

KEPT = {"float": 0, "int8": 8, "int4": 4}


def layout(query_lens, context_lens, block_size, blocks, seed=0):
    """Sequences on blocks in disorder."""
    free = np.random.default_rng(seed).permutation(blocks).tolist()
    counts = [-(-context // block_size) for context in context_lens]
    assert sum(counts) <= blocks
    tables = [[free.pop() for _ in range(count)] for count in counts]
    return RaggedLayout.build(query_lens, context_lens, tables, block_size)


def store(seed, shape, type_name, kept):
    elements = random(seed, shape, TYPES[type_name])
    return elements if kept == "float" else to_groups(elements, KEPT[kept])


def plans(type_name, kept, heads, shape, step, gap=0):
    """Of a pool [N, P, H, D], for queries that have a gap of so many numbers behind each token's."""
    _, block_size, kv_heads, size = shape
    return MetalLaunches.attention(
        type_name,
        kept,
        heads,
        kv_heads,
        size,
        block_size,
        step.tables.shape[1],
        heads * size + gap,
        size**-0.5,
        list(step.query_lens),
        list(step.context_lens),
    )


def attend(plan, type_name, q, keys, values, step, out):
    """`out` [T, H_q, D] with the rows of the plan's sequences in it. q may have gaps: the plan knows them."""
    kv_heads, size = keys.shape[2:]
    stores = [[held(part) for part in arrays_of(each)] for each in (keys, values)]
    pools = [array for parts in stores for array in (parts if len(parts) == 3 else [*parts, NOTHING, NOTHING])]
    tiles = np.array(plan.tiles, np.int32)
    starts = np.concatenate([[0], np.cumsum(step.query_lens)]).astype(np.int32)
    where = [tiles, starts, np.array(step.context_lens, np.int32)]
    inputs = [held(q), *pools, *where, np.ascontiguousarray(step.tables)]
    own = Output(out.shape, out.dtype, partial=True)
    if plan.splits == 1:
        parts = [NOTHING] if plan.decodes else []
        (found,) = launch(plan.attend, [*inputs, own, *parts])
        return _with_rows(out, found, tiles, starts)
    shape = (len(tiles), kv_heads, plan.rows, plan.splits)
    mixed, parts = launch(plan.attend, [*inputs, room((*shape, size), mx.float32), room((*shape, 2), mx.float32)])
    (found,) = launch(plan.merge, [mixed, parts, *where, own])
    return _with_rows(out, found, tiles, starts)


def _with_rows(out, found, tiles, starts):
    changed, bits = out.copy(), f"u{out.itemsize}"
    take_rows(changed.view(bits), found.view(bits), tiles, starts)
    return changed


def paged_attention(type_name, kept, q, keys, values, step, gap=0):
    """[T, H_q, D], and the plans it was computed by. What is in the gaps behind queries must not matter."""
    found = plans(type_name, kept, q.shape[1], keys.shape, step, gap)
    # No number of q's type: a row that is not written can't pass for one.
    out = np.full_like(held(q), np.nan) if type_name != "bf16" else np.full(q.shape, 0x7FC0, np.uint16)
    rows = q.reshape(q.shape[0], -1)
    rows = mx.concatenate([rows, mx.full((q.shape[0], gap), mx.nan, q.dtype)], axis=1) if gap else rows
    for plan in found:
        out = attend(plan, type_name, rows, keys, values, step, out)
    return given(out, TYPES[type_name]), found
