"""A trace of steps that verify drafts."""

from __future__ import annotations

import pytest

from inference.protocol import EngineConfig, PhaseTimes, SamplingParams, Scheduled
from inference.scheduling.recording import Arrival, Header, Output, RecordedStep, Recording
from inference.scheduling.trace import trace


def test_verifying_has_a_name_of_its_own_and_drafting_a_place_in_the_step() -> None:
    phases = PhaseTimes(schedule=0.001, build=0.001, compute=0.01, sample=0.002, output=0.001, draft=0.004)
    decisions = (
        Scheduled("a", "plan", 5, 20, False, True, drafts=4),
        Scheduled("b", "code", 1, 30, False, True),
        Scheduled("c", "logs", 16, 0, True, False),
    )
    arrivals = [Arrival(0.0, name, name, (1, 2), 40, 0, SamplingParams()) for name in "abc"]
    step = RecordedStep(1.0, 1, phases, decisions, (), (Output("a", 7),), 4, 0)
    events = trace(Recording(Header("demo", EngineConfig(), 64, 16, 256), [*arrivals, step]))["traceEvents"]
    slices = {event["name"]: event for event in events if event["ph"] == "X"}
    assert {"verify 5", "decode 1", "prefill 16"} <= set(slices)
    assert slices["verify 5"]["args"]["drafts"] == 4
    assert slices["step 1"]["args"] == {"prefill tokens": 16, "decode tokens": 2, "draft tokens": 4, "requests": 3}
    drafting, building = slices["draft"], slices["build"]
    assert drafting["dur"] == pytest.approx(4000)
    assert building["ts"] == pytest.approx(drafting["ts"] + drafting["dur"])
    (counter,) = [event for event in events if event["ph"] == "C" and event["name"] == "batch"]
    assert counter["args"] == {"prefill": 16, "decode": 2, "draft": 4}
