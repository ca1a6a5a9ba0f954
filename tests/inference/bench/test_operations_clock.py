"""A step taken apart on a clock that ticks whenever it is read: every time is a count."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.bench import operations as module
from inference.bench.operations import REST, take_apart
from inference.model.loader import load
from tests.inference import tiny


class Ticks:
    """Each reading is a second later than the one before."""

    now = 0.0

    def perf_counter(self) -> float:
        self.now += 1.0
        return self.now


@pytest.mark.parametrize("kernels", ["auto", "reference"])
def test_a_step_is_timed_as_a_whole_and_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernels: str) -> None:
    model = load(str(tiny.checkpoint(tmp_path)), kernels=kernels).model
    monkeypatch.setattr(module, "time", Ticks())
    step = take_apart(model, "a step", (1, 5), (9, 5), block_size=4, kept=model.kv_format("auto"), repeats=2)
    assert step.together == 1.0, "nothing inside it looks at the clock"
    by_name = {each.operation: each for each in step.operations}
    rest = by_name.pop(REST)
    assert all(each.seconds == each.calls for each in by_name.values())
    # Every call reads the clock twice: a tick inside it, and one before it that belongs to no operation.
    assert rest.seconds == 1.0 + sum(each.calls for each in by_name.values())
