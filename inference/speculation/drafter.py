"""A small model that drafts for a large one, over a KV pool that lies block by block beside the large one's.

It reads the same block tables, so prefix hits, preemptions and shared blocks hold for both, and only one set of books
is kept. What it has not computed of a text, because nobody drafted then, it computes when it is asked to again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

import mlx.core as mx

from inference.model.qwen2 import Qwen2
from inference.ops.paged import RaggedLayout

CATCH_UP = 512
"""Most tokens of one text that it reads in a step. One that is further behind gets no drafts until it has caught up."""


@dataclass(frozen=True, slots=True)
class Text:
    """One request of a step, as the drafter needs to know it."""

    key: Hashable
    """The same from step to step."""
    admission: int
    """Counts how often it has been admitted: each time the cache begins anew with what the prefix cache had."""
    tokens: Callable[[int, int], Sequence[int]]
    """Those of a stretch of it, by where it starts and stops; most of a long text is never asked for again."""
    length: int
    """What the large model has computed once the step is done, without drafts."""
    block_table: Sequence[int]
    """Has room for these and for the drafts."""
    cached: int
    """Tokens that the prefix cache had when it was admitted."""
    drafts: int
    """Tokens to draft after these."""


Choose = Callable[[mx.array, Sequence[Hashable], Sequence[Sequence[int]]], list[int]]
"""From logits [R, V'] of the tokens that both models have, the texts' keys and what was drafted of each so far, to the
next token of each."""


@dataclass(slots=True)
class _Progress:
    admission: int
    computed: int
    """Tokens of the text whose K and V are in the pool."""
    full: int = 0
    """Blocks that these fill, as far as they are known to be complete."""
    ahead: list[int] = field(default_factory=list)
    """Drafts after those, whose K and V are there as well."""


class Drafter:
    """Drafts for a batch at a time. All is evaluated before a method returns."""

    def __init__(self, model: Qwen2, *, num_blocks: int, block_size: int, vocab_size: int) -> None:
        """`vocab_size`: the rows of the large model's logits, which its own may be fewer or more than."""
        self._model = model
        self._num_blocks = num_blocks
        self._block_size = block_size
        self._vocab_size = vocab_size
        self._progress: dict[Hashable, _Progress] = {}
        self._complete: set[int] = set()
        """Blocks that are full, and whose tokens it has computed as well."""
        self._kv = model.new_cache(num_blocks, block_size)

    @property
    def model(self) -> Qwen2:
        return self._model

    def reset(self) -> None:
        """Begin with an empty pool."""
        self._progress.clear()
        self._complete.clear()
        self._kv = self._model.new_cache(self._num_blocks, self._block_size)

    def reused(self, blocks: Iterable[int]) -> None:
        """These hold nothing of what they held before. To be told at every step, whether anybody drafts or not."""
        self._complete.difference_update(blocks)

    def forget(self, keys: Iterable[Hashable]) -> None:
        """These texts have ended."""
        for key in keys:
            self._progress.pop(key, None)

    def behind(self, key: Hashable, num_tokens: int) -> int:
        """Tokens of a text of that length that it has not computed; all, if it does not know it yet."""
        progress = self._progress.get(key)
        return num_tokens - (progress.computed if progress else 0)

    def draft(self, texts: Sequence[Text], choose: Choose) -> dict[Hashable, list[int]]:
        """Catch up with all texts and draft for those that ask; the tokens by key, as many as were asked for."""
        for text in texts:
            self._meet(text)
        reading = [t for t in texts if self._progress[t.key].computed < t.length]
        if not reading:
            return {}
        ends = [min(t.length, self._progress[t.key].computed + CATCH_UP) for t in reading]
        parts = [t.tokens(self._progress[t.key].computed, end) for t, end in zip(reading, ends, strict=True)]
        hidden, layout = self._forward(parts, ends, reading)
        for text, end in zip(reading, ends, strict=True):
            self._read(text, end)
        drafting = [i for i, t in enumerate(reading) if t.drafts and ends[i] == t.length]
        drafts: dict[Hashable, list[int]] = {reading[i].key: [] for i in drafting}
        if not drafting:
            mx.eval(hidden, self._kv.arrays)
            return {}
        texts = [reading[i] for i in drafting]
        rows = hidden[mx.array([layout.last_rows[i] for i in drafting])]
        while True:
            keys = [t.key for t in texts]
            chosen = choose(self._logits(rows), keys, [drafts[key] for key in keys])
            for key, token in zip(keys, chosen, strict=True):
                drafts[key].append(token)
            texts = [t for t in texts if len(drafts[t.key]) < t.drafts]
            if not texts:
                return drafts
            for text in texts:
                self._progress[text.key].ahead.append(drafts[text.key][-1])
            last = [drafts[t.key][-1:] for t in texts]
            rows, _ = self._forward(last, [t.length + len(drafts[t.key]) for t in texts], texts)

    def _meet(self, text: Text) -> None:
        """Bring up to date what is known of a text: what was drafted may have become part of it or not."""
        progress = self._progress.get(text.key)
        if progress is None or progress.admission != text.admission:
            known = 0
            for block in text.block_table[: text.cached // self._block_size]:
                if block not in self._complete:
                    break
                known += self._block_size
            progress = self._progress[text.key] = _Progress(text.admission, known)
        known = min(text.length, progress.computed + len(progress.ahead))
        for drafted, token in zip(progress.ahead, text.tokens(progress.computed, known), strict=False):
            if drafted != token:
                break
            progress.computed += 1
        progress.ahead.clear()
        self._read(text, progress.computed)

    def _read(self, text: Text, computed: int) -> None:
        progress, size = self._progress[text.key], self._block_size
        self._complete.update(text.block_table[progress.full : computed // size])
        progress.computed, progress.full = computed, computed // size

    def _forward(
        self, parts: Sequence[Sequence[int]], ends: Sequence[int], texts: Sequence[Text]
    ) -> tuple[mx.array, RaggedLayout]:
        layout = RaggedLayout.build([len(p) for p in parts], ends, [t.block_table for t in texts], self._block_size)
        # A token that it has no row for is some other to it; its guesses suffer, nothing else.
        known = self._model.config.vocab_size
        token_ids = mx.array([token if token < known else 0 for part in parts for token in part], dtype=mx.int32)
        return self._model.forward(token_ids, layout, self._kv), layout

    def _logits(self, rows: mx.array) -> mx.array:
        """No wider than the large model's: a draw looks at every logit, and one for none of its tokens is never it.

        Evaluated: the next forward pass reads what this one writes.
        """
        logits = self._model.logits(rows)[:, : self._vocab_size]
        mx.eval(logits, self._kv.arrays)
        return logits
