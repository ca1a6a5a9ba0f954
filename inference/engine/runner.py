"""The part of the engine that computes: it owns the model and the KV pool's arrays."""

from __future__ import annotations

import mlx.core as mx

from inference.engine.batch import Batch
from inference.model.qwen2 import Qwen2
from inference.ops.demands import Demands
from inference.ops.kv_store import KVFormat
from inference.ops.table import OpTable

_CACHE_LIMIT = 512 << 20
"""Bytes of freed buffers that MLX may keep. Ragged steps rarely ask for the same sizes twice, and by default MLX keeps
all that the machine's memory holds. Batches of 16 on the demo model make it keep 32 MiB."""


class Runner:
    """Runs one batch at a time. All is evaluated before a method returns, so that errors and times are its own."""

    def __init__(self, model: Qwen2, *, num_blocks: int, block_size: int, kept: KVFormat) -> None:
        self._model = model
        self._num_blocks = num_blocks
        self._block_size = block_size
        self._kept = kept
        mx.set_cache_limit(_CACHE_LIMIT)
        self._kv = model.new_cache(num_blocks, block_size, kept)

    @property
    def ops(self) -> OpTable:
        return self._model.ops

    @ops.setter
    def ops(self, table: OpTable) -> None:
        """All implementations read and write the same KV layout, so this may change between any two steps."""
        self._model.use(table)

    def demands(self, activations: str, kept: KVFormat) -> Demands:
        """What the model asks of the operations with these options."""
        return self._model.demands.under(activations, kept.name)

    @property
    def kept(self) -> KVFormat:
        """How the pool's keys and values are kept."""
        return self._kept

    def format(self, name: str) -> KVFormat:
        """What a `kv_cache_dtype` means for this model. Raises ConfigError for what it can't be kept in."""
        return self._model.kv_format(name)

    def keep(self, kept: KVFormat) -> None:
        """Begin with an empty pool of another format."""
        self._kept = kept
        self.reset()

    def compute(self, batch: Batch) -> mx.array | None:
        """Write the batch's K and V to the pool; logits [R, V] float32 of its sampling rows, None if it has none."""
        hidden = self._model.forward(batch.token_ids, batch.layout, self._kv)
        if not batch.sampling:
            mx.eval(hidden, self._kv.arrays)
            return None
        logits = self._model.logits(hidden[batch.sampling_rows])
        mx.eval(logits, self._kv.arrays)
        return logits

    def reset(self) -> None:
        """Begin with an empty pool, as after a failure, when nothing in the old one can be trusted."""
        self._kv = None  # type: ignore[assignment]  # lets go of the old pool before the new one is allocated
        mx.clear_cache()
        self._kv = self._model.new_cache(self._num_blocks, self._block_size, self._kept)
