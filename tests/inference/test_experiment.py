"""Before and after, on a simulated clock: chance is seldom taken for an effect, and a tenth is found."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.experiment import CHANCE, PAIRS, Experiment, judge, order
from inference.protocol import (
    BlockCounts,
    EngineConfig,
    FinishReason,
    PhaseTimes,
    RequestRow,
    RequestState,
    StepRecord,
    Submit,
)

Machine = Callable[[random.Random, float], float]
"""How much longer than usual a step takes at a time."""


def steady(rng: random.Random, now: float) -> float:
    return math.exp(rng.gauss(0, 0.08))


def with_spikes(rng: random.Random, now: float) -> float:
    """Now and then something else wants the processor."""
    return steady(rng, now) * (6 if rng.random() < 0.01 else 1)


def warming_up(rng: random.Random, now: float) -> float:
    """Slower from minute to minute."""
    return steady(rng, now) * (1 + now / 20)


def shared(rng: random.Random, now: float) -> float:
    """Others come and go in waves that are longer than a window."""
    return steady(rng, now) * (1.15 + 0.15 * math.sin(now * 1.7))


def run(machine: Machine, rng: random.Random, effect: float) -> Experiment:
    """An experiment on an engine whose steps take 20 ms, `effect` times as long with the option changed."""
    experiment = Experiment({"max_num_seqs": 4}, {"max_num_seqs": 8}, vocab_size=4096)
    now, number = rng.uniform(0, 10), 0
    while not experiment.done:
        changes, requests = experiment.begin_next()
        factor = effect if changes["max_num_seqs"] == 8 else 1.0
        for step in range(18):
            number += 1
            seconds = 0.02 * factor * machine(rng, now)
            now += seconds
            experiment.on_record(record(number, requests, seconds, last=step == 17))
    return experiment


def record(number: int, requests: list[Submit], seconds: float, *, last: bool, ours: bool = True) -> StepRecord:
    rows = tuple(
        RequestRow(r.request_id, r.session, RequestState.RUNNING, 80, 1, 80, 5, 0)
        for r in requests
        if ours and not last
    )
    return StepRecord(
        step=number,
        time=0.0,
        scheduled=(),
        unscheduled=(),
        preempted=(),
        finished=tuple((r.request_id, FinishReason.LENGTH) for r in requests) if last else (),
        requests=rows,
        blocks=BlockCounts(8, 0, 8),
        phases=PhaseTimes(compute=seconds),
        config=EngineConfig(),
    )


@pytest.mark.parametrize("machine", [steady, with_spikes, warming_up, shared])
def test_without_an_effect_at_most_five_of_a_hundred_trials_report_one(machine: Machine) -> None:
    rng = random.Random(machine.__name__)
    reported = sum(judge(run(machine, rng, 1.0).measured()).significant for _ in range(100))
    assert reported <= 5


@pytest.mark.parametrize("machine", [steady, with_spikes, warming_up, shared])
def test_a_tenth_is_found_in_at_least_95_of_a_hundred_trials(machine: Machine) -> None:
    rng = random.Random(machine.__name__)
    verdicts = [judge(run(machine, rng, 1.1).measured()) for _ in range(100)]
    found = [v for v in verdicts if v.significant and v.ratio > 1]
    assert len(found) >= 95
    assert all(1.0 < v.ratio < 1.25 for v in found)


def test_the_verdict_says_how_much_and_in_which_direction() -> None:
    pairs = [(1.0, 0.8 + 0.001 * i) for i in range(PAIRS)]
    verdict = judge(pairs)
    assert verdict.sentence() == "20% faster"
    assert (verdict.before, verdict.chance) == (1.0, 2 / 2**PAIRS)
    assert verdict.low < verdict.ratio < verdict.high
    noise = judge([(1.0, 1.0 + 0.01 * (-1) ** i) for i in range(PAIRS)])
    assert noise.sentence() == "no significant change"
    with pytest.raises(ValueError, match="nothing to judge"):
        judge([])


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=1, max_size=9))
def test_the_verdict_is_the_same_from_the_other_side(pairs: list[tuple[float, float]]) -> None:
    there, back = judge(pairs), judge([(after, before) for before, after in pairs])
    assert there.chance == pytest.approx(back.chance)
    assert there.ratio == pytest.approx(1 / back.ratio)
    assert 0 < there.chance <= 1
    # Few pairs can't say much: even if all agree, they would in one of 2^(n - 1) cases by chance.
    assert there.chance >= 2 ** (1 - len(pairs)) * (1 - 1e-9)
    assert not there.significant or 2 ** (1 - len(pairs)) < CHANCE


def test_windows_of_both_kinds_stand_side_by_side_in_turned_pairs() -> None:
    counted = [window.after for window in order(8) if window.counted]
    assert "".join("AB"[side] for side in counted) == "ABBABAABBAABABBA"
    # What rises steadily, or as a square, has the same share in both kinds.
    for power in (1, 2):
        assert sum(i**power for i, side in enumerate(counted) if side) == sum(
            i**power for i, side in enumerate(counted) if not side
        )


def test_only_steps_that_work_for_the_window_count() -> None:
    experiment = Experiment({"max_num_seqs": 4}, {"max_num_seqs": 8}, vocab_size=4096)
    _, requests = experiment.begin_next()
    assert not experiment.on_record(record(1, requests, 5.0, last=False, ours=False))
    assert not experiment.on_record(record(2, requests, 0.5, last=False))
    assert experiment.open_requests() == [f"measure-0-{i}" for i in range(3)]
    assert experiment.on_record(record(3, requests, 0.25, last=True))
    assert experiment.seconds == {0: 0.75}
    assert experiment.open_requests() == []
    assert not experiment.on_record(record(4, [], 9.0, last=True))


def test_prompts_begin_alike_and_end_as_no_other() -> None:
    experiment = Experiment({}, {}, vocab_size=4096)
    prompts = [r.prompt for _ in range(3) for r in experiment.begin_next()[1]]
    ids = [p.token_ids for p in prompts]  # type: ignore[union-attr]
    assert len({p[:48] for p in ids}) == 1
    assert len({p[48:] for p in ids}) == len(ids)
    assert all(0 <= token < 4096 for p in ids for token in p)
