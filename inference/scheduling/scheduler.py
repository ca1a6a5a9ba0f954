"""Who gets how many tokens in the next step. Plain numbers in, plain numbers out: no model, no arrays, no clock.

One rule (vLLM's v1 scheduler showed that it is enough): every request has `num_tokens` and `num_computed_tokens`, and
each step hands out tokens from one budget so that the second catches up with the first. Prefill, chunks of it, decode
and recomputation after a preemption are not phases but sizes of that gap.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator

from inference.protocol import BlockChange, BlockCounts, PrefixLookup, RequestRow, RequestState, Unscheduled, WaitReason
from inference.scheduling.blocks import BlockPool
from inference.scheduling.plan import Chunk, Limits, Plan
from inference.scheduling.policy import Shares, ordered
from inference.scheduling.request import Request


def _arrival(request: Request) -> int:
    return request.arrival


class Scheduler:
    """Continuous batching over a pool of blocks.

    Order within a step: running decodes (one token each, so that nobody who is already talking waits), then running
    prefills (with half of the rest if anybody waits), then admissions, then running prefills with what is left, then
    drafts; in each of these, that of the policy. So a long prompt does not keep short ones out. Drafts are a bet: up to
    half of what the decodes leave is kept for them, and no block is taken from anybody. Where blocks run out the latest
    arrival is preempted: its blocks are freed and it is computed again later. So the earliest running request always
    makes progress, and since none is accepted that exceeds the pool, every request ends.
    """

    def __init__(self, limits: Limits, *, num_blocks: int, block_size: int, max_model_len: int) -> None:
        if block_size < 1:
            raise ValueError(f"a block holds at least one token, not {block_size}")
        self._limits = limits
        self.block_size = block_size
        self.max_model_len = max_model_len
        self._pool = BlockPool(num_blocks)
        self._running: list[Request] = []
        self._waiting: list[Request] = []
        self._arrivals = 0
        self._shares = Shares()
        self._holders: dict[int, list[Request]] = {}
        self._epoch = 0
        self._preempted: list[str] = []
        """Preempted since the last step, which has to tell it."""

    @property
    def limits(self) -> Limits:
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        """From the next step on. Without a prefix cache there is none to come back to either."""
        self._limits = limits
        if not limits.enable_prefix_caching:
            self.forget_prefixes()

    # --- requests in and out ---

    @property
    def capacity(self) -> int:
        """Most tokens that one request may have, prompt and output together.

        One more than the cache holds: the last token is sampled but never computed.
        """
        return min(self.max_model_len, self._pool.total * self.block_size + 1)

    def refusal(self, num_prompt_tokens: int) -> str | None:
        """Why a prompt of this length can never be served, as a sentence for the user; None if it can."""
        if num_prompt_tokens < 1:
            return "the prompt is empty: give it at least one token"
        if num_prompt_tokens < self.capacity:
            return None
        if self.capacity == self.max_model_len:
            return (
                f"the prompt has {num_prompt_tokens} tokens, but with at least one token of answer only "
                f"{self.max_model_len} fit the context: shorten it or start a new session"
            )
        return (
            f"the prompt has {num_prompt_tokens} tokens, but the KV pool of {self._pool.total} blocks of "
            f"{self.block_size} tokens never holds more than {self._pool.total * self.block_size}: shorten it or raise "
            "num_kv_blocks"
        )

    def add(self, request: Request) -> None:
        """Queue a request that `refusal` has nothing against. It may bring output, computed elsewhere before."""
        if (refusal := self.refusal(request.num_prompt_tokens)) is not None:
            raise ValueError(refusal)
        if not request.num_tokens < request.max_total_tokens <= self.capacity:
            raise ValueError(f"max_total_tokens is {request.max_total_tokens}, but {self.capacity} is the most")
        request.arrival = self._arrivals
        self._arrivals += 1
        self._waiting.append(request)
        self._shares.arrive(request.session)

    def append(self, request: Request, token_id: int) -> None:
        """Record a token sampled for a running request, all of whose tokens before it have been computed.

        Several in one step are drafts that were accepted, and one more; `settle` follows the last.
        """
        before = request.num_computed_tokens
        request.num_computed_tokens = request.num_tokens
        if before < request.num_computed_tokens:
            self._publish(request, before)
        request.output_ids.append(token_id)
        if self._limits.kv_layout == "none":
            self._free_blocks(request)

    def settle(self, request: Request) -> None:
        """The drafts of a request that goes on are verified: the blocks of those that were rejected go back."""
        request.draft_ids.clear()
        held = self._blocks_for(self._extent(request, request.num_computed_tokens))
        rejected = request.block_table[held:]
        del request.block_table[held:]
        self._let_go(request, rejected)

    def forget_prefixes(self) -> None:
        """What requests to come compute is no longer what was, or by those that run now will be, computed."""
        self._epoch += 1
        self._pool.forget()

    def preempt_all(self) -> None:
        """Nothing in the cache holds any more: every running request is computed again, in its turn."""
        self.forget_prefixes()
        for request in list(self._running):
            self._preempt(request)
            self._preempted.append(request.request_id)

    def finish(self, request: Request) -> None:
        """The request is over, for whatever reason: its blocks are free from now on."""
        queue = self._running if request.state is RequestState.RUNNING else self._waiting
        queue.remove(request)
        self._shares.leave(request.session)
        self._free_blocks(request)
        request.state = RequestState.FINISHED

    # --- what there is ---

    def __iter__(self) -> Iterator[Request]:
        """Live requests: the running ones, then those waiting, each in order of arrival."""
        yield from self._running
        yield from self._waiting

    @property
    def has_work(self) -> bool:
        return bool(self._running or self._waiting)

    @property
    def blocks(self) -> BlockCounts:
        return self._pool.counts

    def block_changes(self) -> tuple[BlockChange, ...]:
        """What has become of the blocks since the last call."""
        return tuple(self._describe(block) for block in self._pool.changes())

    def _describe(self, block: int) -> BlockChange:
        content, holders = self._pool.content(block), self._holders.get(block, [])
        index = holders[0].block_table.index(block) if holders else 0
        name = content.name.hex()[:8] if content else ""
        return BlockChange(block, tuple(request.request_id for request in holders), index, name)

    def rows(self) -> tuple[RequestRow, ...]:
        return tuple(request.row() for request in self)

    def check(self) -> None:
        """Raise AssertionError where the bookkeeping contradicts itself. Cheap enough for every step of a test."""
        self._pool.check(request.block_table for request in self)
        for request in self._running:
            held = len(request.block_table)
            assert request.state is RequestState.RUNNING
            dense = self._limits.kv_layout == "dense" and held > 0
            needed = request.max_total_tokens - 1 if dense else request.num_computed_tokens
            assert held == self._blocks_for(needed), f"{request.request_id} holds {held} blocks"
            assert request.num_computed_tokens <= request.num_tokens
        for request in self._waiting:
            assert request.state in (RequestState.WAITING, RequestState.PREEMPTED)
            assert not request.block_table, f"{request.request_id} waits but holds blocks"
            assert request.num_computed_tokens == 0
        for queue in (self._running, self._waiting):
            arrivals = [request.arrival for request in queue]
            assert arrivals == sorted(arrivals), "a queue is out of order"

    # --- the step ---

    @property
    def decoding(self) -> list[Request]:
        """Those that are due one token in the next step."""
        return [request for request in self._running if request.is_decode]

    @property
    def prefilling(self) -> list[Request]:
        """Running requests that have more to compute before they decode."""
        return [request for request in self._running if not request.is_decode]

    @property
    def prefill_is_due(self) -> bool:
        """Whether anybody wants more of the next step than a decode: otherwise no pace is needed."""
        return bool(self._waiting) or any(not request.is_decode for request in self._running)

    def schedule(self, pace: int | None = None) -> Plan:
        """Plan one step and carry it out in the books: blocks are allocated and `num_computed_tokens` advanced.

        `pace` is the most prefill that those who decode in this step shall wait for; without chunks it can't be kept.
        """
        step = _Step(self, pace)
        step.decode_running()
        step.prefill_running()
        step.admit_waiting()
        step.prefill_more()
        step.draft()
        return step.finish()

    def _blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def _growth(self, request: Request, num_tokens: int) -> int:
        """Blocks still missing before `num_tokens` more of the request fit."""
        return self._blocks_for(self._extent(request, request.num_computed_tokens + num_tokens)) - len(
            request.block_table
        )

    def _extent(self, request: Request, num_tokens: int) -> int:
        """Tokens that a request gets room for when it needs room for `num_tokens`."""
        return request.max_total_tokens - 1 if self._limits.kv_layout == "dense" else num_tokens

    def _cached_prefix(self, request: Request) -> list[int]:
        """Blocks that hold the beginning of a waiting request; at least its last token is left to compute."""
        found: list[int] = []
        if self._limits.enable_prefix_caching:
            for content in request.contents(self.block_size, request.num_tokens - 1):
                block = self._pool.find(content)
                if block is None:
                    break
                found.append(block)
        return found

    def _publish(self, request: Request, before: int) -> None:
        """Offer the blocks that have become full since `before` tokens were computed, for when the step is done."""
        if self._limits.enable_prefix_caching and request.epoch == self._epoch:
            contents = request.contents(self.block_size, request.num_computed_tokens)
            for index in range(before // self.block_size, len(contents)):
                self._pool.publish(request.block_table[index], contents[index])

    def _preempt(self, victim: Request) -> None:
        """Recomputation rather than swapping: the blocks go back, the tokens stay and will be computed again."""
        self._running.remove(victim)
        self._free_blocks(victim)
        victim.state = RequestState.PREEMPTED
        victim.preemptions += 1
        insort(self._waiting, victim, key=_arrival)

    def _hold(self, request: Request, blocks: list[int]) -> None:
        """Put blocks that were taken or shared at the end of a request's table."""
        request.block_table += blocks
        for block in blocks:
            self._holders.setdefault(block, []).append(request)

    def _free_blocks(self, request: Request) -> None:
        self._let_go(request, request.block_table)
        request.block_table.clear()
        request.draft_ids.clear()
        request.num_computed_tokens = 0

    def _let_go(self, request: Request, blocks: list[int]) -> None:
        for block in blocks:
            self._holders[block].remove(request)
            if not self._holders[block]:
                del self._holders[block]
        self._pool.release(blocks)


class _Step:
    """The making of one plan; lives no longer than that."""

    def __init__(self, scheduler: Scheduler, pace: int | None) -> None:
        self.scheduler = scheduler
        self.limits = scheduler.limits
        self.chunked = scheduler.limits.enable_chunked_prefill
        self.budget = scheduler.limits.max_num_batched_tokens
        self.pace = self.budget if pace is None or not self.chunked else pace
        """Prefill tokens left of what the decodes shall wait for."""
        self.denied_decodes = 0
        self.wanted_drafts = self.kept_for_drafts = 0
        self.drafts: dict[Request, int] = {}
        self.running_prefills: list[Request] = []
        self.wanted: dict[Request, int] = {}
        """By each prefill that came up for tokens and was not short of blocks, in order."""
        self.admitted: set[Request] = set()
        self.spent = 0
        """Prefill tokens granted."""
        self.grants: dict[Request, int] = {}
        self.preempted: list[Request] = []
        self.unscheduled: list[Unscheduled] = []
        self.behind: tuple[Request, ...] = ()
        self.lookups: list[PrefixLookup] = []

    def decode_running(self) -> None:
        for request in self._in_order(r for r in self.scheduler._running if r.is_decode):
            if request.state is not RequestState.RUNNING:
                continue  # gave way to an earlier one in this very loop
            if self.budget < 1:
                self.denied_decodes += 1
                self._deny(request, WaitReason.BUDGET, self.denied_decodes)
            elif self._make_room(request, 1):
                self._grant(request, 1)
        self.wanted_drafts = sum(self._most_drafts(request) for request in self.grants)
        self.kept_for_drafts = min(self.wanted_drafts, self.budget // 2)
        self.budget -= self.kept_for_drafts

    def prefill_running(self) -> None:
        """Those that wait, if any, are left half of the step, until it is known what they take of it."""
        self.running_prefills = self._in_order(r for r in self.scheduler._running if not r.is_decode)
        shared = self.chunked and self.scheduler._waiting
        share = -(-min(self.budget, self.pace) // 2) if shared else self.budget
        for request in self.running_prefills:
            if request.state is RequestState.RUNNING:
                share -= self._prefill(request, share)

    def prefill_more(self) -> None:
        """Running prefills get what those that waited have left."""
        for request in self.running_prefills:
            had = self.grants.get(request, 0)
            missing = self.wanted.get(request, 0) - had
            if request.state is not RequestState.RUNNING or missing <= 0:
                continue
            allowed = self._allowance(missing) if self.chunked else 0
            more = self._within_blocks(request, allowed)
            if more:
                self._grant(request, more)
            if more < allowed:
                blocks = self.scheduler._growth(request, had + allowed) - self.scheduler._pool.num_free
                self._deny(request, WaitReason.BLOCKS, blocks)
            elif more < missing:
                self._deny_tokens(request)

    def admit_waiting(self) -> None:
        """Strictly in order: the first that can't be admitted holds up all behind it."""
        waiting = self._in_order(self.scheduler._waiting)
        for place, request in enumerate(waiting):
            if request in self.preempted:
                # Admitting others now would only take the blocks that it was robbed of.
                self._deny_robbed(request)
            else:
                found = self.scheduler._cached_prefix(request)
                obstacle = self._obstacle(request, found)
                if obstacle is None:
                    self._admit(request, found)
                    continue
                self._deny(request, *obstacle)
            self._hold_up(waiting[place + 1 :])
            break

    def _hold_up(self, waiting: list[Request]) -> None:
        robbed = set(self.preempted)
        for request in waiting if robbed else ():
            if request in robbed:
                self._deny_robbed(request)
        self.behind = tuple(request for request in waiting if request not in robbed) if robbed else tuple(waiting)

    def draft(self) -> None:
        """As many drafts as the tokens that are left and free blocks hold."""
        self.budget += self.kept_for_drafts
        for request in [r for r in self.grants if r.is_decode and r.wanted_drafts]:
            drafts = max(0, min(self._most_drafts(request), self.budget))
            drafts = self._within_blocks(request, drafts)
            if drafts:
                self._grant(request, drafts)
                self.drafts[request] = drafts

    def finish(self) -> Plan:
        chunks = []
        for request, num_tokens in self.grants.items():
            before = request.num_computed_tokens
            is_prefill = not request.is_decode
            drafts = self.drafts.get(request, 0)
            # Not until they are verified do drafts count as the request's.
            request.num_computed_tokens = before + num_tokens - drafts
            self.scheduler._publish(request, before)
            self.scheduler._shares.give(request.session, num_tokens)
            chunks.append(Chunk(request, num_tokens, before, is_prefill, request.num_uncomputed_tokens == 0, drafts))
        preempted = (*self.scheduler._preempted, *(request.request_id for request in self.preempted))
        self.scheduler._preempted.clear()
        return Plan(tuple(chunks), tuple(self.unscheduled), self.behind, preempted, tuple(self.lookups))

    # --- parts of it ---

    def _most_drafts(self, request: Request) -> int:
        """A step gives one token more than the drafts that it verifies, and a request no more than it may have.

        Where nothing is kept, the step after would compute all of them again.
        """
        if self.limits.kv_layout == "none":
            return 0
        return max(0, min(request.wanted_drafts, request.max_total_tokens - request.num_tokens - 1))

    def _in_order(self, requests: Iterable[Request]) -> list[Request]:
        return ordered(requests, self.limits.scheduling_policy, self.scheduler._shares)

    def _admit(self, request: Request, found: list[int]) -> None:
        """Begin with the blocks that the prefix cache has of it."""
        scheduler = self.scheduler
        scheduler._waiting.remove(request)
        insort(scheduler._running, request, key=_arrival)
        request.state = RequestState.RUNNING
        request.epoch = scheduler._epoch
        scheduler._pool.share(found)
        scheduler._hold(request, found)
        request.num_computed_tokens = request.cached_tokens = len(found) * scheduler.block_size
        if self.limits.enable_prefix_caching:
            lookup = PrefixLookup(request.request_id, request.session, request.num_tokens, request.cached_tokens)
            self.lookups.append(lookup)
        self.admitted.add(request)
        self._prefill(request, self.budget)
        if self.grants.get(request, 0) < self.wanted.get(request, 0):
            self._deny_tokens(request)

    def _prefill(self, request: Request, at_most: int) -> int:
        """Give a running request as much of its gap as tokens and blocks allow; returns how much."""
        wanted = request.num_uncomputed_tokens
        allowed = self._allowance(wanted, at_most)
        granted = self._fit_blocks(request, allowed) if allowed else 0
        if granted:
            self._grant(request, granted)
        if request.state is not RequestState.RUNNING:
            return 0  # it had to give way itself, and is told so
        if granted < allowed:
            missing = self.scheduler._growth(request, allowed) - self.scheduler._pool.num_free
            self._deny(request, WaitReason.BLOCKS, missing)
        else:
            self.wanted[request] = wanted
        return granted

    def _allowance(self, wanted: int, at_most: int | None = None) -> int:
        """Tokens of a prefill that budget and pace allow: any part of it, or without chunking all or nothing.

        Without chunking, the first prefill of a step is let through whatever its length, or a prompt longer than the
        budget could never run. That long step is what chunking is there to avoid.
        """
        if self.chunked:
            return max(0, min(wanted, self.budget, self.pace, self.budget if at_most is None else at_most))
        first = not any(not request.is_decode for request in self.grants)
        return wanted if wanted <= self.budget or first else 0

    def _fit_blocks(self, request: Request, num_tokens: int) -> int:
        """How many of `num_tokens` find room: all of them, or with chunking as many as the free blocks hold."""
        if not self._make_room(request, 1 if self.chunked else num_tokens):
            return 0
        return self._within_blocks(request, num_tokens)

    def _within_blocks(self, request: Request, num_tokens: int) -> int:
        """How many of `num_tokens` more the blocks hold that it has or that are free."""
        scheduler = self.scheduler
        room = (len(request.block_table) + scheduler._pool.num_free) * scheduler.block_size
        return min(num_tokens, room - request.num_computed_tokens - self.grants.get(request, 0))

    def _grant(self, request: Request, num_tokens: int) -> None:
        """More for a request than it may have been given already."""
        scheduler = self.scheduler
        total = self.grants.get(request, 0) + num_tokens
        scheduler._hold(request, scheduler._pool.allocate(scheduler._growth(request, total)))
        self._count(request, num_tokens)
        self.grants[request] = total

    def _count(self, request: Request, num_tokens: int) -> None:
        self.budget -= num_tokens
        if not request.is_decode:
            self.pace -= num_tokens
            self.spent += num_tokens

    def _least(self, wanted: int) -> int:
        """Tokens below which a prefill gets nothing."""
        return 1 if self.chunked else wanted

    def _deny_robbed(self, request: Request) -> None:
        missing = self._shortage(request, self.scheduler._cached_prefix(request))
        self._deny(request, WaitReason.PREEMPTED_NOW, missing)

    def _deny_tokens(self, request: Request) -> None:
        """A prefill that got fewer tokens than it wanted, none perhaps."""
        self._deny(request, *self._shortfall(request, self.wanted[request]))

    def _shortfall(self, request: Request, wanted: int) -> tuple[WaitReason, int]:
        """Which of budget and pace a prefill is short of, and by how much before it gets all, or something at last.

        What is added goes to others, too: to those before it, and half of it to the other side, of those that run and
        those that wait, until these have all they want.
        """
        running = request in self.running_prefills
        others = sum(self.wanted.get(r, 0) for r in (self.admitted if running else self.running_prefills))
        earlier: Iterable[Request] = self.admitted - {request}
        if running:
            earlier = self.running_prefills[: self.running_prefills.index(request)]
        before = sum(self.wanted.get(r, 0) for r in earlier)
        if request in self.grants:
            needed = before + wanted + others
        elif self.chunked:
            needed = before + 1 + min(others, before + (not running))
        else:
            needed = before + others + wanted
        # Budget and pace as they were before the first prefill.
        if self.pace < self.budget:
            return WaitReason.PACED, needed - (self.pace + self.spent)
        # Of more tokens, too, up to half would be kept for drafts.
        needed += min(self.wanted_drafts, needed - 1)
        return WaitReason.BUDGET, needed + self.denied_decodes - (self.budget + self.spent + self.kept_for_drafts)

    def _deny(self, request: Request, reason: WaitReason, missing: int) -> None:
        self.unscheduled.append(Unscheduled(request.request_id, request.session, reason, max(1, missing)))

    def _make_room(self, request: Request, num_tokens: int) -> bool:
        """Preempt the latest arrivals until the request's growth fits. False if it had to give way itself."""
        scheduler = self.scheduler
        while scheduler._growth(request, num_tokens) > scheduler._pool.num_free:
            victim = scheduler._running[-1]
            self._preempt(victim)
            if victim is request:
                return False
        return True

    def _preempt(self, victim: Request) -> None:
        self._count(victim, -self.grants.pop(victim, 0))
        self.wanted.pop(victim, None)
        self.unscheduled = [u for u in self.unscheduled if u.request_id != victim.request_id]
        self.scheduler._preempt(victim)
        self.preempted.append(victim)

    def _obstacle(self, request: Request, found: list[int]) -> tuple[WaitReason, int] | None:
        """What keeps a waiting request out of this step, and how much of it is missing."""
        if len(self.scheduler._running) >= self.limits.max_num_seqs:
            return WaitReason.BATCH_FULL, len(self.scheduler._running) + 1 - self.limits.max_num_seqs
        wanted = request.num_tokens - len(found) * self.scheduler.block_size
        if self._allowance(wanted) < 1:
            return self._shortfall(request, wanted)
        shortage = self._shortage(request, found)
        return (WaitReason.BLOCKS, shortage) if shortage > 0 else None

    def _shortage(self, request: Request, found: list[int]) -> int:
        """Blocks missing before the request may be admitted.

        It needs room for all its tokens, not just for the first chunk, beside what the admitted prefills are still owed
        and one block for each running request to grow into. Without that reserve it would be preempted soon after it
        came in, and again, and again.
        """
        scheduler = self.scheduler
        owed = sum(scheduler._growth(r, r.num_uncomputed_tokens) for r in scheduler._running)
        reserve = 0 if self.limits.kv_layout == "dense" else len(scheduler._running)
        # Cached blocks that are free count among the free ones until they are taken; those in use cost nothing.
        shared = sum(scheduler._pool.references(block) > 0 for block in found)
        wanted = scheduler._growth(request, request.num_uncomputed_tokens)
        return wanted - shared + owed + reserve - scheduler._pool.num_free
