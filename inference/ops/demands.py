"""What a model asks of the operations: shapes, types and formats, by which kernels are checked and timed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

_WIDEST = {"hidden": 512, "inner": 1536, "vocabulary": 1 << 15}
"""Numbers in a row beyond which a kernel does more of the same, and only the checks take longer."""
_VECTOR = 4
"""Numbers that are loaded at once: a kernel may not be made for rows that are no multiple of it."""
_KV_HEADS = 2
_WHOLE_GROUPS = 128
"""Any quantized matrix has rows of a multiple of this, or as many numbers as before."""


@dataclass(frozen=True, slots=True)
class Demands:
    """Sizes by the names of config.json, shortened; types as the options spell them."""

    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    matrices: tuple[tuple[int, int], ...]
    """Each kind of matrix: bits of an element and elements of a group, 0 and 0 for floats."""
    dtype: str
    """Of activations."""
    kv: str
    """The KV cache's element type: a float's, int8 or int4."""
    activations: str = "exact"

    def under(self, activations: str, kv: str) -> Demands:
        """The same model with other options."""
        return replace(self, activations=activations, kv=kv)

    @property
    def quantized(self) -> bool:
        """Whether any matrix is."""
        return any(bits for bits, _ in self.matrices)

    def cut(self) -> Demands:
        """A model of the same kind that is no larger than shows how its kernels compute: for checks in little time."""
        per_key = self.heads // self.kv_heads
        enough = (n for n in range(_KV_HEADS, self.kv_heads) if n * per_key * self.head_size % _WHOLE_GROUPS == 0)
        kv_heads = next(enough, self.kv_heads)
        return replace(
            self,
            **{name: min(size := getattr(self, name), most + size % _VECTOR) for name, most in _WIDEST.items()},
            heads=per_key * kv_heads,
            kv_heads=kv_heads,
        )

    def spelled(self, names: tuple[str, ...]) -> str:
        """Some of the fields, as the words that verdicts are filed under."""
        return " ".join(f"{name}={_spell(getattr(self, name))}" for name in names)


def _spell(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(f"{bits}bit/{group}" if bits else "floats" for bits, group in value)
    return str(value)


ORDINARY = Demands(
    hidden=512,
    inner=1024,
    heads=8,
    kv_heads=2,
    head_size=64,
    vocabulary=5000,
    matrices=((0, 0), (4, 64), (8, 64)),
    dtype="float32",
    kv="float32",
)
"""A small model with every kind of matrix."""
