"""What can be done with a recording: repeat it, change it, or look at it elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from inference.errors import ConfigError
from inference.scheduling import what_if
from inference.scheduling.recording import Recording, read
from inference.scheduling.replay import Replayed, replay
from inference.scheduling.step_time import StepTime
from inference.scheduling.trace import trace
from inference.scheduling.what_if import Outcome
from inference.scheduling.workloads import MadeUp as MadeUp
from inference.scheduling.workloads import made_up


@dataclass(frozen=True, slots=True)
class WhatIf:
    """One workload in several ways; times are in seconds."""

    step_time: StepTime
    outcomes: tuple[tuple[str, Outcome], ...]
    """Each with what it is, the recorded one first if there is one."""

    @property
    def error(self) -> float | None:
        """Of the prediction for what was recorded, as a share of the time it took; None without one."""
        by_name = dict(self.outcomes)
        if RECORDED not in by_name or not by_name[RECORDED].seconds:
            return None
        return abs(by_name[PREDICTED].seconds / by_name[RECORDED].seconds - 1)

    def as_dict(self) -> dict[str, Any]:
        return {
            "step_time": asdict(self.step_time),
            "error": self.error,
            "outcomes": {name: asdict(outcome) for name, outcome in self.outcomes},
        }


RECORDED, PREDICTED, CHANGED = "recorded", "predicted for it", "with the change"


def replayed(file: Path) -> Replayed:
    """Raises ConfigError for what is no recording, like the others here."""
    return replay(read(file))


def under(file: Path, changes: Mapping[str, Any], load: MadeUp | None) -> WhatIf:
    """The recorded requests under changed options, or a made-up load under the recorded ones and the changes."""
    recording = read(file)
    changed = replace(recording.header.config, **changes)
    step_time = what_if.learn(recording)
    blocks = changes.get("num_kv_blocks") or _blocks(recording)
    if load is not None:
        # Made-up texts may be longer than the recorded model's.
        longest, most = changes.get("max_model_len", 0), max(changed.max_num_seqs, load.concurrent)
        changed = replace(changed, max_num_seqs=most, max_model_len=longest)
        outcome = what_if.simulate(made_up(load), changed, step_time, num_blocks=blocks)
        return WhatIf(step_time, ((PREDICTED, outcome),))
    work = what_if.jobs(recording)
    outcomes = [
        (RECORDED, what_if.recorded(recording)),
        (PREDICTED, what_if.simulate(work, recording.header.config, step_time, num_blocks=_blocks(recording))),
    ]
    if changes:
        outcomes.append((CHANGED, what_if.simulate(work, changed, step_time, num_blocks=blocks)))
    return WhatIf(step_time, tuple(outcomes))


def _blocks(recording: Recording) -> int:
    return recording.header.num_blocks


def write_trace(file: Path, output: Path) -> int:
    """Write a recording as a trace for Perfetto; returns its number of events."""
    found = trace(read(file))
    try:
        output.write_text(json.dumps(found), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the trace {output} can't be written: {error}") from None
    return len(found["traceEvents"])
