"""How keys and values are kept in the cache: as floats, or as small integers in groups.

A group is GROUP neighbouring elements of one head of one token. It has a scale and a bias of its own, from its smallest
and largest element, so a token is quantized as it is written and never again (the per-token scheme of Liu et al. 2024,
"KIVI", for both keys and values: theirs for keys needs a window of tokens that are not quantized yet).
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from inference.errors import ConfigError

GROUP = 32
"""Elements that share a scale and a bias, both float16: they cost one bit per element."""

FLOATS = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}
INTEGERS = {"int8": 8, "int4": 4}


@dataclass(frozen=True, slots=True)
class GroupedStore:
    """Elements [N, P, H, D] of 8 or 4 bits: an element is `q * scale + bias` of its group.

    `words` [N, P, H, D * bits / 32] uint32 holds the q, lowest bits first; `scales` and `biases` [N, P, H, D / GROUP]
    are float16.
    """

    words: mx.array
    scales: mx.array
    biases: mx.array

    @property
    def bits(self) -> int:
        return self.words.shape[-1] * 32 // (self.scales.shape[-1] * GROUP)

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.scales.shape[:-1], self.scales.shape[-1] * GROUP)

    @property
    def arrays(self) -> list[mx.array]:
        return [self.words, self.scales, self.biases]


KVStore = mx.array | GroupedStore
"""One layer's keys, or its values: [N, P, H, D]."""


def arrays_of(store: KVStore) -> list[mx.array]:
    """What a store is made of."""
    return [store] if isinstance(store, mx.array) else store.arrays


@dataclass(frozen=True, slots=True)
class KVFormat:
    """The element type of a cache: floats of `dtype`, or integers of `bits` if those are not 0."""

    dtype: mx.Dtype
    bits: int = 0

    @classmethod
    def named(cls, name: str, activations: mx.Dtype, head_size: int) -> KVFormat:
        """What one of protocol's KV_CACHE_DTYPES means for a model; auto is the type of its activations.

        Raises ConfigError for what its head size can't be kept in.
        """
        if name not in INTEGERS:
            return cls(FLOATS.get(name, activations))
        if head_size % GROUP:
            raise ConfigError(
                f"kv_cache_dtype is {name}, which keeps elements in groups of {GROUP}, but this model's heads have "
                f"{head_size}: take a float type"
            )
        return cls(mx.float16, INTEGERS[name])

    @property
    def name(self) -> str:
        return f"int{self.bits}" if self.bits else str(self.dtype).removeprefix("mlx.core.")

    def bytes_of(self, elements: int) -> int:
        """Bytes that so many elements take; whole groups of them."""
        if not self.bits:
            return elements * self.dtype.size
        return elements * self.bits // 8 + elements // GROUP * 2 * self.dtype.size

    def allocate(self, shape: tuple[int, int, int, int]) -> KVStore:
        """A store of zeros [N, P, H, D]."""
        if not self.bits:
            return mx.zeros(shape, self.dtype)
        *places, size = shape
        groups = (*places, size // GROUP)
        words = mx.zeros((*places, size * self.bits // 32), mx.uint32)
        return GroupedStore(words, mx.zeros(groups, self.dtype), mx.zeros(groups, self.dtype))


def to_groups(x: mx.array, bits: int) -> GroupedStore:
    """x [..., D] rounded to integers of `bits`; the store is [..., D].

    A group's smallest element becomes 0 and its largest 2^bits - 1, up to the rounding of scale and bias. What is not
    a number makes its whole group so.
    """
    groups = x.astype(mx.float32).reshape(*x.shape[:-1], -1, GROUP)
    low, high = mx.min(groups, axis=-1), mx.max(groups, axis=-1)
    levels = float(2**bits - 1)
    biases, scales = low.astype(mx.float16), ((high - low) / levels).astype(mx.float16)
    step = scales.astype(mx.float32)
    inverse = mx.where(step == 0, 0, 1 / step)
    q = mx.round((groups - biases.astype(mx.float32)[..., None]) * inverse[..., None])
    per_word = 32 // bits
    fields = mx.clip(q, 0, levels).astype(mx.uint32).reshape(*x.shape[:-1], -1, per_word)
    words = mx.sum(fields << mx.arange(0, 32, bits, dtype=mx.uint32), axis=-1)
    return GroupedStore(words.astype(mx.uint32), scales, biases)


def from_groups(store: GroupedStore) -> mx.array:
    """The float32 elements [..., D] of a store, or of blocks taken from one."""
    shifts = mx.arange(0, 32, store.bits, dtype=mx.uint32)
    q = (store.words[..., None] >> shifts) & ((1 << store.bits) - 1)
    groups = q.reshape(*store.scales.shape, GROUP).astype(mx.float32)
    wide = groups * store.scales[..., None].astype(mx.float32) + store.biases[..., None].astype(mx.float32)
    return wide.reshape(store.shape)


def take_blocks(store: KVStore, blocks: mx.array) -> mx.array:
    """Blocks of a store by their numbers [...]: floats [..., P, H, D], float32 if the store holds integers."""
    if isinstance(store, mx.array):
        return store[blocks]
    return from_groups(GroupedStore(store.words[blocks], store.scales[blocks], store.biases[blocks]))
