"""Our Qwen2 against mlx_lm on the same quantized checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import load_model

from inference.model.loader import load
from tests.inference import tiny
from tests.inference.model.drive import log_softmax, logprobs

SIZES = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}
PARTLY = {
    "bits": 4,
    "group_size": 64,
    "model.embed_tokens": False,
    "model.layers.0.self_attn.v_proj": {"bits": 8, "group_size": 32},
    "model.layers.0.mlp.gate_proj": False,
    "model.layers.1.mlp.down_proj": {"bits": 8, "group_size": 128},
    "model.layers.1.self_attn.q_proj": False,
    "model.layers.1.self_attn.k_proj": False,
    "model.layers.1.self_attn.v_proj": False,
}
BLOCKS: dict[str, dict[str, Any]] = {
    **{f"{bits}-bit, {size}": {"bits": bits, "group_size": size} for bits in (4, 8) for size in (32, 64, 128)},
    "partly": PARTLY,
}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("block", list(BLOCKS))
@pytest.mark.parametrize("kernels", ["reference", "mlx", "native"])
def test_quantized(checkpoints: Path, block: str, tied: bool, kernels: str) -> None:
    folder = tiny.checkpoint(checkpoints, quantization=BLOCKS[block], tie_word_embeddings=tied, **SIZES)
    tokens = np.random.default_rng(0).integers(0, 331, 90).tolist()
    peer, _ = load_model(folder)
    loaded = load(str(folder), kernels=kernels)
    expected = log_softmax(peer(mx.array([tokens]))[0])
    for chunk in (None, 31):
        np.testing.assert_allclose(logprobs(loaded.model, tokens, chunk), expected, rtol=0, atol=1e-4)
    assert loaded.info.quantization.startswith(f"{BLOCKS[block]['bits']}-bit")
    unquantized = load(str(tiny.checkpoint(checkpoints, tie_word_embeddings=tied, **SIZES)))
    assert loaded.info.num_parameters == unquantized.info.num_parameters
    assert loaded.info.weight_bytes < unquantized.info.weight_bytes


def test_bfloat16_scales(checkpoints: Path) -> None:
    """As the converter writes them: computed in float32 on a CPU, or as they are if that is asked for.

    mlx_lm is judged in float32, since MLX's CPU kernel adds up in bfloat16 otherwise.
    """
    folder = tiny.checkpoint(
        checkpoints, dtype="bfloat16", quantization={"bits": 4, "group_size": 64, "mode": "affine"}, **SIZES
    )
    tokens = np.random.default_rng(0).integers(0, 331, 40).tolist()
    peer, _ = load_model(folder)
    peer.set_dtype(mx.float32)
    expected = log_softmax(peer(mx.array([tokens]))[0])
    for dtype, tolerance in (("bfloat16", 0.05), ("float32", 1e-4)):
        found = logprobs(load(str(folder), dtype=dtype).model, tokens)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
