"""Before and after on the live load: only like batches are compared, and chance is seldom taken for an effect."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.live_load import ENOUGH, KEPT, SETTLE, Comparison, LiveLoad, compare
from inference.protocol import BlockCounts, EngineConfig, PhaseTimes, Scheduled, StepRecord, Verified

OLD, NEW = EngineConfig(), EngineConfig(kernels="reference")


def record(step: int, config: EngineConfig, seconds: float, *, decodes: int = 2, prefill: int = 0) -> StepRecord:
    chunks = [Scheduled(f"d{i}", "s", 1, 100, False, True) for i in range(decodes)]
    chunks += [Scheduled("p", "s", prefill, 0, True, False)] if prefill else []
    times = PhaseTimes(compute=seconds)
    return StepRecord(step, 0.0, tuple(chunks), (), (), (), (), BlockCounts(8, 0, 8), times, config)


def steps(rng: random.Random, count: int, factor: float = 1.0) -> list[tuple[tuple[int, int, int], float]]:
    """Noisy, of two kinds of batches that take differently long, and now and then interrupted."""
    found = []
    for _ in range(count):
        kind, seconds = rng.choice([((3, 0, 9), 0.05), ((1, 0, 7), 0.02)])
        spike = 6 if rng.random() < 0.02 else 1
        found.append((kind, seconds * factor * math.exp(rng.gauss(0, 0.08)) * spike))
    return found


def test_without_an_effect_at_most_five_of_two_hundred_trials_report_one() -> None:
    rng = random.Random("same")
    found = [compare(steps(rng, KEPT), steps(rng, KEPT)) for _ in range(200)]
    assert sum(each.clear for each in found if each) <= 5


def test_a_tenth_is_found_in_at_least_95_of_a_hundred_trials() -> None:
    rng = random.Random("slower")
    found = [compare(steps(rng, KEPT), steps(rng, KEPT, 1.1)) for _ in range(100)]
    right = [each for each in found if each and each.clear and 1.02 < each.ratio < 1.2 and each.low <= 1.1 <= each.high]
    assert len(right) >= 95


samples = st.lists(st.tuples(st.sampled_from([(1, 0, 5), (2, 0, 6), (2, 4, 6)]), st.floats(0.01, 10)), max_size=40)


@given(samples, samples)
def test_it_is_the_same_from_the_other_side_and_looks_at_like_steps_alone(
    before: list[tuple[tuple[int, int, int], float]], after: list[tuple[tuple[int, int, int], float]]
) -> None:
    there, back = compare(before, after), compare(after, before)
    kinds = {kind for kind, _ in before}
    alike = [k for k in kinds if min(sum(kind == k for kind, _ in side) for side in (before, after)) >= ENOUGH]
    if not alike:
        assert there is back is None
        return
    assert there is not None
    assert back is not None
    assert (there.before, there.after) == tuple(sum(kind in alike for kind, _ in side) for side in (before, after))
    assert there.low <= there.ratio <= there.high
    assert there.low == pytest.approx(1 / back.high)
    assert there.clear == back.clear
    stranger = [((9, 9, 9), 100.0)] * KEPT
    assert compare(before + stranger, after) == there


def test_the_steps_around_the_latest_change_are_compared() -> None:
    load = LiveLoad()
    assert load.sentence("kernels") == ""
    number = 0

    def run(config: EngineConfig, count: int, seconds: float, **batch: int) -> None:
        nonlocal number
        for _ in range(count):
            number += 1
            load.add(record(number, config, seconds * (1 + 0.001 * (number % 7)), **batch))

    run(OLD, 3 * KEPT, 0.02)
    run(NEW, SETTLE, 9.0)  # not counted
    run(NEW, ENOUGH - 1, 0.03)
    assert "too little like load to compare (64 steps before, 7 after" in load.sentence("kernels")
    run(NEW, 30, 0.5, decodes=5)
    assert "too little like load" in load.sentence("kernels")
    run(NEW, 20, 0.03)
    said = load.sentence("kernels")
    assert said.startswith("kernels auto → reference: 50% slower in steps of like batches, 64 before and 27 after (1.")
    assert load.sentence("max_num_seqs") == "", "that was not changed"
    run(NEW, 200, 9.0)
    assert load.sentence("kernels").startswith("kernels auto → reference: 50% slower"), "only the first ones count"
    number = 0
    run(OLD, 20, 0.02)
    assert load.sentence("kernels") == "", "another engine"


def test_drafts_count_by_the_tokens_that_they_give() -> None:
    load = LiveLoad()
    for step in range(1, 41):
        load.add(record(step, OLD, 0.02, decodes=1))
    for step in range(41, 81):
        chunk = Scheduled("d0", "s", 4, 100, False, True, drafts=3)
        verified = Verified("d0", "s", drafted=3, accepted=2, tokens=3)
        load.add(replace(record(step, NEW, 0.03), scheduled=(chunk,), verified=(verified,)))
    assert "50% faster in steps of like batches" in load.sentence("kernels")


def test_a_verdict_says_how_sure_it_is() -> None:
    assert Comparison(20, 30, 0.9, 0.85, 0.95).sentence() == (
        "10% faster in steps of like batches, 20 before and 30 after (0.85 to 0.95 times as long)"
    )
    assert Comparison(20, 30, 1.05, 0.98, 1.1).sentence().startswith("no clear change in steps")
