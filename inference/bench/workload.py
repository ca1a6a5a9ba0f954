"""What a benchmark asks the engine to do: prompts of random tokens, so that no figure depends on a text."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

from inference.protocol import SamplingParams, Submit, TokenPrompt


@dataclass(frozen=True, slots=True)
class Workload:
    """`concurrency` requests that arrive together, each with its own prompt and exactly `gen_tokens` of output."""

    prompt_tokens: int
    gen_tokens: int
    concurrency: int
    seed: int = 0

    def requests(self, vocab_size: int, avoid: Collection[int]) -> list[Submit]:
        """Greedy requests that ignore end-of-text tokens; `avoid` are ids that a prompt should not hold."""
        numbers = random.Random(f"{self.seed}/{self.prompt_tokens}/{self.concurrency}")
        usable = [token for token in range(vocab_size) if token not in avoid]
        params = SamplingParams(temperature=0, max_tokens=self.gen_tokens, ignore_eos=True)
        return [
            Submit(
                f"bench-{i}", f"bench-{i}", TokenPrompt(tuple(numbers.choices(usable, k=self.prompt_tokens))), params
            )
            for i in range(self.concurrency)
        ]
