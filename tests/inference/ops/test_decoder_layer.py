"""A whole layer in one go gives the very numbers that its parts give one after another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metal_kernels
from inference.ops import packing
from inference.ops.decoder_layer import LayerWeights
from inference.ops.kv_store import KVFormat, arrays_of
from inference.ops.paged import PagedKV
from inference.ops.table import OpTable, function
from inference.ops.weights import DenseWeight, QuantizedWeight, Weight, stack_rows
from tests.inference.ops.ragged import Batch, batches
from tests.inference.ops.test_operations import draw_array

pytestmark = pytest.mark.skipif(bool(packing.why_missing()), reason="no native kernels here")

seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([mx.float32, mx.bfloat16, mx.float16])
KEPT = {mx.float32: KVFormat(mx.float32), mx.bfloat16: KVFormat(mx.bfloat16), 8: KVFormat(mx.float16, 8)}


@st.composite
def layers(draw: st.DrawFn, dtype: mx.Dtype) -> LayerWeights:
    """Small layers: dense, of 4 or 8 bits, or of matrices too unlike to be stacked."""
    kv_heads, share, size = draw(st.integers(1, 2)), draw(st.integers(1, 7)), draw(st.sampled_from([32, 64]))
    width, inner = 64 * draw(st.integers(1, 2)), 64 * draw(st.integers(1, 3))
    heads = kv_heads * share

    def matrix(outputs: int, inputs: int, bias: bool = False) -> Weight:
        dense = draw_array(draw(seeds), outputs, inputs, dtype=dtype, scale=inputs**-0.5)
        vector = draw_array(draw(seeds), outputs, dtype=dtype) if bias else None
        bits = draw(st.sampled_from([0, 4, 4, 8]))
        if not bits or inputs % 32:
            return DenseWeight(dense, vector)
        return QuantizedWeight(*mx.quantize(dense, 32, bits), bits, 32, vector)

    qkv = [matrix(count * size, width, bias=True) for count in (heads, kv_heads, kv_heads)]
    return LayerWeights(
        attention_norm=draw_array(draw(seeds), width, dtype=dtype),
        qkv=stack_rows(qkv),
        out=matrix(width, heads * size),
        mlp_norm=draw_array(draw(seeds), width, dtype=dtype),
        gate_up=stack_rows([matrix(inner, width), matrix(inner, width)]),
        down=matrix(width, inner),
        heads=heads,
        kv_heads=kv_heads,
        head_size=size,
        theta=1e4,
        eps=1e-6,
    ).rearranged(packing.pack)


def pool(batch: Batch, weights: LayerWeights, kept: KVFormat) -> PagedKV:
    return PagedKV.allocate(1, batch.num_blocks, batch.block_size, weights.kv_heads, weights.head_size, kept)


@settings(max_examples=60, deadline=None)
@given(st.data(), dtypes, batches(), st.sampled_from(list(KEPT)), st.sampled_from(["exact", "bfloat16", "int8"]))
def test_a_layer_gives_what_its_parts_give(
    data: st.DataObject, dtype: mx.Dtype, batch: Batch, kept: Any, activations: str
) -> None:
    weights = data.draw(layers(dtype))
    x = draw_array(data.draw(seeds), batch.layout().num_tokens, weights.attention_norm.size, dtype=dtype)
    found = []
    for table in (
        OpTable.select("native", activations=activations),
        OpTable.select("native,decoder_layer=parts", activations=activations),
    ):
        kv = pool(batch, weights, KEPT[kept])
        y = table.decoder_layer(x, weights, 0, kv, batch.layout())
        y = table.decoder_layer(y, weights, 0, kv, batch.layout())
        found.append([y, *arrays_of(kv.keys[0]), *arrays_of(kv.values[0])])
    assert all(mx.array_equal(a, b, equal_nan=True) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("kept", list(KEPT))
@pytest.mark.parametrize("kernels", ["native", "native,decoder_layer=parts"])
def test_the_cache_is_written_in_place(kept: Any, kernels: str) -> None:
    """A step that copied the pool of a few hundred megabytes would take most of its time for that."""
    weights, batch = _example()
    table = OpTable.select(kernels)
    kv = PagedKV.allocate(1, 2000, batch.block_size, weights.kv_heads, weights.head_size, KEPT[kept])
    x = draw_array(0, batch.layout().num_tokens, 64)
    mx.eval(x)
    for _ in range(2):
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        y = table.decoder_layer(x, weights, 0, kv, batch.layout())
        mx.eval(y, kv.arrays)
        assert mx.get_peak_memory() - before < kv.nbytes / 4


def test_the_parts_of_a_table_are_the_layers_parts() -> None:
    table = OpTable.select("auto,rope=reference")
    layer = next(choice for choice in table.choices() if choice.operation == "decoder_layer")
    assert layer.implementation == "parts"
    assert layer.reason == "not all parts of a layer are our own kernels: rope"
    calls: list[str] = []

    def counted(name: str, operation: Any) -> Any:
        def call(*arguments: Any) -> Any:
            calls.append(name)
            return operation(*arguments)

        return call

    weights, batch = _example()
    kv = pool(batch, weights, KVFormat(mx.float32))
    x = draw_array(0, batch.layout().num_tokens, weights.attention_norm.size)
    OpTable.select("native").in_parts(counted).decoder_layer(x, weights, 0, kv, batch.layout())
    attention = ["rms_norm", "linear", "rope", "write_kv", "paged_attention", "linear"]
    assert calls == [*attention, "add_rms_norm", "linear", "silu_mul", "linear"]


def _example() -> tuple[LayerWeights, Batch]:
    batch = Batch((3,), (3,), ((0,),), block_size=4, num_blocks=1)
    weights = LayerWeights(
        attention_norm=mx.ones(64),
        qkv=(DenseWeight(draw_array(0, 128, 64)),),
        out=DenseWeight(draw_array(1, 64, 64)),
        mlp_norm=mx.ones(64),
        gate_up=(DenseWeight(draw_array(2, 96, 64)),),
        down=DenseWeight(draw_array(3, 64, 48)),
        heads=2,
        kv_heads=1,
        head_size=32,
        theta=1e4,
        eps=1e-6,
    )
    return weights, batch


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_norm": mx.ones(32)}, "norms have as many numbers as its input"),
        ({"mlp_norm": mx.ones(64, mx.bfloat16)}, "norms have one type"),
        ({"qkv": (DenseWeight(mx.ones((128, 32))),)}, "as many columns"),
        ({"heads": 3}, "fill their heads"),
        ({"out": DenseWeight(mx.ones((64, 32)))}, "attention's output"),
        ({"down": DenseWeight(mx.ones((64, 47)))}, "gate and up"),
        ({"qkv": ()}, "matrices to queries"),
        ({"head_size": 31}, "even size"),
    ],
)
def test_weights_that_make_no_layer_are_refused(change: dict[str, Any], message: str) -> None:
    weights, _ = _example()
    with pytest.raises(ValueError, match=message):
        replace(weights, **change).packed  # noqa: B018


def test_input_that_makes_no_step_is_refused() -> None:
    weights, batch = _example()
    x = mx.ones((3, 64))
    run = function("decoder_layer", "native")
    for arguments, message in [
        ((mx.ones((2, 64)), weights, KVFormat(mx.float32)), "as many tokens"),
        ((mx.ones((3, 64), mx.int32), weights, KVFormat(mx.float32)), "float32, bfloat16 or float16"),
    ]:
        wrong, of, kept = arguments
        with pytest.raises(ValueError, match=message):
            run(wrong, of, 0, pool(batch, of, kept), batch.layout())
    other = PagedKV.allocate(1, batch.num_blocks, batch.block_size, 1, 64, KVFormat(mx.float32))
    with pytest.raises(ValueError, match="same key heads"):
        run(x, weights, 0, other, batch.layout())
    module: Any = metal_kernels.native
    kv = pool(batch, weights, KVFormat(mx.float32))
    with pytest.raises(ValueError, match="no way of rounding"):
        module.decoder_layer(x, weights.packed, kv.keys, kv.values, batch.layout().native, "int3")
