"""Qwen2 and Qwen2.5 (Yang et al. 2024, "Qwen2 technical report"), from array operations alone."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from inference.model.config import ModelConfig
from inference.ops.decoder_layer import LayerWeights
from inference.ops.demands import Demands
from inference.ops.kv_store import KVFormat
from inference.ops.paged import PagedKV, RaggedLayout
from inference.ops.table import OpTable
from inference.ops.weights import Weight


class Qwen2:
    """A decoder over a paged KV cache. It keeps no state of a sequence: all of that is in the layout and the cache."""

    def __init__(
        self,
        config: ModelConfig,
        embedding: Weight,
        layers: Sequence[LayerWeights],
        norm: mx.array,
        head: Weight,
        ops: OpTable,
        demands: Demands,
    ) -> None:
        """`head` [V, E] is the embedding itself where the two are tied; `demands` is what this model asks of `ops`."""
        self.config = config
        self.demands = demands
        self._ops = ops
        self._embedding = embedding
        self._layers = list(layers)
        self._norm = norm
        self._head = head

    @property
    def ops(self) -> OpTable:
        return self._ops

    def use(self, ops: OpTable) -> None:
        """Compute by another table from the next step on.

        Where the two read weights in different orders, all are rearranged now, one layer after another, so that no
        more than a layer is held twice.
        """
        if ops.reads_packed != self._ops.reads_packed:
            tied = self._head is self._embedding
            self._embedding = ops.arrange(self._embedding)
            self._head = self._embedding if tied else ops.arrange(self._head)
            for i, layer in enumerate(self._layers):
                self._layers[i] = layer.rearranged(ops.arrange)
        self._ops = ops

    @property
    def lookup_bytes(self) -> int:
        """Of the weights, those of an embedding that is not the head as well: a step reads only a few of its rows."""
        return 0 if self._head is self._embedding else self._embedding.nbytes

    @property
    def dtype(self) -> mx.Dtype:
        """The type of activations."""
        return self._norm.dtype

    def forward(self, token_ids: mx.array, layout: RaggedLayout, kv: PagedKV) -> mx.array:
        """Run token_ids [T] through all layers, adding their keys and values to `kv`.

        Returns the hidden states [T, E] before the final norm, which `logits` applies to the rows that need it. The
        result and the cache are lazy: where no logits are taken, evaluate both, the result and `kv.arrays`.
        """
        x = self._ops.embedding(token_ids, self._embedding)
        for i, weights in enumerate(self._layers):
            x = self._ops.decoder_layer(x, weights, i, kv, layout)
        return x

    def logits(self, hidden: mx.array) -> mx.array:
        """Rows of `forward`'s result, [R, E], to next-token logits [R, V] in float32."""
        normed = self._ops.rms_norm(hidden, self._norm, self.config.rms_norm_eps)
        return self._ops.linear(normed, self._head).astype(mx.float32)

    def kv_format(self, name: str) -> KVFormat:
        """What `kv_cache_dtype` means for this model. Raises ConfigError for what its heads can't be kept in."""
        return KVFormat.named(name, self.dtype, self.config.head_dim)

    def new_cache(self, num_blocks: int, block_size: int, kept: KVFormat | None = None) -> PagedKV:
        """An empty KV pool of this model's shape; without a format, of its type."""
        config = self.config
        return PagedKV.allocate(
            config.num_hidden_layers,
            num_blocks,
            block_size,
            config.num_key_value_heads,
            config.head_dim,
            kept or KVFormat(self.dtype),
        )
