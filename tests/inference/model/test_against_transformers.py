"""Our Qwen2 against transformers' Qwen2ForCausalLM on the same random weights: the definition of right."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from inference.model.loader import LoadedModel, load
from inference.ops.native import on_gpu
from inference.ops.proof import trusted
from inference.ops.table import OpTable
from tests.inference import tiny
from tests.inference.model.drive import Sequences, greedy, logprobs

ODD = {"hidden_size": 120, "num_attention_heads": 3, "num_key_value_heads": 1, "intermediate_size": 173}
SEVEN = {"hidden_size": 112, "num_attention_heads": 14, "num_key_value_heads": 7, "intermediate_size": 150}
CONFIGS: dict[str, dict[str, Any]] = {
    "tied, 2 of 4 KV heads": {},
    "untied, 1 KV head, head size 40, odd sizes, sharded": ODD | {"tie_word_embeddings": False, "shards": 3},
    "7 KV heads, 3 layers": SEVEN | {"num_hidden_layers": 3},
    "14 heads on 2 KV heads as in 0.5B": SEVEN | {"num_key_value_heads": 2, "num_hidden_layers": 1},
    "untied, all heads with keys, rope_parameters": {
        "tie_word_embeddings": False,
        "num_key_value_heads": 4,
        "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"},
        "rope_theta": None,
    },
    "float16 weights": {"dtype": "float16", "num_hidden_layers": 3, "rms_norm_eps": 1e-5},
    "bfloat16 weights": {"dtype": "bfloat16"},
}
HALF = {
    "bfloat16": {"dtype": "bfloat16"},
    "bfloat16, untied, 1 KV head, odd sizes, sharded": CONFIGS["untied, 1 KV head, head size 40, odd sizes, sharded"]
    | {"dtype": "bfloat16"},
    "bfloat16, 7 KV heads": SEVEN | {"dtype": "bfloat16"},
}
LENGTHS = (1, 2, 17, 100, 512)


def prompt(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng([length, seed]).integers(0, 331, length).tolist()


@cache
def oracle(folder: Path, dtype: str = "float32") -> Any:
    return transformers.Qwen2ForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))


def oracle_logprobs(folder: Path, tokens: Sequence[int], dtype: str = "float32") -> np.ndarray:
    """After each token; cached, as every test asks for the same few prompts."""
    return _oracle_logprobs(folder, tuple(tokens), dtype)


@cache
def _oracle_logprobs(folder: Path, tokens: tuple[int, ...], dtype: str) -> np.ndarray:
    with torch.no_grad():
        logits = oracle(folder, dtype)(torch.tensor([tokens])).logits[0].float()
    return logits.log_softmax(-1).numpy()


def ours(folder: Path, kernels: str, dtype: str = "float32") -> LoadedModel:
    loaded = _load(folder, dtype)
    # Our kernels for GPUs do not take heads as small as these; those for the CPU do, and nothing may stand in for them.
    model = loaded.model
    model.use(trusted(kernels, model.demands) if on_gpu() else OpTable.select(kernels))
    return loaded


@cache
def _load(folder: Path, dtype: str) -> LoadedModel:
    return load(str(folder), dtype=dtype)


@pytest.fixture(params=list(CONFIGS))
def folder(request: pytest.FixtureRequest, checkpoints: Path) -> Path:
    return tiny.checkpoint(checkpoints, **CONFIGS[request.param])


@pytest.fixture(params=["reference", "mlx", "native"])
def kernels(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("length", LENGTHS)
def test_prefill(folder: Path, kernels: str, length: int) -> None:
    tokens = prompt(length)
    found = logprobs(ours(folder, kernels).model, tokens)
    np.testing.assert_allclose(found, oracle_logprobs(folder, tokens), rtol=0, atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 7, 16, 33])
def test_cached_decode_and_chunked_prefill(folder: Path, kernels: str, chunk: int) -> None:
    """A chunk of 1 is decoding token by token."""
    tokens = prompt(100)
    found = logprobs(ours(folder, kernels).model, tokens, chunk)
    np.testing.assert_allclose(found, oracle_logprobs(folder, tokens), rtol=0, atol=1e-4)


def test_greedy_tokens_are_identical(folder: Path, kernels: str) -> None:
    for length in (1, 20, 300):
        tokens = prompt(length, seed=1)
        expected = oracle(folder).generate(
            torch.tensor([tokens]), max_new_tokens=24, min_new_tokens=24, do_sample=False, eos_token_id=None
        )
        assert greedy(ours(folder, kernels).model, tokens, 24) == expected[0, length:].tolist()


def test_ragged_batch_equals_each_alone(folder: Path, kernels: str) -> None:
    """Sequences that join, decode and chunk side by side, in an order that changes from step to step."""
    loaded = ours(folder, kernels)
    prompts = [prompt(length, seed=2) for length in (1, 5, 16, 17, 40, 100, 100, 130)]
    sequences = Sequences(loaded.model, len(prompts), 130, seed=3)
    rng = np.random.default_rng(4)
    found: list[list[np.ndarray]] = [[] for _ in prompts]
    while any(done < len(p) for done, p in zip(sequences.lengths, prompts, strict=True)):
        chunks = {}
        for i in rng.permutation(len(prompts)).tolist():
            done = sequences.lengths[i]
            size = int(rng.choice([0, 1, 1, 3, 16, 50]))
            if prompts[i][done : done + size]:
                chunks[i] = prompts[i][done : done + size]
        if chunks:
            for i, rows in sequences.step(chunks).items():
                found[i].append(rows)
    for tokens, rows in zip(prompts, found, strict=True):
        np.testing.assert_allclose(np.concatenate(rows), oracle_logprobs(folder, tokens), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", list(HALF))
@pytest.mark.parametrize("chunk", [None, 1, 33])
def test_bfloat16(checkpoints: Path, kernels: str, name: str, chunk: int | None) -> None:
    folder = tiny.checkpoint(checkpoints, spread=0.25, **HALF[name])
    tokens = prompt(100 if chunk == 1 else 512)
    loaded = ours(folder, kernels, "bfloat16")
    assert loaded.model.new_cache(1, 16).keys[0].dtype == loaded.model.dtype
    found = logprobs(loaded.model, tokens, chunk)
    for dtype in ("bfloat16", "float32"):
        expected = oracle_logprobs(folder, tokens, dtype)
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.05)
        assert np.abs(found - expected).mean() < 0.005
