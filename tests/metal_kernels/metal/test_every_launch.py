"""Every kernel with every set of function constants that the launch table can ask for, each against the reference.

A kernel with other constants is another program: a bias, a gather and a split change what is read and written. What
the constants are is left to the table: it is asked with shapes of every kind, and the first shape of each (kernel,
constants) is run.
"""

import itertools
from functools import cache

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.ops import reference
from inference.ops.weights import QuantizedWeight
from metal_kernels._native import MetalLaunches
from tests.metal_kernels.metal.attention import KEPT, layout, paged_attention, plans, store
from tests.metal_kernels.metal.device import NOTHING, TYPES, assert_close, held, launch, random, room
from tests.metal_kernels.metal.device import given as as_array
from tests.metal_kernels.metal.test_quantized import multiply

pytestmark = pytest.mark.usefixtures("place")

HEADS = ((1, 1), (2, 1), (4, 1))
SIZES = (64, 80, 96, 128)
FORMATS = [(kept, size) for kept in KEPT for size in SIZES if kept == "float" or size % 32 == 0]


def _key(launch):
    """What is compiled for a launch. A pool's block size may be any: it is no other program."""
    constants = launch.constants
    if launch.file.startswith("attention"):
        constants = {index: value for index, value in constants.items() if index != 0}
    return launch.kernel, tuple(sorted(constants.items()))


def _first_of_each(shapes, launches):
    """By what is compiled, the first shape that asks for it."""
    found = {}
    for shape in shapes:
        for each in launches(*shape):
            found.setdefault(_key(each), shape)
    return found


# ---- products with quantized matrices

KINDS = ((False, False), (True, False), (False, True))
"""Whether there is a bias, and whether rows are gathered."""


def _quantized(*shape):
    plan = MetalLaunches.quantized(*shape)
    return [plan.multiply, plan.sum] if plan.sum else [plan.multiply]


@cache
def _products(type_name, bits, group):
    """Shapes as the table takes them: with a bias, with a gather, or neither; nobody asks for both. A split of few rows
    has unlike parts, one of many begins within a group; so many outputs and rows that large tiles are taken."""
    few, many = (640, 2176), (128, {32: 544, 64: 576, 128: 640}[group])
    shapes = itertools.chain(
        itertools.product((1, 2, 3, 5), (13,), few, KINDS),
        itertools.product((37,), (40,), many, KINDS),
        itertools.product((65,), (64 * 47 + 5,), (128,), KINDS),
    )
    return _first_of_each([(type_name, bits, group, *shape, *kind) for *shape, kind in shapes], _quantized)


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [32, 64, 128])
def test_products(type_name, bits, group):
    for shape in dict.fromkeys(_products(type_name, bits, group).values()):
        _, _, _, rows, outputs, inputs, bias, gather = shape
        dtype = TYPES[type_name]
        count = 3 if gather else 1
        dense = random(1, (count * outputs, inputs), dtype) * inputs**-0.5
        own = random(2, (outputs,), dtype) if bias else None
        whole = QuantizedWeight(*mx.quantize(dense, group_size=group, bits=bits), bits, group, own)
        x, gathered = random(3, (rows, inputs), dtype), ()
        truth = reference.linear(x, whole)
        if gather:
            rng = np.random.default_rng(4)
            experts = np.sort(rng.choice([0, 2], rows)).astype(np.uint32)
            sources = rng.integers(0, rows, rows).astype(np.uint32)
            gathered = (experts, sources, rows)
            truth = truth.reshape(rows, count, outputs)[mx.array(sources), mx.array(experts)]
        # Two of many tiles side by side show as much as all; how the last ends is another test's.
        across = 2 if outputs > 1000 else None
        found, _ = multiply(type_name, whole, x, outputs, *gathered, across=across)
        seen = outputs if across is None else 64 * across
        assert_close(found[:, :seen], truth[:, :seen])


# ---- attention


def _attention(type_name, kept, heads, kv_heads, size, query_lens, context_lens):
    step = layout(query_lens, context_lens, 16, 64)
    found = plans(type_name, kept, heads, (64, 16, kv_heads, size), step)
    return [each for plan in found for each in (plan.attend, plan.merge) if each]


@cache
def _attentions(type_name, kept, size):
    """Decodes of one, two and more rows to a key head, whole and shared out, and a chunk."""
    decodes = itertools.product(HEADS, [((1, 1), (37, 20)), ((1, 1), (300, 1))])
    shapes = [(type_name, kept, *heads, size, *lens) for heads, lens in [*decodes, ((2, 1), ((20,), (20,)))]]
    return _first_of_each(shapes, _attention)


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize(("kept", "size"), FORMATS)
def test_attention(type_name, kept, size):
    for _, _, heads, kv_heads, _, *lens in dict.fromkeys(_attentions(type_name, kept, size).values()):
        step = layout(*lens, 16, 24)
        shape = (24, 16, kv_heads, size)
        keys, values = store(1, shape, type_name, kept), store(2, shape, type_name, kept)
        q = random(3, (step.num_tokens, heads, size), TYPES[type_name])
        found, _ = paged_attention(type_name, kept, q, keys, values, step)
        assert_close(found, reference.paged_attention(q, keys, values, step, size**-0.5))


# ---- norms, and choices among logits


@cache
def _norms(type_name):
    shapes = itertools.product((64, 4100, 8200, 16384), (False, True))
    return _first_of_each(
        [(type_name, 1, width, width, 1e-6, add) for width, add in shapes], lambda *s: [MetalLaunches.rms_norm(*s)]
    )


@pytest.mark.parametrize("type_name", TYPES)
def test_norms(type_name):
    dtype = TYPES[type_name]
    for shape in _norms(type_name).values():
        _, _, width, _, eps, add = shape
        x, added, weight = (random(seed, (1, width), dtype) for seed in range(3))
        outputs = [room((1, width), dtype), room((1, width), dtype) if add else NOTHING]
        found = launch(
            MetalLaunches.rms_norm(*shape), [held(x), held(added) if add else NOTHING, held(weight), *outputs]
        )
        truth = reference.rms_norm(x + added if add else x, weight[0], eps)
        assert_close(as_array(found[0], dtype), truth)


@cache
def _sorts():
    counts = [1, *(2**power for power in range(1, 11))]
    return _first_of_each([(1, count + 5, count) for count in counts], lambda *s: [MetalLaunches.largest(*s)])


def test_sorts():
    for _, width, count in _sorts().values():
        x = random(1, (1, width), mx.float32)
        (ids,) = launch(MetalLaunches.largest(1, width, count), [held(x), room((1, count), mx.uint32)])
        np.testing.assert_array_equal(ids, np.array(reference.largest(x, count)))


# ---- and there is no other

widths = st.integers(1, 64).map(lambda n: 128 * n)
types = st.sampled_from(sorted(TYPES))


@settings(max_examples=300)
@given(types, st.sampled_from((4, 8)), st.sampled_from((32, 64, 128)), st.data())
def test_no_product_is_any_other(type_name, bits, group, data):
    rows, outputs = data.draw(st.integers(1, 2000)), data.draw(st.integers(1, 20000))
    shape = (rows, outputs, data.draw(widths), *data.draw(st.sampled_from(KINDS)))
    keys = {_key(each) for each in _quantized(type_name, bits, group, *shape)}
    assert keys <= _products(type_name, bits, group).keys()


@settings(max_examples=300)
@given(types, st.sampled_from(FORMATS), st.data())
def test_no_attention_is_any_other(type_name, kept_and_size, data):
    kept, size = kept_and_size
    kv_heads = data.draw(st.integers(1, 8))
    heads = kv_heads * data.draw(st.integers(1, 40))
    pairs = data.draw(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9000)), min_size=1, max_size=5))
    queries, contexts = [query for query, _ in pairs], [query + before for query, before in pairs]
    found = MetalLaunches.attention(
        type_name, kept, heads, kv_heads, size, 16, 600, heads * size, 1.0, queries, contexts
    )
    keys = {_key(each) for plan in found for each in (plan.attend, plan.merge) if each}
    assert keys <= _attentions(type_name, kept, size).keys()


@given(types, st.integers(1, 4096), st.booleans(), st.integers(1, 1024))
def test_no_norm_and_no_sort_is_any_other(type_name, fours, add, count):
    assert _key(MetalLaunches.rms_norm(type_name, 3, 4 * fours, 4 * fours, 1e-6, add)) in _norms(type_name)
    assert _key(MetalLaunches.largest(1, 2000, count)) in _sorts()
