"""The model with every operation that has a Metal kernel taken by it: the reference's own tokens."""

from dataclasses import fields, replace
from functools import partial

import mlx.core as mx
import pytest

from inference.model.loader import load
from inference.ops import native
from inference.ops.decoder_layer import Parts, by_parts
from inference.ops.kv_store import KVFormat
from inference.ops.paged import RaggedLayout
from inference.ops.table import LAYER, OPERATIONS, OpTable
from tests.inference import tiny

SIZES = {"hidden_size": 128, "intermediate_size": 192, "num_attention_heads": 2, "num_key_value_heads": 1}
PROMPTS = ([5, 9, 200, 3, 17] * 9, [7, 8, 1])
BLOCK = 16


def _by_kernels():
    """The reference's table with our kernels in it."""
    taken = {name: getattr(native, name) for name in OPERATIONS.keys() - {"embedding", LAYER}}
    table = replace(OpTable.select("reference"), **taken)
    parts = Parts(**{field.name: getattr(table, field.name) for field in fields(Parts)})
    return replace(table, decoder_layer=partial(by_parts, parts))


def _generate(model, kept, count):
    """Greedy continuations of the prompts: the first in two chunks, then both decode in one batch."""
    kv = model.new_cache(8, BLOCK, kept)
    tables = [[5, 0, 7, 2], [1, 6]]
    known = [list(prompt) for prompt in PROMPTS]
    computed = [0, 0]
    while len(known[0]) < len(PROMPTS[0]) + count:
        ends = [min(len(tokens), at + 37) for tokens, at in zip(known, computed, strict=True)]
        spans = [tokens[at:end] for tokens, at, end in zip(known, computed, ends, strict=True)]
        step = RaggedLayout.build([len(span) for span in spans], ends, tables, BLOCK)
        hidden = model.forward(mx.array([token for span in spans for token in span]), step, kv)
        ids = model.ops.greedy(model.logits(hidden[mx.array(step.last_rows)])).tolist()
        for i, (tokens, end) in enumerate(zip(known, ends, strict=True)):
            computed[i] = end
            if end == len(tokens):
                tokens.append(ids[i])
    return known


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("bits", [0, 8, 4])
def test_greedy_tokens(tmp_path, gpu, dtype, bits):
    quantization = {"bits": 4, "group_size": 64}
    folder = tiny.checkpoint(tmp_path, dtype=dtype, quantization=quantization, spread=4.0, **SIZES)
    model = load(str(folder), dtype=dtype, kernels="reference").model
    kept = KVFormat(mx.float16, bits) if bits else KVFormat(model.dtype)
    expected = _generate(model, kept, 8)
    assert not gpu.kernels
    model.use(_by_kernels())
    assert _generate(model, kept, 8) == expected
    kinds = {name.split("_")[0] for name in gpu.kernels}
    assert kinds == {"quantized", "rms", "rope", "swiglu", "write", "attention", "argmax"}
