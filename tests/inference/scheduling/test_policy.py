"""Scheduling policies: who is admitted first, who gets the budget, and that nobody starves where that is promised."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.protocol import SCHEDULING_POLICIES
from inference.scheduling.plan import Limits
from inference.scheduling.policy import POLICIES, Shares
from inference.scheduling.request import Request
from inference.scheduling.scheduler import Scheduler


def served(policy: str, requests: list[Request], *, seqs: int = 1, budget: int = 16) -> list[str]:
    """The order in which all requests, there from the start, end."""
    limits = Limits(seqs, budget, True, False, policy)
    scheduler = Scheduler(limits, num_blocks=200, block_size=4, max_model_len=4096)
    for request in requests:
        scheduler.add(request)
    ended = []
    while scheduler.has_work:
        for chunk in scheduler.schedule().chunks:
            if chunk.samples:
                scheduler.append(chunk.request, 7)
                if chunk.request.is_full:
                    scheduler.finish(chunk.request)
                    ended.append(chunk.request.request_id)
    return ended


def three(times: int = 1) -> list[Request]:
    return [
        Request("long", "s", [1] * 30 * times, 30 * times + 3, priority=2),
        Request("middle", "s", [1] * 20 * times, 20 * times + 3, priority=-1),
        Request("short", "t", [1] * 10 * times, 10 * times + 3, priority=0),
    ]


def test_every_policy_has_a_name_in_the_options() -> None:
    assert tuple(POLICIES) == SCHEDULING_POLICIES


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        ("fcfs", ["long", "middle", "short"]),
        ("shortest", ["short", "middle", "long"]),
        ("priority", ["middle", "short", "long"]),
        ("fair", ["long", "short", "middle"]),
    ],
)
def test_the_policy_decides_who_is_admitted_first(policy: str, order: list[str]) -> None:
    assert served(policy, three()) == order


@pytest.mark.parametrize(("policy", "first"), [("fcfs", "long"), ("shortest", "short"), ("priority", "middle")])
def test_the_policy_decides_who_gets_the_larger_part_of_a_step_among_those_that_run(policy: str, first: str) -> None:
    """The rest goes to who has least left, whatever the policy: a short prompt does not wait for a long one's end."""
    limits = Limits(3, 5, True, scheduling_policy=policy)
    scheduler = Scheduler(limits, num_blocks=200, block_size=4, max_model_len=4096)
    for request in three(10):
        scheduler.add(request)
    while len(scheduler.prefilling) < 3:
        scheduler.schedule()
    got = {chunk.request.request_id: chunk.num_tokens for chunk in scheduler.schedule().chunks}
    assert got == ({"short": 5} if first == "short" else {first: 3, "short": 2})


def test_a_session_with_many_requests_does_not_hold_up_one_with_a_few() -> None:
    def all_of_them() -> list[Request]:
        crowd = [Request(f"crowd {i}", "crowd", [1] * 8, 12) for i in range(20)]
        return [*crowd, Request("single", "single", [1] * 8, 12)]

    assert served("fair", all_of_them()).index("single") <= 1
    assert served("fcfs", all_of_them())[-1] == "single"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50)), max_size=30), st.integers(0, 30))
def test_who_comes_back_has_saved_up_nothing(gifts: list[tuple[str, int]], away: int) -> None:
    shares = Shares()
    for name in "abc":
        shares.arrive(name)
    for i, (name, tokens) in enumerate(gifts):
        if i == away:
            shares.leave("a")
        if name != "a" or i < away:
            shares.give(name, tokens)
    before = shares.given("a")
    if away < len(gifts):
        shares.arrive("a")
        assert shares.given("a") == max(before, min(shares.given("b"), shares.given("c")))


def test_when_all_have_left_everyone_begins_anew() -> None:
    shares = Shares()
    shares.arrive("a")
    shares.give("a", 100)
    shares.leave("a")
    shares.arrive("b")
    assert shares.given("a") == shares.given("b") == 0
