"""The making of one step: who gets how many tokens, and for everyone else the reason why not."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import takewhile

from inference.protocol import PrefixLookup, RequestState, Unscheduled, WaitReason
from inference.scheduling.books import Books
from inference.scheduling.plan import Chunk, Plan
from inference.scheduling.policy import ordered
from inference.scheduling.request import Request
from inference.scheduling.sharing import least_first, ordered_share, running_share, total_for, total_for_whole


class Step:
    """The making of one plan; lives no longer than that.

    Running decodes come first, one token each, so that nobody who is already talking waits. Then prefills share what is
    left (see `sharing`): running ones, admissions, running ones once more; in each of these the order is that of the
    policy. Then drafts: they are a bet, so up to half of what the decodes leave is kept for them, and no block is taken
    from anybody.
    """

    def __init__(self, books: Books, pace: int | None) -> None:
        self.books = books
        self.limits = books.limits
        self.chunked = books.limits.enable_chunked_prefill
        self.budget = books.limits.max_num_batched_tokens
        self.pace = self.budget if pace is None or not self.chunked else pace
        """Prefill tokens left of what the decodes shall wait for."""
        self.denied_decodes: list[Request] = []
        self.wanted_drafts = self.kept_for_drafts = 0
        self.drafts: dict[Request, int] = {}
        self.running_prefills: list[Request] = []
        self.wanted: dict[Request, int] = {}
        """By each prefill that came up for tokens and was not short of blocks, in order."""
        self.admitted: list[Request] = []
        self.owed = 0
        """Blocks that running requests will still need for the tokens they have; as it is when others are admitted."""
        self.spent = 0
        """Prefill tokens granted."""
        self.grants: dict[Request, int] = {}
        self.preempted: list[Request] = []
        self.unscheduled: list[Unscheduled] = []
        self.behind: tuple[Request, ...] = ()
        self.others_wait = False
        """When the running prefills got their share."""
        self.short_of_tokens = False
        """The first that was not admitted lacked tokens and nothing else."""
        self.lookups: list[PrefixLookup] = []

    def plan(self, preempted_before: tuple[str, ...]) -> Plan:
        """Make it; the requests named were preempted since the step before."""
        self.decode_running()
        self.prefill_running()
        self.admit_waiting()
        self.prefill_more()
        self.draft()
        return self.finish(preempted_before)

    def decode_running(self) -> None:
        for request in self._in_order(r for r in self.books.running if r.is_decode):
            if request.state is not RequestState.RUNNING:
                continue  # gave way to an earlier one in this very loop
            if self.budget < 1:
                self.denied_decodes.append(request)
                self._deny(request, WaitReason.BUDGET, len(self.denied_decodes))
            elif self._make_room(request, 1):
                self._grant(request, 1)
        # Those of denied decodes, too: nothing is left to keep for them now, but of more tokens something would be.
        self.wanted_drafts = sum(self._most_drafts(request) for request in (*self.grants, *self.denied_decodes))
        self.kept_for_drafts = min(self.wanted_drafts, self.budget // 2)
        self.budget -= self.kept_for_drafts

    def prefill_running(self) -> None:
        """With their share of the step: first in order, then by what is left to do."""
        self.running_prefills = self._in_order(r for r in self.books.running if not r.is_decode)
        self.others_wait = bool(self.books.waiting)
        share = self.budget
        if self.chunked:
            share = running_share(min(self.budget, self.pace), others_wait=self.others_wait)
        left = ordered_share(share, len(self.running_prefills)) if self.chunked else share
        for request in self.running_prefills:
            if request.state is RequestState.RUNNING:
                left -= self._prefill(request, left)
        if self.chunked:
            for place in least_first([r.num_uncomputed_tokens for r in self.running_prefills]):
                self._add(self.running_prefills[place], share - self.spent)

    def prefill_more(self) -> None:
        """Running prefills get what those that waited have left."""
        for request in self.running_prefills:
            if not self._lacks(request):
                continue
            short_of_blocks = self._add(request, self.budget)
            if short_of_blocks:
                self._deny(request, WaitReason.BLOCKS, short_of_blocks)
            elif self._lacks(request):
                self._deny_tokens(request)

    def admit_waiting(self) -> None:
        """Strictly in order: the first that can't be admitted holds up all behind it."""
        waiting = self._in_order(self.books.waiting)
        if waiting:
            self.owed = sum(map(self._owed_to, self.books.running))
        for place, request in enumerate(waiting):
            if request in self.preempted:
                # Admitting others now would only take the blocks that it was robbed of.
                self._deny_robbed(request)
            else:
                found = self.books.cached_prefix(request)
                obstacle = self._obstacle(request, found)
                if obstacle is None:
                    self._admit(request, found)
                    continue
                self._deny(request, *obstacle)
                self.short_of_tokens = obstacle[0] in (WaitReason.BUDGET, WaitReason.PACED)
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

    def finish(self, preempted_before: tuple[str, ...]) -> Plan:
        chunks = []
        # One that was admitted with all but its last token cached decodes, too.
        for request in sorted(self.grants, key=lambda request: not request.is_decode):
            num_tokens = self.grants[request]
            before = request.num_computed_tokens
            is_prefill = not request.is_decode
            drafts = self.drafts.get(request, 0)
            # Not until they are verified do drafts count as the request's.
            request.num_computed_tokens = before + num_tokens - drafts
            self.books.publish(request, before)
            self.books.shares.give(request.session, num_tokens)
            chunks.append(Chunk(request, num_tokens, before, is_prefill, request.num_uncomputed_tokens == 0, drafts))
        preempted = (*preempted_before, *(request.request_id for request in self.preempted))
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
        return ordered(requests, self.limits.scheduling_policy, self.books.shares)

    def _admit(self, request: Request, found: list[int]) -> None:
        self.books.admit(request, found)
        if self.limits.enable_prefix_caching:
            lookup = PrefixLookup(request.request_id, request.session, request.num_tokens, request.cached_tokens)
            self.lookups.append(lookup)
        self.admitted.append(request)
        self._prefill(request, self.budget)
        self.owed += self._owed_to(request)
        if self.grants.get(request, 0) < self.wanted.get(request, 0):
            self._deny_tokens(request)

    def _lacks(self, request: Request) -> int:
        """Tokens that a running prefill still wants, and is not known to lack blocks for."""
        if request.state is not RequestState.RUNNING:
            return 0
        return max(0, self.wanted.get(request, 0) - self.grants.get(request, 0))

    def _add(self, request: Request, at_most: int) -> int:
        """More for a running prefill, as far as free blocks go; returns how many blocks it was short of."""
        missing = self._lacks(request)
        allowed = self._allowance(missing, at_most) if self.chunked and missing else 0
        if allowed < 1:
            return 0
        had = self.grants.get(request, 0)
        more = self._within_blocks(request, allowed)
        if more > 0:
            self._grant(request, more)
        return self.books.growth(request, had + allowed) - self.books.pool.num_free if more < allowed else 0

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
            missing = self.books.growth(request, allowed) - self.books.pool.num_free
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
        books = self.books
        room = (len(request.block_table) + books.pool.num_free) * books.block_size
        return min(num_tokens, room - request.num_computed_tokens - self.grants.get(request, 0))

    def _grant(self, request: Request, num_tokens: int) -> None:
        """More for a request than it may have been given already."""
        total = self.grants.get(request, 0) + num_tokens
        self.books.allocate(request, total)
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
        missing = self._shortage(request, self.books.cached_prefix(request))
        self._deny(request, WaitReason.PREEMPTED_NOW, missing)

    def _deny_tokens(self, request: Request) -> None:
        """A prefill that got fewer tokens than it wanted, none perhaps."""
        self._deny(request, *self._shortfall(request, self.wanted[request]))

    def _shortfall(self, request: Request, wanted: int) -> tuple[WaitReason, int]:
        """Which of budget and pace a prefill is short of, and by how much before it gets all, or something at last."""
        paced = self.pace < self.budget
        # As it was before the first prefill.
        total = min(self.pace, self.budget) + self.spent
        if self.chunked:
            running = [self.wanted.get(r, 0) for r in self.running_prefills]
            waiting = [self.wanted.get(r, 0) for r in self.admitted if r is not request]
            if request in self.running_prefills:
                place = self.running_prefills.index(request)
                waiting += self._wanted_behind
            else:
                place = len(running) + len(waiting)
                waiting.append(wanted)
            needed = total_for(total, running, waiting, place, wanted if request in self.grants else 1)
        else:
            before = list(takewhile(lambda r: r is not request, self.wanted))
            running = [self.wanted[r] for r in before if r not in self.admitted]
            admitted = [self.wanted[r] for r in before if r in self.admitted]
            needed = total_for_whole(total, running, admitted, wanted)
        if paced:
            return WaitReason.PACED, needed - total
        # Of more tokens, too, up to half would be kept for drafts.
        needed += min(self.wanted_drafts, needed - 1)
        return WaitReason.BUDGET, needed + len(self.denied_decodes) - total - self.kept_for_drafts

    @cached_property
    def _wanted_behind(self) -> list[int]:
        """What those want who would be admitted if there were tokens enough: they come before a second helping.

        Who waits in vain keeps half of the tokens from those that run all the same, until nobody else wants them.
        """
        if not self.short_of_tokens:
            return [0] if self.others_wait else []
        places = self.limits.max_num_seqs - len(self.books.running)
        next_ones = self._in_order(self.books.waiting)[:places]
        return [self._wanted_by(request, self.books.cached_prefix(request)) for request in next_ones]

    def _deny(self, request: Request, reason: WaitReason, missing: int) -> None:
        self.unscheduled.append(Unscheduled(request.request_id, request.session, reason, max(1, missing)))

    def _make_room(self, request: Request, num_tokens: int) -> bool:
        """Preempt the latest arrivals until the request's growth fits. False if it had to give way itself."""
        books = self.books
        while books.growth(request, num_tokens) > books.pool.num_free:
            victim = books.running[-1]
            self._preempt(victim)
            if victim is request:
                return False
        return True

    def _preempt(self, victim: Request) -> None:
        self._count(victim, -self.grants.pop(victim, 0))
        self.wanted.pop(victim, None)
        self.unscheduled = [u for u in self.unscheduled if u.request_id != victim.request_id]
        self.books.preempt(victim)
        self.preempted.append(victim)

    def _obstacle(self, request: Request, found: list[int]) -> tuple[WaitReason, int] | None:
        """What keeps a waiting request out of this step, and how much of it is missing."""
        if len(self.books.running) >= self.limits.max_num_seqs:
            return WaitReason.BATCH_FULL, len(self.books.running) + 1 - self.limits.max_num_seqs
        wanted = self._wanted_by(request, found)
        if self._allowance(wanted) < 1:
            return self._shortfall(request, wanted)
        shortage = self._shortage(request, found)
        return (WaitReason.BLOCKS, shortage) if shortage > 0 else None

    def _wanted_by(self, request: Request, found: list[int]) -> int:
        """Tokens that a waiting request has to compute, with so many blocks found in the prefix cache."""
        return request.num_tokens - len(found) * self.books.block_size

    def _shortage(self, request: Request, found: list[int]) -> int:
        """Blocks missing before the request may be admitted.

        It needs room for all its tokens, not just for the first chunk, beside what the admitted prefills are still owed
        and one block for each running request to grow into. Without that reserve it would be preempted soon after it
        came in, and again, and again.
        """
        books = self.books
        reserve = 0 if self.limits.kv_layout == "dense" else len(books.running)
        # Cached blocks that are free count among the free ones until they are taken; those in use cost nothing.
        shared = sum(books.pool.references(block) > 0 for block in found)
        return self._owed_to(request) - shared + self.owed + reserve - books.pool.num_free

    def _owed_to(self, request: Request) -> int:
        """Blocks that a request will still need for the tokens it has."""
        return self.books.growth(request, request.num_uncomputed_tokens)
