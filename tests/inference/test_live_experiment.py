"""Before and after on a load that nobody arranged: chance is seldom taken for an effect, and a tenth is found."""

from __future__ import annotations

import math
import random
from dataclasses import fields, replace
from itertools import product

import pytest

from inference.experiment import CHANCE, judge
from inference.live_experiment import COMPARABLE, PAIRS, SETTLING, STEPS, LiveExperiment, Taken, refusal, window_levels
from inference.protocol import EngineConfig, PhaseTimes
from inference.scheduling.step_time import features
from tests.inference.live_load import LiveLoad


def rough(rng: random.Random, now: float) -> float:
    """Noise, spikes, a machine that warms up, and others who come and go in waves."""
    spike = 6 if rng.random() < 0.01 else 1
    return math.exp(rng.gauss(0, 0.08)) * spike * (1 + now / 60) * (1.1 + 0.1 * math.sin(now * 1.7))


def run(rng: random.Random, effect: float, pairs: int = PAIRS) -> LiveExperiment:
    """An experiment beside chats, whose steps take `effect` times as long with the option changed."""
    experiment = LiveExperiment({"kernels": "mlx"}, {"kernels": "auto"}, pairs, rng)
    load = LiveLoad(rng, rough)
    step = 0
    while not experiment.done:
        changes, requests = experiment.begin_next()
        assert requests == []
        experiment.in_force(step + 1)
        factor = effect if changes["kernels"] == "auto" else 1.0
        while not experiment.on_record(record := load.step(factor)):
            pass
        step = record.step
    return experiment


@pytest.mark.slow
def test_without_an_effect_at_most_five_of_a_hundred_trials_report_one() -> None:
    rng = random.Random("nothing")
    assert sum(judge(run(rng, 1.0).measured()).significant for _ in range(100)) <= 5


@pytest.mark.slow
def test_a_tenth_is_found_in_at_least_95_of_a_hundred_trials() -> None:
    rng = random.Random("a tenth")
    found = [v for v in (judge(run(rng, 1.1).measured()) for _ in range(100)) if v.significant and v.ratio > 1]
    assert len(found) >= 95
    assert all(1.02 < v.ratio < 1.2 for v in found)


def test_whatever_the_load_was_the_coins_report_a_change_no_more_often_than_they_say() -> None:
    """All that decides without an effect are the coins: of the same steps, every way in which they may fall."""
    for seed in range(4):
        experiment = run(random.Random(seed), 1.0, pairs=9)
        levels = [math.exp(level) for level in window_levels(list(experiment.steps.values()))]
        pairs = list(zip(levels[::2], levels[1::2], strict=True))
        reported = sum(
            judge([pair[::-1] if turned else pair for pair, turned in zip(pairs, turns, strict=True)]).significant
            for turns in product((False, True), repeat=len(pairs))
        )
        assert reported <= CHANCE * 2 ** len(pairs)


def test_what_is_in_a_step_explains_its_time() -> None:
    """One kind of window decodes little, the other reads long prompts: that alone is no difference."""
    small = features([(1, 300, False)] * 2)
    large = features([(1, 300, False)] * 4 + [(64, 128, True)])

    def seconds(parts: tuple[float, ...]) -> float:
        return 0.004 + 0.0002 * parts[1] + 0.001 * parts[2] + 0.00001 * parts[3]

    windows = [[Taken(parts, seconds(parts))] * STEPS for parts in (small, large, large, small)]
    assert window_levels(windows) == pytest.approx([0, 0, 0, 0], abs=1e-3)
    slower = [[replace(t, seconds=1.2 * t.seconds) for t in w] if i % 2 else w for i, w in enumerate(windows)]
    first, second, third, fourth = window_levels(slower)
    assert second - third == pytest.approx(math.log(1.2), abs=0.01)
    assert fourth - first == pytest.approx(math.log(1.2), abs=0.01)


def test_a_step_that_waited_for_something_else_counts_little() -> None:
    parts = features([(1, 100, False)])
    rng = random.Random(1)
    windows = [[Taken(parts, 0.01 * math.exp(rng.gauss(0, 0.03))) for _ in range(STEPS)] for _ in range(4)]
    spoilt = [*windows[:3], [replace(windows[3][0], seconds=1.0), *windows[3][1:]]]
    assert max(window_levels(spoilt)) - min(window_levels(spoilt)) < 0.06


def test_only_steps_under_the_windows_own_value_count() -> None:
    experiment = LiveExperiment({"kernels": "mlx"}, {"kernels": "auto"}, 1, random.Random(0))
    load = LiveLoad(random.Random(0), rough)
    experiment.begin_next()
    for _ in range(5):
        assert not experiment.on_record(load.step(1.0)), "the engine has not said yet from when on it is in force"
    experiment.in_force(8)
    counted = [record.step for record in (load.step(1.0) for _ in range(30)) if experiment.on_record(record)]
    assert counted == [8 + SETTLING + STEPS - 1]
    assert experiment.windows_done == 1
    assert experiment.measured() == []


def test_drafting_and_steps_without_work_do_not_count() -> None:
    experiment = LiveExperiment({"kernels": "mlx"}, {"kernels": "auto"}, 1, random.Random(0))
    experiment.begin_next()
    experiment.in_force(1 - SETTLING)
    record = LiveLoad(random.Random(0), rough).step(1.0)
    experiment.on_record(replace(record, scheduled=()))
    experiment.on_record(replace(record, phases=PhaseTimes(draft=3.0, compute=0.5)))
    assert [taken.seconds for taken in experiment.steps[0]] == [0.5]


def test_a_fair_coin_decides_what_a_pair_begins_with() -> None:
    windows = LiveExperiment({}, {}, 400, random.Random(3)).windows
    assert all(a.after is not b.after for a, b in zip(windows[::2], windows[1::2], strict=True))
    assert 160 < sum(window.after for window in windows[::2]) < 240


def test_options_that_change_what_steps_are_made_of_are_refused() -> None:
    live = [option.name for option in fields(EngineConfig) if option.metadata["live"]]
    assert {name for name in live if not refusal(name)} == set(COMPARABLE)
    assert "M measures it on work that is the same" in refusal("max_num_seqs")
