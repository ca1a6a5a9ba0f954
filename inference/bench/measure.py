"""Runs a workload on an engine, and reads what happened from its events alone."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from inference.bench.workload import Workload
from inference.engine.engine import Engine
from inference.errors import RequestError
from inference.protocol import Delta, Event, Finished, FinishReason, PhaseTimes, StepRecord


@dataclass(frozen=True, slots=True)
class Run:
    """One pass over a workload. Times in seconds, speeds in tokens per second."""

    prefill_speed: float
    """Prompt tokens by the time from the first submission to the end of the last step that computed any of them."""
    decode_speed: float
    """Output tokens by all requests together, by the time of the steps that computed no prompt."""
    total_speed: float
    """Output tokens by the time of the whole run, prefill included."""
    ttft: float
    """Median over the requests: from arrival to the first token."""
    itl_p50: float
    itl_p95: float
    """Time between two tokens of the same request; tokens of one step share the time since the step before."""
    steps: int
    phases: PhaseTimes
    """Mean over the steps."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over several runs."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])


@dataclass(frozen=True, slots=True)
class Result:
    """A workload with the spread of each figure over its runs."""

    workload: Workload
    prefill_speed: Spread
    decode_speed: Spread
    total_speed: Spread
    ttft: Spread
    itl_p50: Spread
    itl_p95: Spread
    steps: int
    phases: PhaseTimes

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def measure(engine: Engine, workload: Workload, *, runs: int, avoid: Sequence[int]) -> Result:
    """Run `workload` `runs` times (after nothing: warm the engine up first) and summarise.

    Raises RequestError if the engine refuses the workload: it does not fit the context or the KV pool.
    """
    passes = [run_once(engine, workload, avoid) for _ in range(runs)]
    spread = {name: Spread.of(getattr(p, name) for p in passes) for name in _FIGURES}
    return Result(workload, **spread, steps=passes[-1].steps, phases=passes[-1].phases)


_FIGURES = ("prefill_speed", "decode_speed", "total_speed", "ttft", "itl_p50", "itl_p95")


def run_once(engine: Engine, workload: Workload, avoid: Sequence[int]) -> Run:
    """One pass. Raises RequestError like `measure`."""
    requests = workload.requests(engine.model_info.vocab_size, avoid)
    engine.forget_prefixes()  # or the second pass would compute no prompt
    start = time.perf_counter()
    stamped: list[tuple[float, Event]] = []
    for request in requests:
        stamped += [(time.perf_counter() - start, event) for event in engine.submit(request)]
    while engine.has_work:
        events = engine.step()
        now = time.perf_counter() - start
        stamped += [(now, event) for event in events]
    return _summarise(stamped, workload)


def _summarise(stamped: Sequence[tuple[float, Event]], workload: Workload) -> Run:
    token_times: dict[str, list[float]] = defaultdict(list)
    records: list[StepRecord] = []
    prefill_end = decode_time = 0.0
    previous = 0.0
    for now, event in stamped:
        match event:
            case Delta():
                token_times[event.request_id] += [now] * len(event.token_ids)
            case Finished(reason=FinishReason.ERROR):
                raise RequestError(event.message)
            case StepRecord():
                records.append(event)
                if event.prefill_tokens:
                    prefill_end = now
                else:
                    decode_time += now - previous
                previous = now
    decoded = sum(r.sampled_tokens for r in records if not r.prefill_tokens)
    gaps = [gap for times in token_times.values() for gap in _gaps(times)]
    return Run(
        prefill_speed=workload.prompt_tokens * workload.concurrency / prefill_end,
        decode_speed=decoded / decode_time if decode_time else 0.0,
        total_speed=sum(map(len, token_times.values())) / previous,
        ttft=statistics.median(times[0] for times in token_times.values()),
        itl_p50=_percentile(gaps, 50),
        itl_p95=_percentile(gaps, 95),
        steps=len(records),
        phases=PhaseTimes.mean([r.phases for r in records]),
    )


def _gaps(times: Sequence[float]) -> list[float]:
    """Between one request's tokens, from when each came: what came together was as long in coming."""
    together = Counter(times)
    return [(b - a) / together[b] for a, b in pairwise(together) for _ in range(together[b])]


def _percentile(values: Sequence[float], percent: int) -> float:
    """Nearest-rank percentile; 0 of nothing (a single token has no gap after it)."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
