"""The operations of MLX's graph that launch the kernels: which they launch, and with which arrays."""

import math

import mlx.core as mx
import numpy as np
import pytest

from inference.ops import native, reference
from inference.ops.draws import Draw
from inference.ops.experts import StackedExperts, pack_experts
from inference.ops.kv_store import GroupedStore, to_groups
from inference.ops.noise import draw_key
from inference.ops.paged import PagedKV
from inference.ops.table import arranged_experts
from inference.ops.weights import DenseWeight, QuantizedWeight
from metal_kernels import _native
from metal_kernels._native import MetalLaunches
from tests.metal_kernels.metal.attention import KEPT, layout, store
from tests.metal_kernels.metal.device import TYPES, assert_close, random
from tests.metal_kernels.metal.test_quantized import quantized_weight


def _linear(x, weight):
    matrix = (weight.packed, weight.scales, weight.biases, weight.bits, weight.group_size)
    return _native.quantized_linear(x, *matrix, weight.bias)


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize(("shape", "bias"), [((1, 256), True), ((3, 5, 256), False), ((2, 4096), True)])
def test_linear(gpu, type_name, shape, bias):
    weight = quantized_weight(type_name, 4, 64, 40, shape[-1], bias)
    x = random(1, shape, TYPES[type_name])
    assert_close(_linear(x, weight), reference.linear(x, weight))
    assert ("split_sum_" + type_name in gpu.kernels) == (shape[-1] == 4096)


def test_linear_takes_what_has_gaps(gpu):
    weight = quantized_weight("f32", 8, 32, 24, 64)
    x = random(1, (6, 128), mx.float32)[::2, 32:96]
    assert_close(_linear(x, weight), reference.linear(x, weight))


def _experts(type_name, bits, count, outputs, inputs):
    dense = random(1, (count * outputs, inputs), TYPES[type_name]) * inputs**-0.5
    return StackedExperts(QuantizedWeight(*mx.quantize(dense, 32, bits), bits, 32), count)


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("tokens", "kernel"), [(1, "matvec"), (4, "matvec"), (5, "matmul"), (40, "matmul")])
def test_rows_go_to_the_matrices_of_their_experts(gpu, type_name, bits, tokens, kernel):
    """In any order and with one that nobody chose; many rows are put in the order of their experts, and back."""
    experts = _experts(type_name, bits, 5, 20, 64)
    ids = np.random.default_rng(tokens).choice([0, 1, 2, 4], (tokens, 2))
    x, chosen = random(2, (tokens, 64), TYPES[type_name]), mx.array(ids)
    assert_close(native.expert_linear(x, experts, chosen), reference.expert_linear(x, experts, chosen))
    assert any(name.startswith(f"quantized_{kernel}_{type_name}_b{bits}") for name in gpu.kernels)


def test_experts_are_packed_for_the_cpu_alone(gpu):
    experts, x, chosen = _experts("f32", 4, 2, 24, 64), random(1, (2, 64), mx.float32), mx.array([[1], [0]])
    assert isinstance(arranged_experts(pack_experts(experts), "native"), StackedExperts)
    # Some that still are packed are no reason to fail, nor are floats.
    floats = StackedExperts(DenseWeight(random(3, (48, 64), mx.float32)), 2)
    for each in (pack_experts(experts), floats):
        found, truth = native.expert_linear(x, each, chosen), reference.expert_linear(x, each, chosen)
        assert mx.allclose(found, truth, atol=1e-4)


@pytest.mark.parametrize("type_name", TYPES)
def test_rows(gpu, type_name):
    dtype = TYPES[type_name]
    x, weight, positions = random(1, (3, 128), dtype), random(2, (128,), dtype), mx.array([5, 0, 700])
    assert_close(native.rms_norm(x, weight, 1e-6), reference.rms_norm(x, weight, 1e-6))
    out, total = native.add_rms_norm(x, x[::-1], weight, 1e-6)
    assert mx.array_equal(total, x + x[::-1])
    assert_close(out, reference.rms_norm(x + x[::-1], weight, 1e-6))
    heads = x.reshape(3, 2, 64)
    assert_close(native.rope(heads, positions, 1e4), reference.rope(heads, positions, 1e4))
    assert_close(native.silu_mul(x[:, :64], x[:, 64:]), reference.silu_mul(x[:, :64], x[:, 64:]))
    assert {name for name in gpu.kernels if not name.startswith("gather")} == {
        f"{kernel}_{type_name}" for kernel in ("rms_norm", "rope", "swiglu")
    }


def test_slices_of_wider_rows_are_read_as_they_lie(gpu):
    """As queries, keys and values stand side by side, and gate and up."""
    wide, weight = random(1, (5, 256), mx.float16), random(2, (64,), mx.float16)
    at = mx.arange(5)
    heads = wide[:, 64:192].reshape(5, 2, 64)
    assert_close(native.rope(heads, at, 1e4), reference.rope(heads, at, 1e4))
    assert_close(native.silu_mul(wide[:, :128], wide[:, 128:]), reference.silu_mul(wide[:, :128], wide[:, 128:]))
    assert_close(native.rms_norm(wide[:, 128:192], weight, 1e-6), reference.rms_norm(wide[:, 128:192], weight, 1e-6))
    assert set(gpu.kernels) == {"rope_f16", "swiglu_f16", "rms_norm_f16"}


@pytest.mark.parametrize("type_name", TYPES)
def test_other_gaps_are_closed_first(gpu, type_name):
    """Columns for rows, every second row backwards, and rows that begin where no vector can be loaded."""
    dtype = TYPES[type_name]
    square, weight = random(1, (68, 68), dtype), random(2, (64,), dtype)
    for x in (square[:64, :64].T[:7], square[8::-2, :64], square[:3, 1:65], square.reshape(-1)[2:66].reshape(1, 64)):
        copies = gpu.kernels.total()
        assert_close(native.rms_norm(x, weight, 1e-6), reference.rms_norm(x, weight, 1e-6))
        assert gpu.kernels.total() == copies + 2
    q = random(3, (68, 3, 64), dtype)[1::2].swapaxes(0, 1)[:1]
    step = layout((1,), (5,), 16, 1)
    pool = random(4, (1, 16, 2, 64), dtype)
    assert_close(native.paged_attention(q, pool, pool, step, 1.0), reference.paged_attention(q, pool, pool, step, 1.0))
    assert gpu.kernels["gather_2" if dtype.size == 2 else "gather_4"] == 5


def test_ids(gpu):
    x = random(1, (3, 1000), mx.float32)
    assert mx.array_equal(native.largest(x, 40), reference.largest(x, 40))
    x[1, 5] = mx.nan
    assert native.greedy(x).tolist() == [mx.argmax(x[0]).item(), 1000, mx.argmax(x[2]).item()]


DRAWS = {
    "of all": Draw(draw_key(1, 5), 0.7),
    "of the top": Draw(draw_key(2, 0), 1.3, top_k=20),
    "of as many": Draw(draw_key(3, 9), 2.0, top_k=20),
    "of more than there are": Draw(draw_key(4, 1), 1.0, top_k=900),
    "cold": Draw(draw_key(5, 1), 1e-38, top_k=3),
    "of the likely": Draw(draw_key(6, 1), 0.9, min_p=0.1),
    "of a share": Draw(draw_key(7, 1), 0.9, top_k=20, top_p=0.7),
}


def test_draws(gpu):
    """Each row the reference's id, alone or beside others; by the kernel where nothing but top-k cuts it down."""
    x = random(1, (len(DRAWS), 700), mx.float32) * 3
    together = native.draw(x, list(DRAWS.values()))
    assert mx.array_equal(together, reference.draw(x, list(DRAWS.values())))
    for row, (name, each) in enumerate(DRAWS.items()):
        gpu.kernels.clear()
        assert native.draw(x[row : row + 1], [each]).item() == together[row].item()
        assert gpu.kernels["argmax_f32"] == (name not in ("of the likely", "of a share"))
        assert gpu.kernels["largest_f32"] == (0 < each.top_k < 700)


@pytest.mark.parametrize("top_k", [0, 5])
@pytest.mark.parametrize("wrong", [mx.nan, -mx.nan, mx.inf])
def test_nothing_is_drawn_from_what_is_no_numbers(gpu, top_k, wrong):
    x = random(1, (2, 300), mx.float32)
    x[0, 7] = wrong
    draws = [Draw(draw_key(1, row), 1.0, top_k=top_k) for row in range(2)]
    assert mx.array_equal(native.draw(x, draws), reference.draw(x, draws))
    assert native.draw(x, draws)[0].item() == 300


WRONG_DRAWS = {
    "keys": lambda x: _native.gpu_draw(x, None, mx.zeros((2, 2)), mx.ones(2)),
    "temperatures": lambda x: _native.gpu_draw(x, None, mx.zeros((2, 2), mx.uint32), mx.ones(3)),
    "candidates": lambda x: _native.gpu_draw(x, mx.zeros((1, 5), mx.uint32), mx.zeros((2, 2), mx.uint32), mx.ones(2)),
}


@pytest.mark.parametrize("said", WRONG_DRAWS)
def test_draws_of_other_shapes_are_refused(gpu, said):
    with pytest.raises(ValueError, match=said):
        WRONG_DRAWS[said](mx.zeros((2, 9)))


@pytest.mark.skipif(mx.metal.is_available(), reason="here Metal itself would run them")
def test_an_operation_that_fails_is_named(gpu):
    """So that others can compute it: see proof.refuse."""
    x, weight = random(1, (2, 64), mx.float32), mx.ones(64)
    step = layout((1, 1), (1, 1), 8, 2)
    pool = mx.zeros((2, 8, 1, 64))
    heads = x.reshape(2, 1, 64)
    lazy = {
        "linear": native.linear(x, quantized_weight("f32", 4, 32, 8, 64)),
        "rms_norm": native.rms_norm(x, weight, 1e-6),
        "add_rms_norm": native.add_rms_norm(x, x, weight, 1e-6)[0],
        "rope": native.rope(heads, mx.arange(2), 1e4),
        "silu_mul": native.silu_mul(x, x),
        "write_kv": _native.write_kv([pool], heads, step.native),
        "paged_attention": native.paged_attention(heads, pool, pool, step, 1.0),
        "largest": native.largest(x, 5),
        "greedy": native.greedy(x),
        "draw": native.draw(x, [Draw(1, 1.0)] * 2),
    }
    _native.run_launches_by(None)  # and now nothing can launch them
    for operation, result in lazy.items():
        with pytest.raises(RuntimeError, match=r"Metal kernel \w+: .* needs Metal") as caught:
            mx.eval(result)
        assert operation in native.failed_operations(caught.value)
    assert native.failed_operations(RuntimeError("[malloc] Unable to allocate 9 bytes")) == ()
    assert not gpu.kernels


def _attended(query_lens, context_lens, heads=14, kv_heads=2):
    """Names of the kernels and how many threadgroups each has."""
    plans = MetalLaunches.attention(
        "f16", "float", heads, kv_heads, 64, 16, 512, heads * 64, 0.125, query_lens, context_lens
    )
    return {plan.attend.kernel.split("_")[1]: math.prod(plan.attend.groups) for plan in plans}


def test_few_tokens_over_a_long_context_keep_a_gpu_busy():
    """Five tokens of seven heads each, such as drafts to check: as a chunk they were four threadgroups."""
    assert _attended([5], [8000])["decode"] >= 90
    assert _attended([5], [300]) == {"prefill": 4}  # nothing to share out
    assert _attended([12], [8000]) == {"prefill": 6}  # too many rows: the keys would be read over and over
    assert set(_attended([5] * 40, [8000] * 40)) == {"prefill"}  # they are enough
    assert set(_attended([5, 300], [8000, 300])) == {"prefill"}
    assert set(_attended([5, 60], [8000, 60])) == {"decode", "prefill"}


def test_few_tokens_over_a_long_context(gpu):
    step = layout((5, 1, 40), (1100, 30, 60), 16, 80)
    keys, values = (random(seed, (80, 16, 1, 64), mx.float16) for seed in (1, 2))
    q = random(3, (step.num_tokens, 7, 64), mx.float16)
    found = native.paged_attention(q, keys, values, step, 0.125)
    assert_close(found, reference.paged_attention(q, keys, values, step, 0.125))
    kinds = ("decode_f16_float_d64_r4", "merge_f16_d64", "prefill_f16_float_d64")
    assert set(gpu.kernels) == {f"attention_{kind}" for kind in kinds}


def test_layers_of_one_step_and_other_shapes_in_turn(gpu):
    """What a step launches is found once for layers that are alike: never that of others."""
    step = layout((1, 20), (300, 25), 16, 24)
    for heads, kv_heads in ((4, 2), (4, 1), (4, 2), (2, 2)):
        keys, values = (random(seed, (24, 16, kv_heads, 64), mx.float16) for seed in (1, 2))
        wide = random(3, (21, heads + 2, 64), mx.float16)
        for q in (wide[:, :heads], mx.contiguous(wide[:, :heads])):
            found = native.paged_attention(q, keys, values, step, 0.125)
            assert_close(found, reference.paged_attention(q, keys, values, step, 0.125))


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("held", [False, True], ids=["its own", "held by others"])
def test_the_cache_is_written_in_place_and_read(gpu, kept, held):
    step = layout((1, 20, 3), (300, 25, 12), 16, 24)
    shape = (24, 16, 2, 64)
    pools = [PagedKV([store(1, shape, "f16", kept)], [store(2, shape, "f16", kept)]) for _ in range(2)]
    mx.eval([kv.arrays for kv in pools])
    before = pools[0].keys[0]
    others = before if held else None
    if not held:
        del before
    k, v = (random(seed, (step.num_tokens, 2, 64), mx.float16) for seed in (3, 4))
    q = random(5, (step.num_tokens, 4, 64), mx.float16)
    found = []
    for kv, ops in zip(pools, (native, reference), strict=True):
        ops.write_kv(kv, 0, k, v, step)
        found.append(ops.paged_attention(q, kv.keys[0], kv.values[0], step, 0.125))
    assert_close(*found)
    assert {name.rsplit("_", 1)[0] for name in gpu.kernels} >= {f"attention_decode_f16_{kept}_d64"}
    assert f"attention_prefill_f16_{kept}_d64" in gpu.kernels
    assert ("copy_bytes" in gpu.kernels) == (held and kept == "float")
    if held and kept == "float":
        assert mx.array_equal(others, store(1, shape, "f16", kept))


def _attend(size, heads_of):
    pool = mx.zeros((1, 4, 1, size))
    return native.paged_attention(mx.zeros((1, 2, size), heads_of), pool, pool, layout((1,), (1,), 4, 1), 1.0)


WRONG = {
    "multiple of four": lambda: native.rms_norm(mx.ones((1, 3)), mx.ones(3), 1e-6),
    "1024": lambda: _native.largest(mx.ones((1, 1200)), 1100),
    "64, 80": lambda: _attend(24, mx.float32),
    "queries' type": lambda: _attend(64, mx.float16),
    "words": lambda: _linear(mx.ones((1, 32)), quantized_weight("f32", 4, 32, 8, 64)),
    "x's type": lambda: _linear(mx.ones((1, 64), mx.float16), quantized_weight("f32", 4, 32, 8, 64)),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_the_kernels_are_not_made_for_is_said_before_anything_runs(gpu, said):
    with pytest.raises(ValueError, match=said):
        WRONG[said]()
    assert not gpu.kernels


def test_no_rows_are_no_rows(gpu):
    none, weight = mx.zeros((0, 64)), mx.ones(64)
    experts = _experts("f32", 4, 2, 24, 64)
    assert native.linear(none, quantized_weight("f32", 4, 32, 8, 64)).shape == (0, 8)
    assert native.expert_linear(none, experts, mx.zeros((0, 2), mx.int32)).shape == (0, 2, 24)
    assert native.rms_norm(none, weight, 1e-6).shape == (0, 64)
    assert [each.shape for each in native.add_rms_norm(none, none, weight, 1e-6)] == [(0, 64)] * 2
    assert native.silu_mul(none, none).shape == (0, 64)
    assert native.largest(none, 5).shape == (0, 5)
    assert native.greedy(none).shape == (0,)
    assert not gpu.kernels


@pytest.fixture
def on_the_cpu():
    """Also on a Mac, whose default is its GPU."""
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)


def test_without_a_gpu_there_are_none(on_the_cpu):
    assert not _native.gpu_in_use()
    weight = quantized_weight("f32", 4, 32, 8, 64)
    with pytest.raises(ValueError, match="Metal GPUs"):
        _linear(mx.ones((1, 64)), weight)


def test_groups_are_a_store(gpu):
    """What is written is what the reference makes of the same rows."""
    step = layout((4,), (4,), 4, 1)
    rows = random(1, (4, 1, 64), mx.float32)
    kv = PagedKV([to_groups(mx.zeros((1, 4, 1, 64)), 8)], [to_groups(mx.zeros((1, 4, 1, 64)), 8)])
    native.write_kv(kv, 0, rows, rows, step)
    mx.eval(kv.arrays)
    truth = to_groups(rows[None], 8)
    assert isinstance(kv.keys[0], GroupedStore)
    np.testing.assert_array_equal(np.array(kv.keys[0].scales), np.array(truth.scales))
