"""Tensors of a checkpoint by name, each checked before it is used; every defect is one sentence naming the file."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from inference.errors import ModelError
from inference.model.config import ModelConfig, Quantization, read_json
from inference.ops.weights import DenseWeight, QuantizedWeight, Weight

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
FLOATS = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}
_MAX_HEADER = 100_000_000
"""Bytes; the format's own limit, so that a file of another kind isn't read as a header of some exabytes."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What a file's header says of one tensor."""

    file: Path
    dtype: str
    """As the format spells it: F32, BF16, U32…"""
    shape: tuple[int, ...]


class Checkpoint:
    """The tensors of a model directory. Opening it reads headers only; data is read when an array is evaluated."""

    def __init__(self, directory: Path) -> None:
        """Raises ModelError if a file is missing, truncated or no safetensors file."""
        self.directory = directory
        self.tensors: dict[str, TensorInfo] = {}
        self._source, weight_map = _files(directory)
        for file in sorted(set(weight_map.values()) if weight_map else {self._source}):
            self.tensors |= _read_header(file)
        for name, file in weight_map.items():
            if name not in self.tensors:
                raise ModelError(f"{file} has no tensor {name}, where {self._source.name} says it is")
        self._arrays: dict[Path, dict[str, mx.array]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def info(self, name: str) -> TensorInfo:
        """Raises ModelError if there is no such tensor."""
        if name not in self.tensors:
            raise ModelError(f"{self._source} has no tensor {name}, which config.json calls for")
        return self.tensors[name]

    def floats(self, name: str, shape: tuple[int, ...], dtype: mx.Dtype) -> mx.array:
        """A floating-point tensor of this shape, converted to `dtype`."""
        return self._take(name, shape, tuple(FLOATS)).astype(dtype)

    def words(self, name: str, shape: tuple[int, ...]) -> mx.array:
        """A tensor of packed integers, as uint32."""
        return self._take(name, shape, ("U32",))

    def _take(self, name: str, shape: tuple[int, ...], kinds: tuple[str, ...]) -> mx.array:
        """Hand out a tensor, once: nothing here holds on to it afterwards."""
        info = self.info(name)
        if info.dtype not in kinds:
            raise ModelError(f"{info.file}: {name} is of type {info.dtype}, but {' or '.join(kinds)} was expected")
        if info.shape != shape:
            raise ModelError(
                f"{info.file}: {name} has shape {list(info.shape)}, but config.json calls for {list(shape)}"
            )
        if info.file not in self._arrays:
            loaded = mx.load(str(info.file), format="safetensors")
            assert isinstance(loaded, dict)
            self._arrays[info.file] = loaded
        return self._arrays[info.file].pop(name)


@dataclass(frozen=True, slots=True)
class MatrixReader:
    """Reads matrices as weights of the operations: dense or quantized, whichever the checkpoint has."""

    checkpoint: Checkpoint
    config: ModelConfig
    dtype: mx.Dtype
    """Type of activations; dense weights, scales and biases are converted to it."""

    def vector(self, name: str, size: int) -> mx.array:
        return self.checkpoint.floats(name, (size,), self.dtype)

    def matrix(self, path: str, outputs: int, inputs: int, *, bias: bool = False) -> Weight:
        """The weight [outputs, inputs] at `path`, and its bias if the model has one there."""
        vector = self.vector(f"{path}.bias", outputs) if bias else None
        if f"{path}.scales" in self.checkpoint:
            return self._quantized(path, outputs, inputs, vector)
        return DenseWeight(self.checkpoint.floats(f"{path}.weight", (outputs, inputs), self.dtype), vector)

    def _quantized(self, path: str, outputs: int, inputs: int, bias: mx.array | None) -> QuantizedWeight:
        kind = self.config.quantization_of(path)
        if kind is None:
            file = self.checkpoint.info(f"{path}.scales").file
            raise ModelError(f"{file}: {path} is quantized, but config.json has no quantization block that says how")
        if inputs % kind.group_size:
            raise ModelError(
                f"{self.checkpoint.directory / 'config.json'}: {path} can't be quantized in groups of "
                f"{kind.group_size}, because its rows have {inputs} elements"
            )
        groups = (outputs, inputs // kind.group_size)
        return QuantizedWeight(
            packed=self.checkpoint.words(f"{path}.weight", (outputs, inputs * kind.bits // 32)),
            scales=self.checkpoint.floats(f"{path}.scales", groups, self.dtype),
            biases=self.checkpoint.floats(f"{path}.biases", groups, self.dtype),
            bits=kind.bits,
            group_size=kind.group_size,
            bias=bias,
        )


def stored_dtype(checkpoint: Checkpoint) -> str:
    """The floating-point type of most of the checkpoint's elements outside packed matrices: float32, bfloat16…"""
    sizes = dict.fromkeys(FLOATS, 0)
    for info in checkpoint.tensors.values():
        if info.dtype in sizes:
            sizes[info.dtype] += _count(info.shape)
    most = max(sizes, key=lambda kind: sizes[kind])
    return {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[most]


def count_parameters(checkpoint: Checkpoint, config: ModelConfig) -> int:
    """Elements of the model's tensors, a packed matrix counted as what it unpacks to."""
    total = 0
    for name, info in checkpoint.tensors.items():
        kind: Quantization | None = config.quantization_of(name.removesuffix(".weight"))
        if info.dtype == "U32" and kind is not None:
            total += _count(info.shape) * 32 // kind.bits
        elif not name.endswith((".scales", ".biases")):
            total += _count(info.shape)
    return total


def _files(directory: Path) -> tuple[Path, Mapping[str, Path]]:
    """The file that says what there is, and where each tensor is if that is an index."""
    index, single = directory / INDEX, directory / SINGLE
    if not index.exists():
        if single.exists():
            return single, {}
        raise ModelError(f"{directory} has no weights: expected {SINGLE}, or {INDEX} and the files it names")
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{index} has no weight_map that says which file each tensor is in")
    return index, {name: directory / Path(str(file)).name for name, file in weight_map.items()}


def _read_header(file: Path) -> dict[str, TensorInfo]:
    """The tensors in a safetensors file: 8 bytes of length, that many of JSON, then the data.

    See https://github.com/huggingface/safetensors#format.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            header = stream.read(length) if 2 <= length <= _MAX_HEADER else b""
    except FileNotFoundError:
        raise ModelError(f"{file} is missing, but {INDEX} names it: download the model again") from None
    except OSError as error:
        raise ModelError(f"{file} can't be read: {error.strerror}") from None
    try:
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        tensors = {
            name: TensorInfo(file, str(entry["dtype"]), tuple(map(int, entry["shape"])))
            for name, entry in entries.items()
        }
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise ModelError(f"{file} is not a safetensors file, or its header is cut off: download it again") from None
    expected = 8 + length + end
    if size < expected:
        raise ModelError(f"{file} is truncated: {size} bytes, but its header calls for {expected}; download it again")
    return tensors


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total
