"""The same arrivals under other options: the scheduler alone, with a model of how long a step takes.

The model is fitted to a recording. It is no better than that: predictions stand beside its error on the very
configuration that was recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from inference.protocol import EngineConfig
from inference.scheduling.pace import prefill_within
from inference.scheduling.plan import Limits, Plan
from inference.scheduling.recording import Arrival, RecordedStep, Recording
from inference.scheduling.request import Request
from inference.scheduling.scheduler import Scheduler
from inference.scheduling.step_time import Features, StepTime, features


@dataclass(frozen=True, slots=True)
class Job:
    """One request of a workload: when it comes, what it asks, and what it is answered."""

    time: float
    request_id: str
    session: str
    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...]
    priority: int = 0


@dataclass
class _Life:
    job: Job
    first: float | None = None
    last: float = 0.0
    tokens: int = 0
    gaps: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a workload. Times are in seconds."""

    seconds: float
    steps: int
    requests: int
    refused: int
    output_tokens: int
    prefill_tokens: int
    """Computed, those again after preemptions included."""
    cached_tokens: int
    preemptions: int
    ttft: tuple[float, float]
    """Median and 95th percentile."""
    itl: tuple[float, float]

    @property
    def tokens_per_second(self) -> float:
        return self.output_tokens / self.seconds if self.seconds else 0.0


def jobs(recording: Recording) -> list[Job]:
    """The recorded requests, each as long as it became. What was answered before the recording is read as a prompt."""
    outputs: dict[str, list[int]] = {}
    for step in recording.steps:
        for output in step.outputs:
            if output.token_id >= 0:
                outputs.setdefault(output.request_id, []).append(output.token_id)
    return [
        Job(e.time, e.request_id, e.session, e.prompt_ids + e.output_ids, tuple(outputs[e.request_id]), e.priority)
        for e in recording.entries
        if isinstance(e, Arrival) and e.request_id in outputs
    ]


def learn(recording: Recording) -> StepTime:
    """How long this machine's steps took. Raises ConfigError for a recording without any."""
    return StepTime.fit(
        [
            (features((d.num_tokens, d.num_computed, d.is_prefill) for d in step.decisions), step.phases.total)
            for step in recording.steps
            if step.decisions
        ]
    )


def recorded(recording: Recording) -> Outcome:
    """What really happened."""
    lives = {job.request_id: _Life(job) for job in jobs(recording)}
    began: float | None = None
    ended = 0.0
    steps = prefill = cached = preemptions = 0
    computed: dict[str, int] = {}
    for entry in recording.entries:
        if not isinstance(entry, RecordedStep) or not entry.decisions:
            continue
        steps += 1
        began = entry.time - entry.phases.total if began is None else began
        ended = entry.time
        preemptions += len(entry.preempted)
        prefill += sum(d.num_tokens for d in entry.decisions if d.is_prefill)
        computed.update(dict.fromkeys(entry.preempted, 0))
        for decision in entry.decisions:
            # What was in the cache and had not been computed for this request came from others.
            cached += max(0, decision.num_computed - computed.get(decision.request_id, 0))
            computed[decision.request_id] = decision.num_computed + decision.num_tokens
        for output in entry.outputs:
            if output.request_id in lives:
                _token(lives[output.request_id], entry.time)
    return _outcome(list(lives.values()), ended - (began or 0.0), steps, prefill, cached, preemptions, 0)


def simulate(work: Sequence[Job], config: EngineConfig, step_time: StepTime, *, num_blocks: int) -> Outcome:
    """Run a workload through the scheduler. What does not fit at all is refused, as by the engine."""
    longest = max((len(job.prompt_ids) + len(job.output_ids) for job in work), default=1)
    scheduler = Scheduler(
        Limits.of(config),
        num_blocks=num_blocks,
        block_size=config.block_size,
        max_model_len=config.max_model_len or longest,
    )
    pending = sorted(work, key=lambda job: job.time, reverse=True)
    lives: dict[Request, _Life] = {}
    ended: list[_Life] = []
    began = now = pending[-1].time if pending else 0.0
    steps = prefill = cached = preemptions = refused = 0
    while pending or lives:
        if not lives:
            now = max(now, pending[-1].time)
        while pending and pending[-1].time <= now:
            job = pending.pop()
            total = min(len(job.prompt_ids) + len(job.output_ids), scheduler.capacity)
            if scheduler.refusal(len(job.prompt_ids)) is not None:
                refused += 1
                continue
            request = Request(job.request_id, job.session, list(job.prompt_ids), total, job.priority)
            lives[request] = _Life(job)
            scheduler.add(request)
        if not lives:
            continue
        pace = None
        if scheduler.prefill_is_due:
            pace = prefill_within(step_time, config.decode_slowdown, scheduler.decoding, scheduler.prefilling)
        plan = scheduler.schedule(pace)
        now += step_time.of(_features(plan))
        steps += 1
        preemptions += len(plan.preempted)
        cached += sum(lookup.cached_tokens for lookup in plan.lookups)
        for chunk in plan.chunks:
            prefill += chunk.num_tokens * chunk.is_prefill
            if chunk.samples:
                life = lives[chunk.request]
                scheduler.append(chunk.request, life.job.output_ids[life.tokens])
                _token(life, now)
                if chunk.request.is_full:
                    scheduler.finish(chunk.request)
                    ended.append(lives.pop(chunk.request))
    return _outcome(ended, now - began, steps, prefill, cached, preemptions, refused)


def _features(plan: Plan) -> Features:
    return features((c.num_tokens, c.num_computed, c.is_prefill) for c in plan.chunks)


def _token(life: _Life, now: float) -> None:
    if life.first is None:
        life.first = now
    else:
        life.gaps.append(now - life.last)
    life.last = now
    life.tokens += 1


def _outcome(
    lives: list[_Life], seconds: float, steps: int, prefill: int, cached: int, preemptions: int, refused: int
) -> Outcome:
    ttfts = sorted(life.first - life.job.time for life in lives if life.first is not None)
    gaps = sorted(gap for life in lives for gap in life.gaps)
    return Outcome(
        seconds,
        steps,
        len(lives),
        refused,
        sum(life.tokens for life in lives),
        prefill,
        cached,
        preemptions,
        (_quantile(ttfts, 0.5), _quantile(ttfts, 0.95)),
        (_quantile(gaps, 0.5), _quantile(gaps, 0.95)),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    """By linear interpolation; 0 for nothing."""
    if not ordered:
        return 0.0
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
