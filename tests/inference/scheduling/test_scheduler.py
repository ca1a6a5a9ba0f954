"""The scheduler alone, on plain numbers: what it promises for any arrivals, lengths, aborts and pool sizes."""

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inference.protocol import PrefixLookup, RequestState, WaitReason
from inference.scheduling.plan import Limits
from inference.scheduling.request import Request
from inference.scheduling.scheduler import Scheduler
from tests.inference.scheduling.workload import Arrival, Simulation, arrivals, drafts, limits

pools = st.tuples(st.integers(1, 30), st.integers(1, 16))


def make(num_blocks=8, block_size=4, *, seqs=4, budget=16, chunked=True, max_model_len=4096) -> Scheduler:
    return Scheduler(
        Limits(seqs, budget, chunked), num_blocks=num_blocks, block_size=block_size, max_model_len=max_model_len
    )


def request(name: str, prompt: int, total: int | None = None) -> Request:
    return Request(name, name, [1] * prompt, total or prompt + 4)


def granted(plan) -> dict[str, int]:
    return {chunk.request.request_id: chunk.num_tokens for chunk in plan.chunks}


def denied(plan) -> dict[str, tuple[WaitReason, int]]:
    return {u.request_id: (u.reason, u.missing) for u in plan.unscheduled}


# --- for all workloads ---


@settings(max_examples=300)
@given(arrivals, limits, drafts, pools)
def test_every_request_ends_exactly_once_and_all_blocks_come_back(arrivals, limits, drafts, pool):
    simulation = Simulation.of(arrivals, limits, num_blocks=pool[0], block_size=pool[1], drafts=drafts)
    while simulation.busy:
        simulation.advance()
        assert simulation.step < 5000, "no progress"
    assert len(simulation.ended) + len(simulation.refused) == len(arrivals)
    assert simulation.scheduler.blocks.used == 0
    assert not simulation.scheduler.has_work


@settings(max_examples=200)
@given(arrivals, limits, drafts, pools)
def test_each_step_keeps_to_its_limits(arrivals, limits, drafts, pool):
    simulation = Simulation.of(arrivals, limits, num_blocks=pool[0], block_size=pool[1], drafts=drafts)
    while simulation.busy:
        plan = simulation.advance()
        assert len(plan.chunks) <= limits.max_num_seqs
        over_budget = plan.num_tokens > limits.max_num_batched_tokens
        prefills = [chunk for chunk in plan.chunks if chunk.is_prefill]
        assert not over_budget or (not limits.enable_chunked_prefill and prefills)
        counts = simulation.scheduler.blocks
        assert counts.free + counts.used == counts.total == pool[0]
        decodes_first = [chunk.is_prefill for chunk in plan.chunks]
        assert decodes_first == sorted(decodes_first)


@settings(max_examples=200)
@given(arrivals, limits, drafts, pools)
def test_everyone_who_got_less_than_wanted_is_told_why_exactly_once(arrivals, limits, drafts, pool):
    simulation = Simulation.of(arrivals, limits, num_blocks=pool[0], block_size=pool[1], drafts=drafts)
    while simulation.busy:
        plan = simulation.advance()
        satisfied = {chunk.request.request_id for chunk in plan.chunks if chunk.samples}
        told = [u.request_id for u in plan.unscheduled]
        assert len(told) == len(set(told))
        assert satisfied.isdisjoint(told)
        seen = {r.request_id for r in simulation.scheduler} | satisfied
        assert seen == satisfied | set(told)
        assert all(u.missing >= 1 for u in plan.unscheduled)


@settings(max_examples=150)
@given(arrivals, limits, limits, drafts, pools, st.integers(0, 20))
def test_limits_may_change_between_any_two_steps(arrivals, before, after, drafts, pool, when):
    """Turning the prefix cache off and on again included."""
    simulation = Simulation.of(arrivals, before, num_blocks=pool[0], block_size=pool[1], drafts=drafts)
    while simulation.busy:
        if simulation.step == when:
            if after.kv_layout != before.kv_layout:
                simulation.scheduler.preempt_all()
                simulation.memory.clear()
            simulation.scheduler.limits = after
        simulation.advance()
        assert simulation.step < 5000, "no progress"
    assert simulation.scheduler.blocks.used == 0


@settings(max_examples=150)
@given(arrivals, limits, drafts, pools)
def test_tokens_are_computed_in_order_and_none_is_skipped(arrivals, limits, drafts, pool):
    """Across chunks and preemptions, each chunk starts where the cache ends."""
    simulation = Simulation.of(arrivals, limits, num_blocks=pool[0], block_size=pool[1], drafts=drafts)
    computed: dict[str, int] = {}
    while simulation.busy:
        plan = simulation.advance()
        for name in plan.preempted:
            computed[name] = 0
        for lookup in plan.lookups:
            computed[lookup.request_id] = lookup.cached_tokens
            assert lookup.cached_tokens < lookup.tokens, "at least one token is computed"
            assert lookup.cached_tokens % pool[1] == 0
        for chunk in plan.chunks:
            name = chunk.request.request_id
            assert chunk.num_computed == computed.get(name, 0)
            forgotten = chunk.samples and limits.kv_layout == "none"
            computed[name] = 0 if forgotten else chunk.num_computed + chunk.num_tokens
            if chunk.drafts and name not in simulation.ended:
                computed[name] = chunk.request.num_computed_tokens
                assert 0 <= chunk.num_computed + chunk.num_tokens - computed[name] <= chunk.drafts


@settings(max_examples=150)
@given(arrivals, limits, drafts, pools, st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=3))
def test_everything_may_be_thrown_away_between_any_two_steps(arrivals, limits, drafts, pool, when):
    """The engine does that when a step fails, and when keys and values are to be kept or computed otherwise."""
    simulation = Simulation.of(arrivals, limits, num_blocks=pool[0], block_size=pool[1], drafts=drafts)
    losses = dict(when)
    while simulation.busy:
        if simulation.step in losses:
            if losses[simulation.step]:
                simulation.scheduler.preempt_all()
                simulation.memory.clear()
            else:
                simulation.scheduler.forget_prefixes()
            assert simulation.scheduler.blocks.cached == 0
        simulation.advance()
        assert simulation.step < 5000, "no progress"


@settings(max_examples=100)
@given(arrivals, limits, drafts, pools)
@example(
    # The last prompt is computed whole and finds one token of the two that it wants: nobody but a draft can use it.
    arrivals=[*[Arrival(0, 1, 1)] * 3, Arrival(17, 1, 4), Arrival(18, 1, 1), Arrival(18, 2, 1)],
    limits=Limits(max_num_seqs=3, max_num_batched_tokens=4, enable_chunked_prefill=False),
    drafts=[(2, 0)],
    pool=(3, 2),
)
def test_drafts_never_cost_anybody_else_a_token_of_a_decode_or_a_block(arrivals, limits, drafts, pool):
    """Nor do they take more than half of what the decodes leave, where others could use it."""
    simulation = Simulation.of(arrivals, limits, num_blocks=pool[0], block_size=pool[1], drafts=drafts)
    while simulation.busy:
        simulation.arrive_and_leave()
        wanted = {request.request_id: wanted_by(request, simulation.scheduler) for request in simulation.scheduler}
        plan = simulation.advance()
        drafted = sum(chunk.drafts for chunk in plan.chunks)
        if not drafted:
            continue
        decodes = sum(not chunk.is_prefill for chunk in plan.chunks)
        left_by_decodes = limits.max_num_batched_tokens - decodes
        left = left_by_decodes - (plan.num_tokens - decodes - drafted)
        for short in plan.unscheduled:
            if short.reason is WaitReason.BUDGET:
                useful = 1 if limits.enable_chunked_prefill else wanted[short.request_id]
                assert useful > left - min(drafted, left_by_decodes // 2)
        assert all(chunk.num_tokens == chunk.drafts + 1 for chunk in plan.chunks if chunk.drafts)


def wanted_by(request: Request, scheduler: Scheduler) -> int:
    """Tokens that a request still has to compute, but for those that the prefix cache holds."""
    cached = len(scheduler.books.cached_prefix(request)) * scheduler.block_size
    return request.num_tokens - max(cached, request.num_computed_tokens)


# --- by example ---


def test_drafts_that_are_right_save_steps_and_the_blocks_of_the_others_come_back():
    for right, steps in ((0, 9), (1, 5), (3, 3)):
        simulation = Simulation.of(
            [Arrival(0, 4, 9)], Limits(4, 64, True), num_blocks=64, block_size=2, drafts=[(3, right)]
        )
        while simulation.busy:
            simulation.advance()
            held = [len(r.block_table) for r in simulation.live]
            assert simulation.scheduler.blocks.used == sum(held)
        assert simulation.step == steps


def test_drafts_that_were_offered_before_a_preemption_are_not_given_after_it():
    """With all but its last token cached a request decodes in the very step that it is admitted in again."""
    scheduler = Scheduler(Limits(4, 64, True, True), num_blocks=16, block_size=4, max_model_len=64)
    scheduler.add(talking := request("talking", 5, 40))
    for _ in range(4):
        scheduler.schedule()
        scheduler.append(talking, 7)
    talking.wanted_drafts = 3
    scheduler.books.preempt(talking)
    (chunk,) = scheduler.schedule().chunks
    assert not chunk.is_prefill
    assert (chunk.num_tokens, chunk.drafts) == (1, 0)


def test_drafts_get_half_of_the_budget_while_a_prompt_wants_it_all():
    scheduler = make(num_blocks=64, seqs=4, budget=9)
    talking, prompt = request("talking", 1, 40), request("prompt", 50)
    scheduler.add(talking)
    scheduler.schedule()
    scheduler.append(talking, 1)
    scheduler.add(prompt)
    talking.wanted_drafts = 20
    plan = scheduler.schedule()
    assert granted(plan) == {"talking": 1 + 4, "prompt": 4}
    assert denied(plan)["prompt"][0] is WaitReason.BUDGET


def test_a_long_prompt_is_computed_in_chunks_beside_the_decodes_of_others():
    scheduler = make(num_blocks=20, budget=8)
    scheduler.add(short := request("short", 3))
    assert granted(scheduler.schedule()) == {"short": 3}
    scheduler.append(short, 7)
    scheduler.add(request("long", 20))
    plan = scheduler.schedule()
    assert granted(plan) == {"short": 1, "long": 7}
    assert denied(plan) == {"long": (WaitReason.BUDGET, 13)}
    assert [(c.is_prefill, c.samples) for c in plan.chunks] == [(False, True), (True, False)]


def test_without_chunking_a_prompt_is_computed_whole_even_above_the_budget():
    scheduler = make(num_blocks=20, budget=8, chunked=False)
    scheduler.add(request("long", 20))
    scheduler.add(request("next", 3))
    plan = scheduler.schedule()
    assert granted(plan) == {"long": 20}
    # The budget would have to hold both.
    assert denied(plan) == {"next": (WaitReason.BUDGET, 20 + 3 - 8)}


def test_admission_is_strictly_first_come_first_served():
    scheduler = make(num_blocks=4, block_size=4, budget=64)
    scheduler.add(request("first", 8))
    scheduler.add(request("big", 12))
    scheduler.add(request("small", 1))
    plan = scheduler.schedule()
    assert granted(plan) == {"first": 8}
    # "big" needs 3 blocks beside one that "first" may grow into; 2 are free.
    assert denied(plan) == {"big": (WaitReason.BLOCKS, 2), "small": (WaitReason.BEHIND, 1)}


def test_a_full_batch_says_so():
    scheduler = make(seqs=1)
    scheduler.add(request("one", 2))
    scheduler.add(request("two", 2))
    assert denied(scheduler.schedule()) == {"two": (WaitReason.BATCH_FULL, 1)}


def test_when_blocks_run_out_the_latest_arrival_is_preempted_and_comes_back_first():
    scheduler = make(num_blocks=4, block_size=2, budget=16)
    early, late = request("early", 3, 8), request("late", 2, 6)
    scheduler.add(early)
    scheduler.add(late)
    while not late.preemptions:
        plan = scheduler.schedule()
        scheduler.check()
        for chunk in plan.chunks:
            if chunk.samples:
                scheduler.append(chunk.request, 7)
    assert plan.preempted == ("late",)
    assert denied(plan)["late"][0] is WaitReason.PREEMPTED_NOW
    assert (late.state, late.num_computed_tokens, late.block_table) == (RequestState.PREEMPTED, 0, [])
    output_before = list(late.output_ids)
    scheduler.add(request("newcomer", 1))
    scheduler.finish(early)
    plan = scheduler.schedule()
    assert granted(plan)["late"] == 2 + len(output_before), "prompt and output are computed again"
    assert late.output_ids == output_before, "nothing already sampled changes"


def test_nobody_is_admitted_in_the_step_that_robs_another_of_its_blocks():
    scheduler = make(num_blocks=6, block_size=1, budget=16)
    early, late = request("early", 1, 7), request("late", 3, 7)
    for r in (early, late):
        scheduler.add(r)
        scheduler.schedule()
        scheduler.append(r, 7)
    scheduler.append(early, 7)
    scheduler.append(early, 7)
    scheduler.add(request("newcomer", 1))
    plan = scheduler.schedule()
    assert plan.preempted == ("late",)
    assert denied(plan) == {"late": (WaitReason.PREEMPTED_NOW, 3), "newcomer": (WaitReason.BEHIND, 1)}
    assert scheduler.blocks.free == 2, "room enough for the newcomer, but it is not its turn"


def test_a_victim_that_already_had_its_token_in_this_step_gives_it_back_to_the_budget():
    """A request with several tokens to catch up on comes after the decodes, yet may need their blocks."""
    scheduler = make(num_blocks=4, block_size=1, budget=3)
    early, late = request("early", 1, 5), request("late", 1, 5)
    for r in (early, late):
        scheduler.add(r)
        scheduler.schedule()
        scheduler.append(r, 7)
    early.output_ids += [7, 7]
    plan = scheduler.schedule()
    scheduler.check()
    assert plan.preempted == ("late",)
    assert granted(plan) == {"early": 2}


def test_a_preempted_request_that_recomputes_its_output_counts_as_prefill():
    late = request("late", 2, 9)
    late.output_ids = [7, 7]
    assert not late.is_decode
    late.num_computed_tokens = 3
    assert late.is_decode


def test_aborting_frees_blocks_at_once_wherever_the_request_is():
    scheduler = make(seqs=1)
    running, waiting = request("running", 5), request("waiting", 5)
    scheduler.add(running)
    scheduler.add(waiting)
    scheduler.schedule()
    assert scheduler.blocks.used == 2
    scheduler.finish(running)
    assert scheduler.blocks.used == 0
    scheduler.finish(waiting)
    assert not scheduler.has_work


def test_what_can_never_fit_is_refused_with_the_numbers():
    scheduler = make(num_blocks=4, block_size=4)
    assert scheduler.refusal(16) is None
    assert "17 tokens" in scheduler.refusal(17)
    assert "num_kv_blocks" in scheduler.refusal(17)
    assert "empty" in scheduler.refusal(0)
    assert "context" in make(max_model_len=10).refusal(10)
    with pytest.raises(ValueError, match="never holds more than 16"):
        scheduler.add(request("huge", 17))


def test_tokens_of_prompt_and_output_read_as_one_sequence():
    r = Request("r", "s", [1, 2, 3], 9, output_ids=[4, 5])
    assert r.token_ids(0, 5) == [1, 2, 3, 4, 5]
    assert r.token_ids(2, 4) == [3, 4]
    assert r.token_ids(3, 5) == [4, 5]
    assert r.token_ids(0, 2) == [1, 2]


def test_an_idle_scheduler_plans_nothing():
    plan = make().schedule()
    assert plan.chunks == plan.unscheduled == plan.preempted == ()
    assert plan.num_tokens == 0


def test_a_workload_without_pressure_never_preempts():
    simulation = Simulation.of([Arrival(i, 10, 5) for i in range(8)], Limits(8, 64, True), num_blocks=64, block_size=4)
    while simulation.busy:
        assert simulation.advance().preempted == ()


# --- other layouts of the cache ---


def laid_out(kv_layout: str, num_blocks: int) -> Scheduler:
    scheduler = make(num_blocks)
    scheduler.limits = replace(scheduler.limits, kv_layout=kv_layout)
    return scheduler


def test_dense_rows_take_room_for_the_longest_text_at_once():
    scheduler = laid_out("dense", 8)
    scheduler.add(request("first", 3, 21))
    scheduler.add(request("second", 3, 21))
    plan = scheduler.schedule()
    # 20 tokens of a text of 21 are ever computed: five blocks of four, of which one would do for now.
    assert scheduler.blocks.used == 5
    assert denied(plan) == {"second": (WaitReason.BLOCKS, 2)}
    paged = laid_out("paged", 8)
    paged.add(request("first", 3, 21))
    paged.add(request("second", 3, 21))
    assert set(granted(paged.schedule())) == {"first", "second"}


def test_without_a_cache_every_token_computes_the_whole_text():
    scheduler = laid_out("none", 8)
    scheduler.add(each := request("a", 5, 9))
    sizes = []
    while scheduler.has_work:
        plan = scheduler.schedule()
        scheduler.check()
        sizes.append(plan.num_tokens)
        scheduler.append(each, 7)
        assert scheduler.blocks.used == 0
        if each.is_full:
            scheduler.finish(each)
    assert sizes == [5, 6, 7, 8]


# --- the prefix cache ---


def caching(num_blocks=8, **changes) -> Scheduler:
    scheduler = make(num_blocks, **changes)
    scheduler.limits = replace(scheduler.limits, enable_prefix_caching=True)
    return scheduler


def run_to_end(scheduler: Scheduler, *requests: Request) -> list[PrefixLookup]:
    lookups = []
    for each in requests:
        scheduler.add(each)
    while scheduler.has_work:
        plan = scheduler.schedule()
        scheduler.check()
        lookups += plan.lookups
        for chunk in plan.chunks:
            if chunk.samples:
                scheduler.append(chunk.request, 7)
                if chunk.request.is_full:
                    scheduler.finish(chunk.request)
    return lookups


def test_the_next_turn_of_a_chat_computes_only_what_is_new():
    scheduler = caching()
    first = Request("first", "s", [1, 2, 3, 4, 5, 6], 11)
    (lookup,) = run_to_end(scheduler, first)
    assert (lookup.tokens, lookup.cached_tokens) == (6, 0)
    assert scheduler.blocks.cached == scheduler.blocks.total - 6 == 2, "of 10 computed tokens, two whole blocks"
    (lookup,) = run_to_end(scheduler, Request("second", "s", [*first.token_ids(0, 11), 8, 9], 15))
    assert lookup.cached_tokens == 8


def test_at_least_one_token_is_computed():
    scheduler = caching()
    run_to_end(scheduler, Request("a", "s", [1] * 8, 9))
    (lookup,) = run_to_end(scheduler, Request("b", "s", [1] * 8, 9))
    assert lookup.cached_tokens == 4


def test_two_that_begin_alike_share_their_blocks_while_both_run():
    scheduler = caching(num_blocks=20)
    scheduler.add(Request("a", "s", [1] * 9, 20))
    scheduler.schedule()
    scheduler.add(Request("b", "t", [1] * 8 + [2], 20))
    plan = scheduler.schedule()
    scheduler.check()
    assert granted(plan)["b"] == 1
    a, b = scheduler
    assert a.block_table[:2] == b.block_table[:2]
    assert a.block_table[2] != b.block_table[2]
    assert scheduler.blocks.used == 4


def test_the_same_tokens_after_another_beginning_are_another_content():
    scheduler = caching()
    run_to_end(scheduler, Request("a", "s", [1, 1, 1, 1, 5, 5, 5, 5], 10))
    (lookup,) = run_to_end(scheduler, Request("b", "s", [2, 2, 2, 2, 5, 5, 5, 5, 9], 10))
    assert lookup.cached_tokens == 0


def test_a_preempted_request_comes_back_with_what_is_left_of_its_blocks():
    scheduler = caching(num_blocks=4, block_size=2, budget=16)
    early, late = Request("early", "s", [1] * 3, 8), Request("late", "t", [2] * 2, 6)
    lookups = run_to_end(scheduler, early, late)
    assert late.preemptions == 1
    assert [lookup.request_id for lookup in lookups] == ["early", "late", "late"]


def test_of_cached_blocks_the_least_recently_used_goes_first():
    scheduler = caching(num_blocks=4, block_size=2)
    for name, token in (("old", 1), ("new", 2)):
        run_to_end(scheduler, Request(name, "s", [token] * 4, 5))
    assert scheduler.blocks.cached == 4
    run_to_end(scheduler, Request("old again", "s", [1] * 4, 5))
    run_to_end(scheduler, Request("other", "s", [3] * 2, 3))
    (new,) = run_to_end(scheduler, Request("new", "s", [2] * 6, 7))
    assert new.cached_tokens == 2, "its second block was the one to go"


def test_a_running_prompt_leaves_half_of_each_step_to_those_that_wait() -> None:
    scheduler = make(100, budget=20)
    scheduler.add(request("long", 200))
    assert granted(scheduler.schedule()) == {"long": 20}
    scheduler.add(request("short", 8))
    scheduler.add(request("other", 60))
    assert granted(scheduler.schedule()) == {"long": 10, "short": 8, "other": 2}


def test_what_those_that_wait_do_not_take_goes_back_to_the_running_prompts() -> None:
    scheduler = make(100, budget=20, seqs=2)
    scheduler.add(request("long", 200))
    scheduler.schedule()
    scheduler.add(request("short", 3))
    scheduler.add(request("third", 9))
    plan = scheduler.schedule()
    assert granted(plan) == {"long": 17, "short": 3}
    assert denied(plan)["third"] == (WaitReason.BATCH_FULL, 1)


def test_prefill_is_held_to_the_pace_of_those_who_decode() -> None:
    scheduler = make(100, budget=50)
    talking = request("talking", 4)
    scheduler.add(talking)
    scheduler.schedule()
    scheduler.append(talking, 7)
    scheduler.add(request("long", 30))
    plan = scheduler.schedule(pace=6)
    assert granted(plan) == {"talking": 1, "long": 6}
    assert denied(plan) == {"long": (WaitReason.PACED, 24)}
