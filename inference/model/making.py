"""Models that are made on this machine: written to the cache directory once, part by part, and found there again."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from inference.errors import ModelError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
GROUP_SIZE = 64
"""Elements that share a scale and a bias in matrices that are quantized here."""
KINDS = {"4bit": 4, "8bit": 8, "bf16": 16}
"""Bits of an element of the matrices, by the name that asks for them."""

Tensors = dict[str, mx.array]


def once(directory: Path, ref: str, fill: Callable[[Path], None]) -> Path:
    """`directory`, filled first if it isn't there. Raises ModelError for a full disk, and what `fill` raises."""
    if (directory / "config.json").exists():
        return directory
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        # Another process may be writing the same one: each fills a directory of its own, and the first to end wins.
        draft = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        try:
            fill(draft)
            if not directory.exists():
                draft.rename(directory)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise ModelError(f"{ref} can't be written to {directory.parent} ({error}): set GLASSCHAT_CACHE") from None
    return directory


def write(directory: Path, parts: Iterable[Tensors], count: int, config: Mapping[str, Any], about: str) -> None:
    """Write `count` parts, one file each, then config.json. No more than one of them is held at a time."""
    weight_map: dict[str, str] = {}
    for i, tensors in enumerate(parts):
        file = f"model-{i + 1:05d}-of-{count:05d}.safetensors"
        mx.save_safetensors(str(directory / file), tensors, {"format": "mlx"})
        weight_map |= dict.fromkeys(tensors, file)
    index = {"metadata": {"glasschat": about}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "config.json").write_text(json.dumps(config, indent=2))


def copy(source: Path, directory: Path, files: Iterable[str]) -> None:
    """Those of the files that there are."""
    for file in files:
        if (source / file).exists():
            shutil.copyfile(source / file, directory / file)


def quantized(path: str, matrix: mx.array, bits: int) -> Tensors:
    """The tensors that stand for the matrix at `path`; of 16 bits it is left as it is."""
    if bits == 16:
        return {f"{path}.weight": matrix}
    packed, scales, biases = mx.quantize(matrix, GROUP_SIZE, bits)
    return {
        f"{path}.weight": packed,
        f"{path}.scales": scales.astype(mx.bfloat16),
        f"{path}.biases": biases.astype(mx.bfloat16),
    }


def quantization(bits: int) -> Mapping[str, Any]:
    """What config.json says of it."""
    return {"quantization": {"bits": bits, "group_size": GROUP_SIZE}} if bits < 16 else {}
