"""Multiplication by quantized matrices, by the rule of the launch table, against the reference."""

import mlx.core as mx
import numpy as np
import pytest

from inference.ops import reference
from inference.ops.weights import QuantizedWeight
from metal_kernels._native import MetalLaunches
from metal_kernels.emulator import Output
from tests.metal_kernels.metal import device
from tests.metal_kernels.metal.device import NOTHING, TYPES, assert_close, given, held, launch, random, room

pytestmark = pytest.mark.usefixtures("place")


def quantized_weight(type_name, bits, group, outputs, inputs, bias=True):
    dense = random(1, (outputs, inputs), TYPES[type_name]) * inputs**-0.5
    own = random(2, (outputs,), TYPES[type_name]) if bias else None
    return QuantizedWeight(*mx.quantize(dense, group_size=group, bits=bits), bits, group, own)


def multiply(type_name, weight, x, outputs, experts=None, sources=None, rows=None, across=None):
    """[rows, outputs], and the plan it was computed by. In the emulator, of many threadgroups that stand side by side,
    the first `across` may be enough: what the others would have computed is then nothing."""
    rows = rows or x.shape[0]
    plan = MetalLaunches.quantized(
        type_name,
        weight.bits,
        weight.group_size,
        rows,
        outputs,
        x.shape[-1],
        bias=weight.bias is not None,
        gather=experts is not None,
    )
    dtype = TYPES[type_name]
    bias = NOTHING if weight.bias is None else held(weight.bias)
    matrix = [held(weight.packed), held(weight.scales), held(weight.biases)]
    gathered = [NOTHING if each is None else each for each in (experts, sources)]
    split = plan.splits > 1
    out = room((plan.splits, rows, outputs), mx.float32) if split else room((rows, outputs), dtype)
    first = plan.multiply
    if across and device.place == "emulated":
        first = device.changed(first, groups=(across, *first.groups[1:]))
        out = Output(out.shape, np.uint16 if type_name == "bf16" else held(x).dtype, partial=True)
    (y,) = launch(first, [held(x), *matrix, bias, *gathered, out])
    if split:
        (y,) = launch(plan.sum, [y, bias, room((rows, outputs), dtype)])
    return given(y, dtype), plan


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("group", "rows", "bias"), [(32, 1, True), (64, 2, False), (128, 3, True), (64, 8, True)])
def test_few_rows(type_name, bits, group, rows, bias):
    # 13 outputs: the last simdgroup has a part of its four; 640 columns: its lanes have unlike shares.
    weight = quantized_weight(type_name, bits, group, 13, 640, bias)
    x = random(3, (rows, 640), TYPES[type_name])
    y, plan = multiply(type_name, weight, x, 13)
    assert plan.multiply.file == "quantized_matvec"
    assert_close(y, reference.linear(x, weight))


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("group", "rows", "outputs", "bias"), [(32, 9, 40, True), (64, 33, 32, False), (128, 40, 70, True)]
)
def test_many_rows(type_name, bits, group, rows, outputs, bias):
    weight = quantized_weight(type_name, bits, group, outputs, 128, bias)
    x = random(3, (rows, 128), TYPES[type_name])
    y, plan = multiply(type_name, weight, x, outputs)
    assert plan.multiply.kernel.endswith("32x32")
    assert_close(y, reference.linear(x, weight))


@pytest.mark.parametrize(("type_name", "bits"), [("f32", 8), ("f16", 4), ("bf16", 4)])
def test_large_tiles(type_name, bits):
    weight = quantized_weight(type_name, bits, 64, 64 * 47 + 5, 64)
    x = random(3, (65, 64), TYPES[type_name])
    y, plan = multiply(type_name, weight, x, 64 * 47 + 5)
    assert plan.multiply.kernel.endswith("64x64")
    assert_close(y, reference.linear(x, weight))


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("rows", [1, 5, 12])
@pytest.mark.parametrize("bias", [True, False])
def test_columns_are_shared_out_where_there_is_little_else(type_name, rows, bias):
    weight = quantized_weight(type_name, 4, 64, 24, 2112, bias)
    x = random(3, (rows, 2112), TYPES[type_name])
    y, plan = multiply(type_name, weight, x, 24)
    assert plan.splits > 1
    assert_close(y, reference.linear(x, weight))


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rows", [6, 37])
def test_every_row_by_the_matrix_of_its_expert(type_name, bits, rows):
    """Of 5 experts one is not asked, and runs of the others end within tiles."""
    outputs, inputs, tokens = 20, 64, 7
    weights = [quantized_weight(type_name, bits, 32, outputs, inputs) for _ in range(5)]
    weights = [QuantizedWeight(w.packed, w.scales + i, w.biases - i, bits, 32, w.bias) for i, w in enumerate(weights)]
    stacked = QuantizedWeight(
        *(mx.concatenate([getattr(w, part) for w in weights]) for part in ("packed", "scales", "biases")), bits, 32
    )
    rng = np.random.default_rng(4)
    experts = np.sort(rng.choice([0, 1, 2, 4], rows)).astype(np.uint32)
    sources = rng.integers(0, tokens, rows).astype(np.uint32)
    x = random(3, (tokens, inputs), TYPES[type_name])
    y, plan = multiply(type_name, stacked, x, outputs, experts, sources, rows)
    assert plan.multiply.file == ("quantized_matvec" if rows <= 8 else "quantized_matmul")
    plain = [QuantizedWeight(w.packed, w.scales, w.biases, bits, 32) for w in weights]
    truth = [reference.linear(x[int(s)][None], plain[int(e)]) for s, e in zip(sources, experts, strict=True)]
    assert_close(y, mx.concatenate(truth))
