"""The reasons that a step gives are true: what a request is given of what it lacked, it lacks no longer."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from inference.protocol import Unscheduled, WaitReason
from inference.scheduling.plan import Limits, Plan
from inference.scheduling.request import Request
from inference.scheduling.scheduler import Scheduler
from tests.inference.scheduling.workload import Arrival, Simulation, arrivals, drafts, limits, paces


def tokens_of(plan: Plan) -> dict[str, int]:
    """Without drafts, which nobody is short of."""
    return {chunk.request.request_id: chunk.num_tokens - chunk.drafts for chunk in plan.chunks}


@dataclass
class Trial:
    """A copy of a scheduler before a step, which can be given more of something."""

    scheduler: Scheduler
    pace: int | None

    @classmethod
    def of(cls, simulation: Simulation) -> Trial:
        return cls(deepcopy(simulation.scheduler), simulation.pace)

    def plan(self) -> Plan:
        return deepcopy(self.scheduler).schedule(self.pace)

    def give(self, lacked: Unscheduled, before: list[Unscheduled]) -> None:
        """More of what was short. Who stands behind another is helped by helping that one."""
        if lacked.reason is WaitReason.BEHIND:
            lacked = next(u for u in before if u.reason in ADMISSION and u is not lacked)
        current = self.scheduler.limits
        match lacked.reason:
            case WaitReason.BUDGET:
                budget = current.max_num_batched_tokens + lacked.missing
                self.scheduler.limits = replace(current, max_num_batched_tokens=budget)
            case WaitReason.PACED:
                assert self.pace is not None
                self.pace += lacked.missing
            case WaitReason.BATCH_FULL:
                self.scheduler.limits = replace(current, max_num_seqs=current.max_num_seqs + lacked.missing)
            case _:
                pool = self.scheduler.books.pool
                first = pool.total
                pool._references += [0] * lacked.missing
                pool._empty.extend(range(first, first + lacked.missing))

    def lift_what_is_not(self, reason: WaitReason) -> None:
        """Of budget and pace, the other one: it may be short as well, and then is the next obstacle."""
        if reason is WaitReason.BUDGET:
            self.pace = None
        else:
            self.scheduler.limits = replace(self.scheduler.limits, max_num_batched_tokens=10_000)


ADMISSION = (
    WaitReason.BUDGET,
    WaitReason.PACED,
    WaitReason.BATCH_FULL,
    WaitReason.BLOCKS,
    WaitReason.PREEMPTED_NOW,
)


@settings(max_examples=120, deadline=None)
@given(
    arrivals, limits, paces, drafts, st.tuples(st.integers(1, 30), st.integers(1, 16)), st.integers(0, 25), st.data()
)
def test_giving_a_request_what_it_lacked_gets_it_more_tokens(
    arrivals: list[Arrival],
    limits: Limits,
    paces: list[int | None],
    drafts: list[tuple[int, int]],
    pool: tuple[int, int],
    when: int,
    data: st.DataObject,
) -> None:
    """In as many rounds as it has obstacles: behind the first there may be a second, of another kind or another's."""
    simulation = Simulation.of(arrivals, limits, num_blocks=pool[0], block_size=pool[1], paces=paces, drafts=drafts)
    for _ in range(when):
        simulation.advance()
    simulation.arrive_and_leave()
    plan = Trial.of(simulation).plan()
    if not plan.unscheduled:
        return
    victim = data.draw(st.sampled_from(plan.unscheduled))
    had = tokens_of(plan).get(victim.request_id, 0)
    lacked, reasons = victim, list(plan.unscheduled)
    helped = Trial.of(simulation)
    for _ in range(4 * len(reasons) + 4):
        helped.give(lacked, reasons[: reasons.index(lacked) + 1])
        outcome = helped.plan()
        if tokens_of(outcome).get(victim.request_id, 0) > had:
            return
        reasons = list(outcome.unscheduled)
        lacked = next(u for u in reasons if u.request_id == victim.request_id)
    raise AssertionError(f"still not scheduled: {lacked}")


@settings(max_examples=150, deadline=None)
@given(arrivals, limits, paces, drafts, st.integers(1, 16), st.integers(0, 25), st.data())
def test_a_single_obstacle_is_the_only_one(
    arrivals: list[Arrival],
    limits: Limits,
    paces: list[int | None],
    drafts: list[tuple[int, int]],
    block_size: int,
    when: int,
    data: st.DataObject,
) -> None:
    """Where nothing else is short, exactly the missing tokens are enough, and one fewer is not: for something, and for
    all that is wanted where there was something."""
    simulation = Simulation.of(arrivals, limits, num_blocks=1000, block_size=block_size, paces=paces, drafts=drafts)
    for _ in range(when):
        simulation.advance()
    simulation.arrive_and_leave()
    plan = Trial.of(simulation).plan()
    short = [u for u in plan.unscheduled if u.reason in (WaitReason.BUDGET, WaitReason.PACED)]
    if not short:
        return
    lacked = data.draw(st.sampled_from(short))
    request_id, had = lacked.request_id, tokens_of(plan).get(lacked.request_id, 0)
    for missing, enough in ((lacked.missing, True), (lacked.missing - 1, False)):
        helped = Trial.of(simulation)
        helped.give(replace(lacked, missing=missing), [])
        helped.lift_what_is_not(lacked.reason)
        helped_plan = helped.plan()
        if had:
            short_still = {u.request_id for u in helped_plan.unscheduled if u.reason is lacked.reason}
            assert (request_id not in short_still) == enough
        else:
            assert (tokens_of(helped_plan).get(request_id, 0) > 0) == enough


def test_who_waits_for_a_place_keeps_half_of_the_tokens_until_all_others_have_theirs() -> None:
    """A step is halved for whoever waits, and what they can't use goes to the running ones in order: so what the
    second one lacks of its 30 tokens is not there before the first has its 70."""
    scheduler = Scheduler(Limits(2, 20, enable_chunked_prefill=True), num_blocks=100, block_size=16, max_model_len=1000)
    for name, prompt in (("first", 100), ("second", 40), ("waiting", 10)):
        scheduler.add(Request(name, name, [1] * prompt, prompt + 5))
    scheduler.schedule()
    scheduler.schedule()
    plan = deepcopy(scheduler).schedule()
    assert tokens_of(plan) == {"first": 15, "second": 5}
    reasons = {u.request_id: (u.reason, u.missing) for u in plan.unscheduled}
    assert reasons["waiting"] == (WaitReason.BATCH_FULL, 1)
    assert reasons["second"] == (WaitReason.BUDGET, 80)
    for more, got in ((79, 29), (80, 30)):
        helped = deepcopy(scheduler)
        helped.limits = replace(helped.limits, max_num_batched_tokens=20 + more)
        assert tokens_of(helped.schedule())["second"] == got
