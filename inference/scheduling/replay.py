"""A recording through the scheduler again: the same decisions, or the first step where they differ."""

from __future__ import annotations

from dataclasses import dataclass

from inference.protocol import EngineConfig, Scheduled
from inference.scheduling.plan import Limits, Plan
from inference.scheduling.recording import Arrival, Change, Departure, RecordedStep, Recording
from inference.scheduling.request import Request
from inference.scheduling.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Replayed:
    """How far a replay came."""

    steps: int
    """Steps that were repeated exactly."""
    difference: str = ""
    """The first step that was not, in a sentence; empty if there is none."""


def replay(recording: Recording) -> Replayed:
    """Schedule everything again, with the recorded tokens in the place of a model's."""
    header = recording.header
    scheduler = Scheduler(
        Limits.of(header.config),
        num_blocks=header.num_blocks,
        block_size=header.block_size,
        max_model_len=header.max_model_len,
    )
    config = header.config
    live: dict[str, Request] = {}
    done = 0
    for entry in recording.entries:
        match entry:
            case Arrival():
                request = request_of(entry)
                live[request.request_id] = request
                scheduler.add(request)
            case Departure(request_id=request_id):
                scheduler.finish(live.pop(request_id))
            case Change(config=changed):
                apply_change(scheduler, config, changed)
                config = changed
            case RecordedStep():
                if entry.failed:
                    return Replayed(done, f"step {entry.step} could not be computed when this was recorded")
                for request in live.values():
                    request.wanted_drafts = entry.wanted_drafts.get(request.request_id, 0)
                if difference := compare(entry, scheduler.schedule(entry.pace)):
                    return Replayed(done, difference)
                for output in entry.outputs:
                    scheduler.append(live[output.request_id], output.token_id)
                    if output.reason:
                        scheduler.finish(live.pop(output.request_id))
                for decision in entry.decisions:
                    if decision.drafts and decision.request_id in live:
                        scheduler.settle(live[decision.request_id])
                done += 1
    return Replayed(done)


def request_of(arrival: Arrival) -> Request:
    return Request(
        arrival.request_id,
        arrival.session,
        list(arrival.prompt_ids),
        arrival.max_total_tokens,
        arrival.priority,
        output_ids=list(arrival.output_ids),
    )


def apply_change(scheduler: Scheduler, before: EngineConfig, after: EngineConfig) -> None:
    """What an engine does to its scheduler when options change."""
    if (after.kv_cache_dtype, after.kv_layout) != (before.kv_cache_dtype, before.kv_layout):
        scheduler.preempt_all()
    if after.activations != before.activations:
        scheduler.forget_prefixes()
    scheduler.limits = Limits.of(after)


def compare(recorded: RecordedStep, plan: Plan) -> str:
    """The first difference between a step and its repetition, as a sentence; empty if there is none."""
    if plan.preempted != recorded.preempted:
        return (
            f"step {recorded.step} preempted {_listed(recorded.preempted)}, and now it preempts "
            f"{_listed(plan.preempted)}"
        )
    decisions = tuple(chunk.describe() for chunk in plan.chunks)
    for before, now in zip(recorded.decisions, decisions, strict=False):
        if before != now:
            return f"step {recorded.step} gave {_said(before)}, and now it gives {_said(now)}"
    if len(decisions) != len(recorded.decisions):
        counts = f"{len(recorded.decisions)} requests, and now it schedules {len(decisions)}"
        return f"step {recorded.step} scheduled {counts}"
    return ""


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nobody"


def _said(decision: Scheduled) -> str:
    end = " up to its last" if decision.samples else ""
    return f"{decision.request_id} {decision.num_tokens} tokens after {decision.num_computed}{end}"
