"""A recording in Chrome's trace format, which Perfetto (ui.perfetto.dev) opens: what ran when, and for whom.

Steps with their phases stand on one track, each session's requests on one of its own, with a slice for every chunk.
Counters follow the batch and the pool. The time that a preempted request is out is a slice, and an arrow leads from it
to where the request is taken up again.
The format: "Trace Event Format" (Google, 2016); times are in microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from inference.scheduling.recording import Arrival, Change, Departure, RecordedStep, Recording

Event = dict[str, Any]

_ENGINE = 1
"""The process id of the engine's tracks; requests have the next one."""
_REQUESTS = 2
_PHASES = ("schedule", "draft", "build", "compute", "sample", "output")
"""In the order in which a step goes through them."""


def trace(recording: Recording) -> dict[str, Any]:
    """The whole trace, to be written as JSON."""
    return {"traceEvents": list(_Writer(recording).events()), "displayTimeUnit": "ms"}


class _Writer:
    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._tracks: dict[str, int] = {}
        """Of each request, by its session."""
        self._sessions: dict[str, int] = {}
        self._robbed: dict[str, float] = {}
        """When requests were preempted that were not yet taken up again."""
        self._flows = 0

    def events(self) -> Iterator[Event]:
        header = self._recording.header
        yield _name("process_name", _ENGINE, 0, f"engine: {header.model}")
        yield _name("process_name", _REQUESTS, 0, "requests")
        yield _name("thread_name", _ENGINE, 1, "steps")
        yield _name("thread_name", _ENGINE, 2, "phases")
        for entry in self._recording.entries:
            match entry:
                case Arrival():
                    yield from self._arrival(entry)
                case Departure(time=time, request_id=request_id):
                    yield from self._end(request_id, time, "aborted")
                case Change(time=time, config=config):
                    yield {**_instant("options change", time, _ENGINE, 1), "args": asdict(config)}
                case RecordedStep():
                    yield from self._step(entry)
        last = max((entry.time for entry in self._recording.entries), default=0.0)
        for name in list(self._robbed):
            yield self._out(name, last)

    def _arrival(self, arrival: Arrival) -> Iterator[Event]:
        if arrival.session not in self._sessions:
            self._sessions[arrival.session] = len(self._sessions) + 1
            yield _name("thread_name", _REQUESTS, self._sessions[arrival.session], arrival.session)
        self._tracks[arrival.request_id] = self._sessions[arrival.session]
        yield {
            **self._async("b", arrival.request_id, arrival.time),
            "args": {"prompt tokens": len(arrival.prompt_ids), "priority": arrival.priority},
        }

    def _step(self, step: RecordedStep) -> Iterator[Event]:
        began = step.time - step.phases.total
        tokens = sum(d.num_tokens for d in step.decisions)
        prefill = sum(d.num_tokens for d in step.decisions if d.is_prefill)
        drafts = sum(d.drafts for d in step.decisions)
        work = {"prefill": prefill, "decode": tokens - prefill - drafts, "draft": drafts}
        yield {
            **_slice(f"step {step.step}", began, step.time, _ENGINE, 1),
            "args": {**{f"{kind} tokens": count for kind, count in work.items()}, "requests": len(step.decisions)},
        }
        at = began
        for phase in _PHASES:
            seconds = getattr(step.phases, phase)
            yield _slice(phase, at, at + seconds, _ENGINE, 2)
            at += seconds
        yield _counter("batch", began, work)
        yield _counter("KV blocks", step.time, {"used": step.used_blocks, "cached": step.cached_blocks})
        for name in step.preempted:
            self._robbed[name] = began
        for decision in step.decisions:
            track, name = self._tracks[decision.request_id], decision.request_id
            kind = "verify" if decision.drafts else "prefill" if decision.is_prefill else "decode"
            yield {
                **_slice(f"{kind} {decision.num_tokens}", began, step.time, _REQUESTS, track),
                "args": {
                    "request": name,
                    "after": decision.num_computed,
                    "samples": decision.samples,
                    "drafts": decision.drafts,
                },
            }
            if name in self._robbed:
                # An arrow begins and ends in slices.
                self._flows += 1
                yield _flow("s", self._flows, self._robbed[name], track)
                yield self._out(name, began)
                yield _flow("f", self._flows, began, track)
        for output in step.outputs:
            if output.reason:
                yield from self._end(output.request_id, step.time, output.reason)

    def _out(self, name: str, until: float) -> Event:
        """The time since a request was preempted."""
        began = self._robbed.pop(name)
        event = _slice("preempted", began, until, _REQUESTS, self._tracks[name])
        return {**event, "args": {"request": name}}

    def _end(self, request_id: str, time: float, reason: str) -> Iterator[Event]:
        if request_id in self._robbed:
            yield self._out(request_id, time)
        yield {**self._async("e", request_id, time), "args": {"reason": reason}}

    def _async(self, phase: str, request_id: str, time: float) -> Event:
        return {
            "name": request_id,
            "cat": "request",
            "ph": phase,
            # Its own process's: else the track would stand apart from the requests.
            "id2": {"local": request_id},
            "ts": _micros(time),
            "pid": _REQUESTS,
            "tid": self._tracks[request_id],
        }


def _name(kind: str, process: int, thread: int, name: str) -> Event:
    return {"name": kind, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}


def _micros(time: float) -> float:
    """In whole nanoseconds, as Perfetto keeps times."""
    return round(time * 1e9) / 1000


def _slice(name: str, began: float, ended: float, process: int, thread: int) -> Event:
    # Both ends are rounded, not the length: slices that touch must not overlap by a nanosecond, or they are dropped.
    duration = max(0, round(ended * 1e9) - round(began * 1e9)) / 1000
    return {"name": name, "ph": "X", "ts": _micros(began), "dur": duration, "pid": process, "tid": thread}


def _instant(name: str, time: float, process: int, thread: int) -> Event:
    return {"name": name, "ph": "i", "s": "t", "ts": _micros(time), "pid": process, "tid": thread}


def _counter(name: str, time: float, values: dict[str, int]) -> Event:
    return {"name": name, "ph": "C", "ts": _micros(time), "pid": _ENGINE, "tid": 0, "args": values}


def _flow(phase: str, number: int, time: float, track: int) -> Event:
    event = {"name": "resumption", "cat": "preemption", "ph": phase, "id": number, "ts": _micros(time)}
    return {**event, "pid": _REQUESTS, "tid": track, **({"bp": "e"} if phase == "f" else {})}
