"""What those who are being answered notice of a long prompt: the time between their tokens without it and beside it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from inference.bench.measure import Spread
from inference.bench.workload import Workload
from inference.engine.engine import Engine
from inference.errors import RequestError
from inference.protocol import Delta, EngineConfig, Finished, FinishReason, StepRecord

SESSIONS = 3
ALONE = 24
"""Tokens that each of them gets before the long prompt comes, the first few of which are not counted."""
WARM = 8
SHIELDED = EngineConfig().decode_slowdown


@dataclass(frozen=True, slots=True)
class Intrusion:
    """A prompt that came while others were decoding. Times in seconds, over several runs."""

    slowdown: int
    """The option in force; 0 for no limit."""
    prompt_tokens: int
    alone: Spread
    """Median time between two tokens of one session before the prompt came."""
    beside: Spread
    """The same while it was read."""
    longest: Spread
    ratio: Spread
    """`beside` by `alone`, run by run."""
    ttft: Spread
    """Of the long prompt."""


def intrude(
    engine: Engine,
    prompt_tokens: int,
    slowdown: int,
    *,
    runs: int,
    avoid: Sequence[int],
    progress: Callable[[str], None],
) -> Intrusion:
    """Let three sessions decode, send the prompt, and watch.

    The option is as before afterwards. Raises RequestError if the prompt does not fit the context or the KV pool.
    """
    before = next(int(option.requested) for option in engine.options if option.name == "decode_slowdown")
    engine.configure({"decode_slowdown": slowdown})
    try:
        found = []
        for run in range(runs):
            progress(f"{prompt_tokens} tokens beside {SESSIONS} sessions, decode_slowdown {slowdown}, run {run + 1}")
            found.append(_run(engine, prompt_tokens, avoid))
    finally:
        engine.configure({"decode_slowdown": before})
    alone, beside, longest, ttft = zip(*found, strict=True)
    ratios = [b / a for a, b in zip(alone, beside, strict=True)]
    spreads = [Spread.of(values) for values in (alone, beside, longest, ratios, ttft)]
    return Intrusion(slowdown, prompt_tokens, *spreads)


def _run(engine: Engine, prompt_tokens: int, avoid: Sequence[int]) -> tuple[float, float, float, float]:
    """Median gap alone, median and longest gap beside the prompt, and the prompt's time to its first token."""
    vocab_size = engine.model_info.vocab_size
    (long,) = Workload(prompt_tokens, 1, 1).requests(vocab_size, avoid)
    long = replace(long, request_id="long", session="long")
    engine.forget_prefixes()
    sessions = [r.request_id for r in Workload(32, 4, SESSIONS).requests(vocab_size, avoid)]
    for request in Workload(32, 4, SESSIONS).requests(vocab_size, avoid):
        endless = replace(request.params, max_tokens=None)
        engine.submit(replace(request, params=endless))
    last: dict[str, float] = {}
    gaps: list[float] = []
    tokens = 0
    sent = 0.0
    alone = 0.0
    try:
        while True:
            if not sent and tokens >= ALONE * SESSIONS:
                alone = statistics.median(gaps[WARM * SESSIONS :])
                gaps.clear()
                sent = time.perf_counter()
                refused = [e.message for e in engine.submit(long) if isinstance(e, Finished)]
                if refused:
                    raise RequestError(refused[0])
            for event in engine.step():
                now = time.perf_counter()
                match event:
                    case Delta(request_id="long"):
                        # The step that ends the prompt belongs to it, and its gaps stand before it or after it here.
                        return alone, statistics.median(gaps), max(gaps), now - sent
                    case Delta():
                        if event.request_id in last:
                            gaps.append(now - last[event.request_id])
                        last[event.request_id] = now
                        tokens += 1
                    case Finished(reason=FinishReason.ERROR):
                        raise RequestError(event.message)
                    case StepRecord():
                        pass
    finally:
        for request_id in (*sessions, "long"):
            engine.abort(request_id)
        while engine.has_work:
            engine.step()
