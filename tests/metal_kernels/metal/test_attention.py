"""Attention of chunks of prompts and of decodes, alone and in one batch, over every format of the cache."""

import mlx.core as mx
import numpy as np
import pytest

from inference.ops import reference
from inference.ops.paged import RaggedLayout
from tests.metal_kernels.metal.attention import KEPT, attend, layout, paged_attention, plans, store
from tests.metal_kernels.metal.device import TYPES, assert_close, given, random

pytestmark = pytest.mark.usefixtures("place")

FORMATS = [("float", size) for size in (64, 80, 96, 128)] + [
    (kept, size) for kept in ("int8", "int4") for size in (64, 96, 128)
]


def _compare(type_name, kept, heads, kv_heads, size, step, blocks, gap=0):
    shape = (blocks, step.block_size, kv_heads, size)
    keys, values = store(1, shape, type_name, kept), store(2, shape, type_name, kept)
    q = random(3, (step.num_tokens, heads, size), TYPES[type_name])
    found, used = paged_attention(type_name, kept, q, keys, values, step, gap)
    assert_close(found, reference.paged_attention(q, keys, values, step, size**-0.5))
    return used


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize(("kept", "size"), FORMATS)
def test_chunks_of_prompts(type_name, kept, size):
    """Whole prompts and later chunks; tiles that end within a sequence, and blocks within a tile of keys."""
    step = layout((21, 13), (21, 40), 8, 12)
    (plan,) = _compare(type_name, kept, 6, 2, size, step, 12)
    assert not plan.decodes


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize(("kept", "size"), FORMATS)
@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (4, 2), (7, 1)])
def test_decodes(type_name, kept, size, heads, kv_heads):
    step = layout((1, 1, 1), (37, 1, 16), 16, 8)
    (plan,) = _compare(type_name, kept, heads, kv_heads, size, step, 8)
    assert plan.decodes
    assert plan.splits == 1


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize(("kept", "size"), FORMATS)
def test_long_contexts_are_shared_out(type_name, kept, size):
    """Of the second sequence most parts are empty, and so are whole simdgroups of the last part of the first."""
    step = layout((1, 2), (516, 70), 16, 40)
    (plan,) = _compare(type_name, kept, 4, 2, size, step, 40)
    assert plan.decodes
    assert plan.splits == 3


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("kept", KEPT)
def test_a_chunk_behind_a_long_prefix(type_name, kept):
    """Its rows see a dozen tiles of keys and more, the last of them in part."""
    step = layout((9, 7), (391, 9), 16, 26)
    (plan,) = _compare(type_name, kept, 4, 1, 64, step, 26)
    assert not plan.decodes


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("kept", KEPT)
def test_a_ragged_batch(type_name, kept):
    """Decodes, drafts to check, a chunk and a prompt: two launches, each for its own rows of one output."""
    step = layout((1, 3, 18, 30, 1), (70, 33, 50, 30, 5), 16, 20)
    used = _compare(type_name, kept, 4, 2, 64, step, 20)
    assert [plan.decodes for plan in used] == [True, False]


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("context", [40, 300])
def test_queries_with_gaps_between_tokens(type_name, kept, context):
    """As they stand beside keys and values: decodes, merged or not, and a chunk."""
    step = layout((1, 18), (context, 20), 16, 21)
    used = _compare(type_name, kept, 2, 1, 64, step, 21, gap=128)
    assert [(plan.decodes, plan.splits > 1) for plan in used] == [(True, context > 256), (False, False)]


@pytest.mark.parametrize("block_size", [1, 12, 32])
def test_block_sizes(block_size):
    step = layout((1, 20), (41, 25), block_size, 80)
    _compare("f16", "float", 2, 1, 64, step, 80)


def test_one_token_of_many_shared_heads_is_a_decode():
    step = layout((1,), (20,), 16, 2)
    (plan,) = _compare("f32", "float", 24, 1, 64, step, 2)
    assert plan.decodes
    assert len(plan.tiles) == 6


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("tokens", [1, 20])
def test_a_row_that_sees_no_key_is_zero(type_name, tokens):
    """No step has one; a kernel that made a NaN of it could spread it."""
    step = RaggedLayout((tokens,), (0,), np.zeros((1, 1), np.int32), 16)
    shape = (1, 16, 1, 64)
    keys = store(1, shape, type_name, "float")
    q = random(3, (tokens, 1, 64), TYPES[type_name])
    (plan,) = plans(type_name, "float", 1, shape, step)
    assert plan.decodes == (tokens == 1)
    out = np.ones((tokens, 1, 64), np.uint16 if type_name == "bf16" else np.array(mx.zeros(0, TYPES[type_name])).dtype)
    out = given(attend(plan, type_name, q, keys, keys, step, out), TYPES[type_name])
    assert mx.all(out == 0).item()


@pytest.mark.parametrize("tokens", [1, 20])
def test_what_is_not_a_number_stays_in_its_sequence(tokens):
    """Keys and values of no sequence of the step, and those behind a context's end, may be anything."""
    step = layout((tokens, tokens), (41, 41), 16, 8)
    shape = (8, 16, 1, 64)
    keys, values = (np.array(random(seed, shape, mx.float32)) for seed in (1, 2))
    q = random(3, (2 * tokens, 2, 64), mx.float32)
    truth = reference.paged_attention(q, mx.array(keys), mx.array(values), step, 64**-0.5)
    for pool in (keys, values):
        for block in set(range(8)) - set(step.tables.reshape(-1).tolist()):
            pool[block] = np.nan
        for table in step.tables:
            pool[table[-1], 41 % 16 :] = np.inf
    found, _ = paged_attention("f32", "float", q, mx.array(keys), mx.array(values), step)
    assert_close(found, truth)
