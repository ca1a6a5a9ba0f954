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
from inference.protocol import Delta, EngineConfig, Finished, FinishReason, Submit

SESSIONS = 3
WARM, ALONE = 8, 16
"""Tokens that each of them gets before the long prompt comes, of which the first few are not counted; and as many as
are counted after it was read."""
LONG = "long"
"""The name of the prompt that comes."""
SHIELDED = EngineConfig().decode_slowdown


@dataclass(frozen=True, slots=True)
class Intrusion:
    """A prompt that came while others were decoding. Times in seconds, over several runs."""

    slowdown: int
    """The option in force; 0 for no limit."""
    prompt_tokens: int
    alone: Spread
    """Median time between two tokens of one session without the prompt: midway between that before it came and that
    after it was read, as the sessions' own contexts have grown meanwhile."""
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

    The option is as before afterwards. Raises RequestError if the prompt does not fit the context or the KV pool, or
    not beside the sessions.
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
    sessions = Workload(32, 1, SESSIONS).requests(vocab_size, avoid)
    (prompt,) = Workload(prompt_tokens, 1, 1).requests(vocab_size, avoid)
    prompt = replace(prompt, request_id=LONG, session=LONG)
    engine.forget_prefixes()
    last: dict[str, float] = {}
    try:
        for request in sessions:
            _submit(engine, replace(request, params=replace(request.params, max_tokens=None)), last)
        _gaps(engine, last, WARM * SESSIONS)
        before = statistics.median(_gaps(engine, last, ALONE * SESSIONS))
        _submit(engine, prompt, last)
        beside: list[float] = []
        ttft = None
        while ttft is None:
            gaps = _step(engine, last)
            ttft = gaps.pop(LONG, None)
            beside += gaps.values()
        after = statistics.median(_gaps(engine, last, ALONE * SESSIONS))
        return (before + after) / 2, statistics.median(beside), max(beside), ttft
    finally:
        for request_id in (*last, LONG):
            engine.abort(request_id)
        while engine.has_work:
            engine.step()


def _submit(engine: Engine, request: Submit, last: dict[str, float]) -> None:
    last[request.request_id] = time.perf_counter()
    for event in engine.submit(request):
        if isinstance(event, Finished):
            raise RequestError(event.message)


def _gaps(engine: Engine, last: dict[str, float], count: int) -> list[float]:
    """Compute steps until there are so many gaps."""
    gaps: list[float] = []
    while len(gaps) < count:
        gaps += _step(engine, last).values()
    return gaps


def _step(engine: Engine, last: dict[str, float]) -> dict[str, float]:
    """The time since its token before, or since it was sent, of each request that gets a token in the next step.

    `last` says when that was. Raises RequestError if one of the sessions ends.
    """
    events = engine.step()
    now = time.perf_counter()
    gaps: dict[str, float] = {}
    for event in events:
        match event:
            case Delta(request_id=name):
                # Of several tokens in one step, the first ended the wait.
                gaps.setdefault(name, now - last[name])
                last[name] = now
            case Finished(reason=FinishReason.ERROR):
                raise RequestError(event.message)
            case Finished(request_id=name) if name != LONG:
                raise RequestError(
                    f"the {SESSIONS} sessions came to the end of their room before all was measured: raise "
                    "max_model_len, num_kv_blocks or max_num_seqs, or measure a shorter one"
                )
            case _:
                pass
    return gaps
