"""A step taken apart: every operation is timed as often as the model asks for it, and the model is as before."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.bench.operations import REST, take_apart
from inference.model.loader import load
from inference.ops.table import LAYER, OPERATIONS
from tests.inference import tiny


@pytest.mark.parametrize("kernels", ["auto", "reference"])
def test_every_operation_is_counted_and_timed(tmp_path: Path, kernels: str) -> None:
    model = load(str(tiny.checkpoint(tmp_path)), kernels=kernels).model
    before = model.ops
    step = take_apart(model, "a step", (1, 5), (9, 5), block_size=4, kept=model.kv_format("auto"), repeats=2)
    assert model.ops is before
    by_name = {each.operation: each for each in step.operations}
    assert by_name.keys() == {*OPERATIONS, REST} - {LAYER, "largest", "greedy", "draw", "expert_linear"}
    # The first is these together, others are asked for by sampling, after the step, and this model has no experts.
    layers = 2
    assert {name: each.calls for name, each in by_name.items()} == {
        "linear": 4 * layers + 1,
        "embedding": 1,
        "rms_norm": layers + 1,
        "add_rms_norm": layers,
        "rope": layers,
        "silu_mul": layers,
        "write_kv": layers,
        "paged_attention": layers,
        REST: 0,
    }
    assert all(each.seconds > 0 for each in step.operations)
    assert step.seconds == pytest.approx(sum(each.seconds for each in step.operations))
    assert by_name["linear"].implementation == before.choices()[0].implementation
