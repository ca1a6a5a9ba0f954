"""A load as chats make it, through the real scheduler: sessions ask, are answered, wait and ask again.

How long a step takes is given by no formula that anybody fits.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from inference.protocol import BlockCounts, EngineConfig, PhaseTimes, StepRecord
from inference.scheduling.pace import Pace
from inference.scheduling.plan import Limits
from inference.scheduling.request import Request
from inference.scheduling.scheduler import Scheduler

Machine = Callable[[random.Random, float], float]
"""How much longer than usual a step takes at a time."""


class LiveLoad:
    """Makes one step after another. Nobody decides what is in them but the sessions."""

    def __init__(self, rng: random.Random, machine: Machine) -> None:
        self._rng, self._machine = rng, machine
        self._config = EngineConfig()
        self._scheduler = Scheduler(Limits.of(self._config), num_blocks=600, block_size=16, max_model_len=2048)
        self._pace = Pace()
        self._asks_at = [rng.expovariate(1 / 1.5) for _ in range(rng.randint(1, 7))]
        """When each session asks again; infinity while it is being answered."""
        self._texts = [self._tokens(rng.randint(20, 80)) for _ in self._asks_at]
        self._live: dict[Request, int] = {}
        self._now = rng.uniform(0, 10)
        self._steps = 0

    def _tokens(self, count: int) -> list[int]:
        return [self._rng.randrange(4096) for _ in range(count)]

    def _ask(self, session: int) -> None:
        text = self._texts[session]
        if len(text) > 1200:
            text.clear()
        text += self._tokens(min(800, int(self._rng.lognormvariate(4, 1)) + 3))
        answer = self._rng.randint(5, 160)
        request = Request(f"{session}/{self._steps}", str(session), list(text), len(text) + answer)
        self._live[request] = session
        self._scheduler.add(request)
        self._asks_at[session] = math.inf

    def step(self, factor: float) -> StepRecord:
        """The next one, `factor` times as long as it would be."""
        if not self._live:
            self._now = max(self._now, min(self._asks_at))
        for session, when in enumerate(self._asks_at):
            if when <= self._now:
                self._ask(session)
        self._steps += 1
        pace = None
        if self._scheduler.prefill_is_due:
            pace = self._pace.prefill(
                self._config.decode_slowdown, self._scheduler.decoding, self._scheduler.prefilling
            )
        plan = self._scheduler.schedule(pace)
        scheduled = tuple(chunk.describe() for chunk in plan.chunks)
        seconds = factor * self._machine(self._rng, self._now) * self._seconds(len(scheduled), plan.num_tokens)
        seconds += factor * 2e-6 * sum(chunk.num_tokens * chunk.num_computed / 100 for chunk in plan.chunks)
        self._now += seconds
        self._pace.observe(scheduled, seconds)
        for chunk in plan.chunks:
            if chunk.samples:
                self._scheduler.append(chunk.request, self._rng.randrange(4096))
                if chunk.request.is_full:
                    session = self._live.pop(chunk.request)
                    self._texts[session] += chunk.request.output_ids
                    self._scheduler.finish(chunk.request)
                    self._asks_at[session] = self._now + self._rng.expovariate(1 / 1.5)
        return StepRecord(
            step=self._steps,
            time=self._now,
            scheduled=scheduled,
            unscheduled=(),
            preempted=plan.preempted,
            finished=(),
            requests=(),
            blocks=BlockCounts(600, 0, 600),
            phases=PhaseTimes(compute=seconds),
            config=self._config,
        )

    @staticmethod
    def _seconds(requests: int, tokens: int) -> float:
        """Rows come in fours, many are cheaper each than few, and every request costs something by itself."""
        rows = 4 * math.ceil(tokens / 4)
        return 0.006 + 0.0009 * rows**0.85 + 0.0003 * requests
