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
from tests.metal_kernels.metal import device
from tests.metal_kernels.metal.device import TYPES

SIZES = {"hidden_size": 128, "intermediate_size": 192, "num_attention_heads": 2, "num_key_value_heads": 1}
QUANTIZATION = {"bits": 4, "group_size": 64}
PROMPTS = ([5, 9, 200, 3, 17] * 9, [7, 8, 1])
BLOCK = 16


@pytest.fixture(params=device.PLACES)
def kernels(request):
    """Where the model's kernels run: the names of those that did, or None where a Metal device does not tell."""
    return None if request.param == "on_metal" else request.getfixturevalue("gpu").kernels


def _by_kernels():
    """The reference's table with our kernels in it."""
    taken = {name: getattr(native, name) for name in OPERATIONS.keys() - {"embedding", LAYER}}
    table = replace(OpTable.select("reference"), **taken)
    parts = Parts(**{field.name: getattr(table, field.name) for field in fields(Parts)})
    return replace(table, decoder_layer=partial(by_parts, parts))


class Conversation:
    """Sequences that grow by the model's greedy tokens."""

    def __init__(self, model, kept, prompts, room):
        """Each sequence has room for so many tokens."""
        self.known = [list(prompt) for prompt in prompts]
        self._model = model
        self._computed = [0] * len(prompts)
        width = -(-room // BLOCK)
        blocks = [(7 * place) % (len(prompts) * width) for place in range(len(prompts) * width)]  # in disorder
        assert len(set(blocks)) == len(blocks)
        self._tables = [blocks[row * width : (row + 1) * width] for row in range(len(prompts))]
        self._kv = model.new_cache(len(blocks), BLOCK, kept)

    def step(self, count, chunk):
        """The next `chunk` tokens at most of each of the first `count` sequences."""
        ends = [min(len(self.known[i]), self._computed[i] + chunk) for i in range(count)]
        spans = [self.known[i][self._computed[i] : end] for i, end in enumerate(ends)]
        tables = [self._tables[i][: -(-end // BLOCK)] for i, end in enumerate(ends)]
        step = RaggedLayout.build([len(span) for span in spans], ends, tables, BLOCK)
        hidden = self._model.forward(mx.array([token for span in spans for token in span]), step, self._kv)
        logits = self._model.logits(hidden[mx.array(step.last_rows)])
        ids = self._model.ops.greedy(logits).tolist()
        assert self._model.ops.largest(logits, 3)[:, 0].tolist() == ids
        for i, end in enumerate(ends):
            self._computed[i] = end
            if end == len(self.known[i]):
                self.known[i].append(ids[i])


def _two(model, kept):
    """Two prompts, the first in two chunks; then both decode in one batch."""
    talk = Conversation(model, kept, PROMPTS, 64)
    for _ in range(10):
        talk.step(2, 37)
    return talk.known


def _many(model, kept):
    """A long prompt in chunks, then decodes of 1 to 8 sequences together, of which the first has a long context."""
    prompts = [[(11 * i + i // 7) % 300 for i in range(263)], *([[token, 2 * token, 9] for token in range(1, 8)])]
    talk = Conversation(model, kept, prompts, 288)
    for count in (1, 1, 1, 1, 8, 8, 1, 2, 3, 5):
        talk.step(count, 96)
    return talk.known


def _compared(folder, dtype, bits, talk, kernels):
    model = load(str(folder), dtype=dtype, kernels="reference").model
    kept = KVFormat(mx.float16, bits) if bits else KVFormat(model.dtype)
    expected = talk(model, kept)
    assert not kernels
    model.use(_by_kernels())
    assert talk(model, kept) == expected


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("bits", [0, 8, 4])
def test_greedy_tokens(tmp_path, kernels, dtype, bits):
    folder = tiny.checkpoint(tmp_path, dtype=dtype, quantization=QUANTIZATION, spread=4.0, **SIZES)
    _compared(folder, dtype, bits, _two, kernels)
    if kernels is not None:
        kinds = {name.split("_")[0] for name in kernels}
        assert kinds == {"quantized", "rms", "rope", "swiglu", "write", "attention", "argmax", "largest"}


@pytest.mark.parametrize(
    ("type_name", "bits", "share", "rows"), [("f32", 0, 1, (1, 4)), ("f16", 8, 2, (2, 4)), ("bf16", 4, 4, (4,))]
)
def test_every_kernel_that_a_model_takes(tmp_path, kernels, type_name, bits, share, rows):
    """A narrow model with an inner layer so wide that its chunks are multiplied in large tiles, and the columns of its
    decodes are shared out; heads that share a key head, or do not."""
    sizes = {"hidden_size": 64, "head_dim": 64, "intermediate_size": 2112, "num_hidden_layers": 1}
    heads = {"num_attention_heads": share, "num_key_value_heads": 1}
    dtype = str(TYPES[type_name]).removeprefix("mlx.core.")
    folder = tiny.checkpoint(tmp_path, dtype=dtype, quantization=QUANTIZATION, spread=4.0, **sizes, **heads)
    _compared(folder, dtype, bits, _many, kernels)
    if kernels is None:
        return
    kept = f"int{bits}" if bits else "float"
    assert set(kernels) == {
        *(f"quantized_matvec_{type_name}_b4_r{count}" for count in (1, 2, 4, 8)),
        *(f"quantized_matmul_{type_name}_b4_{tile}" for tile in ("32x32", "64x64")),
        f"split_sum_{type_name}",
        f"attention_prefill_{type_name}_{kept}_d64",
        *(f"attention_decode_{type_name}_{kept}_d64_r{count}" for count in rows),
        f"attention_merge_{type_name}_d64",
        *(f"{name}_{type_name}" for name in ("rms_norm", "rope", "swiglu")),
        f"write_kv_{type_name}_{kept if bits else type_name}",
        "argmax_f32",
        "largest_f32",
    }
