"""Made-up requests, for simulations at scales that no machine at hand can run."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from inference.scheduling.what_if import Job


@dataclass(frozen=True, slots=True)
class MadeUp:
    """A load of requests that are all there at once, of `concurrent` sessions in turn."""

    requests: int
    concurrent: int
    prompt_tokens: int
    """Of each, from half to twice as many."""
    gen_tokens: int
    """The same."""


def made_up(load: MadeUp, seed: int = 0) -> list[Job]:
    rng = Random(seed)

    def about(mean: int) -> int:
        return max(1, round(mean * 2 ** rng.uniform(-1, 1)))

    return [
        Job(
            time=0.0,
            request_id=f"r{i}",
            session=f"s{i % load.concurrent}",
            prompt_ids=tuple(rng.choices(range(50_000), k=about(load.prompt_tokens))),
            output_ids=tuple(rng.choices(range(50_000), k=about(load.gen_tokens))),
        )
        for i in range(load.requests)
    ]
