"""A step's tokens shared out: nothing is lost, nobody is forgotten, and more to share never takes from anyone."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from inference.scheduling.plan import Limits
from inference.scheduling.request import Request
from inference.scheduling.scheduler import Scheduler
from inference.scheduling.sharing import shared_out, total_for, total_for_whole

wants = st.lists(st.integers(1, 60), max_size=6)


@given(st.integers(0, 200), wants, wants)
def test_all_is_given_as_long_as_anybody_wants_it(total: int, running: list[int], waiting: list[int]) -> None:
    got = shared_out(total, running, waiting)
    assert sum(got) == min(total, sum(running) + sum(waiting))
    assert all(0 <= tokens <= want for tokens, want in zip(got, running + waiting, strict=True))


@given(st.integers(0, 200), wants, wants)
def test_more_to_share_takes_from_nobody(total: int, running: list[int], waiting: list[int]) -> None:
    less, more = shared_out(total, running, waiting), shared_out(total + 1, running, waiting)
    assert all(a <= b for a, b in zip(less, more, strict=True))


@given(st.integers(8, 200), wants, wants)
def test_neither_the_first_in_order_nor_the_shortest_nor_the_first_that_waits_is_without(
    total: int, running: list[int], waiting: list[int]
) -> None:
    got = shared_out(total, running, waiting)
    eighth = total // 8
    if running:
        assert got[0] >= min(running[0], eighth)
        shortest = running.index(min(running))
        assert got[shortest] >= min(running[shortest], eighth)
    if waiting:
        assert got[len(running)] >= min(waiting[0], eighth)


@given(st.integers(0, 100), wants, wants, st.data())
def test_what_is_said_to_be_missing_is_the_least_that_helps(
    total: int, running: list[int], waiting: list[int], data: st.DataObject
) -> None:
    got = shared_out(total, running, waiting)
    short = [place for place, want in enumerate(running + waiting) if got[place] < want]
    assume(short)
    place = data.draw(st.sampled_from(short))
    wanted = data.draw(st.integers(got[place] + 1, (running + waiting)[place]))
    enough = total_for(total, running, waiting, place, wanted)
    assert shared_out(enough, running, waiting)[place] >= wanted
    assert shared_out(enough - 1, running, waiting)[place] < wanted


def whole_prefills(total: int, running: list[int], admitted: list[int], last: int) -> bool:
    """Whether the last of them is computed, one after another."""
    left, first = total, True
    for want in running:
        if first or want <= left:
            left, first = left - want, False
    for want in (*admitted, last):
        if not first and want > left:
            return False
        left, first = left - want, False
    return True


@given(st.integers(0, 100), wants, wants, st.integers(1, 60))
def test_nor_is_less_ever_enough_for_a_prefill_that_is_computed_whole(
    total: int, running: list[int], admitted: list[int], last: int
) -> None:
    assume(running or admitted)
    assume(not whole_prefills(total, running, admitted, last))
    enough = total_for_whole(total, running, admitted, last)
    assert whole_prefills(enough, running, admitted, last)
    assert not any(whole_prefills(less, running, admitted, last) for less in range(total, enough))


@given(wants, wants, st.integers(1, 100))
def test_a_step_with_enough_blocks_does_exactly_this(running: list[int], waiting: list[int], budget: int) -> None:
    def scheduler(budget: int) -> Scheduler:
        limits = Limits(64, budget, True)
        return Scheduler(limits, num_blocks=1000, block_size=4, max_model_len=1000)

    made = scheduler(len(running))
    requests = [Request(f"r{i}", "s", [1] * (want + 1), want + 9) for i, want in enumerate(running)]
    for request in requests:
        made.add(request)
    if running:
        made.schedule()  # one token each
        assume(all(request.num_computed_tokens == 1 for request in requests))
    requests += [Request(f"w{i}", "s", [1] * want, want + 9) for i, want in enumerate(waiting)]
    for request in requests[len(running) :]:
        made.add(request)
    made.limits = Limits(64, budget, True)
    before = [request.num_computed_tokens for request in requests]
    made.schedule()
    got = [request.num_computed_tokens - had for request, had in zip(requests, before, strict=True)]
    assert got == shared_out(budget, running, waiting)
