"""Who runs, who waits, and which blocks each holds: the books that a scheduler keeps and a step changes."""

from __future__ import annotations

from bisect import insort

from inference.protocol import BlockChange, RequestState
from inference.scheduling.blocks import BlockPool
from inference.scheduling.plan import Limits
from inference.scheduling.policy import Shares
from inference.scheduling.request import Request


def arrival(request: Request) -> int:
    return request.arrival


class Books:
    """Plain bookkeeping: nothing is decided here."""

    def __init__(self, limits: Limits, num_blocks: int, block_size: int) -> None:
        self.limits = limits
        self.block_size = block_size
        self.pool = BlockPool(num_blocks)
        self.running: list[Request] = []
        self.waiting: list[Request] = []
        """Both in order of arrival."""
        self.shares = Shares()
        self.epoch = 0
        """Of the prefix cache."""
        self._holders: dict[int, list[Request]] = {}

    # --- sizes ---

    def blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def extent(self, request: Request, num_tokens: int) -> int:
        """Tokens that a request gets room for when it needs room for `num_tokens`."""
        return request.max_total_tokens - 1 if self.limits.kv_layout == "dense" else num_tokens

    def growth(self, request: Request, num_tokens: int) -> int:
        """Blocks still missing before `num_tokens` more of the request fit."""
        needed = self.blocks_for(self.extent(request, request.num_computed_tokens + num_tokens))
        return needed - len(request.block_table)

    # --- requests ---

    def admit(self, request: Request, found: list[int]) -> None:
        """Begin with the blocks that the prefix cache has of it."""
        self.waiting.remove(request)
        insort(self.running, request, key=arrival)
        request.state = RequestState.RUNNING
        request.epoch = self.epoch
        self.pool.share(found)
        self._hold(request, found)
        request.num_computed_tokens = request.cached_tokens = len(found) * self.block_size

    def preempt(self, victim: Request) -> None:
        """Recomputation rather than swapping: the blocks go back, the tokens stay and will be computed again."""
        self.running.remove(victim)
        self.free(victim)
        victim.state = RequestState.PREEMPTED
        victim.preemptions += 1
        victim.wanted_drafts = 0  # offered for a step that it is not in
        insort(self.waiting, victim, key=arrival)

    def remove(self, request: Request) -> None:
        """It is over."""
        queue = self.running if request.state is RequestState.RUNNING else self.waiting
        queue.remove(request)
        self.shares.leave(request.session)
        self.free(request)
        request.state = RequestState.FINISHED

    # --- blocks ---

    def allocate(self, request: Request, num_tokens: int) -> None:
        """Room for `num_tokens` more of the request, which the pool has."""
        self._hold(request, self.pool.allocate(self.growth(request, num_tokens)))

    def trim(self, request: Request) -> None:
        """Give back the blocks after those that what is computed needs."""
        held = self.blocks_for(self.extent(request, request.num_computed_tokens))
        self._let_go(request, request.block_table[held:])
        del request.block_table[held:]

    def free(self, request: Request) -> None:
        self._let_go(request, request.block_table)
        request.block_table.clear()
        request.draft_ids.clear()
        request.num_computed_tokens = 0

    def cached_prefix(self, request: Request) -> list[int]:
        """Blocks that hold the beginning of a waiting request; at least its last token is left to compute."""
        found: list[int] = []
        if self.limits.enable_prefix_caching:
            for content in request.contents(self.block_size, request.num_tokens - 1):
                block = self.pool.find(content)
                if block is None:
                    break
                found.append(block)
        return found

    def publish(self, request: Request, before: int) -> None:
        """Offer the blocks that have become full since `before` tokens were computed, for when the step is done."""
        if self.limits.enable_prefix_caching and request.epoch == self.epoch:
            contents = request.contents(self.block_size, request.num_computed_tokens)
            for index in range(before // self.block_size, len(contents)):
                self.pool.publish(request.block_table[index], contents[index])

    def forget_prefixes(self) -> None:
        """What requests to come compute is no longer what was, or by those that run now will be, computed."""
        self.epoch += 1
        self.pool.forget()

    def describe(self, block: int) -> BlockChange:
        content, holders = self.pool.content(block), self._holders.get(block, [])
        index = holders[0].block_table.index(block) if holders else 0
        name = content.name.hex()[:8] if content else ""
        return BlockChange(block, tuple(request.request_id for request in holders), index, name)

    def _hold(self, request: Request, blocks: list[int]) -> None:
        """Put blocks that were taken or shared at the end of a request's table."""
        request.block_table += blocks
        for block in blocks:
            self._holders.setdefault(block, []).append(request)

    def _let_go(self, request: Request, blocks: list[int]) -> None:
        for block in blocks:
            self._holders[block].remove(request)
            if not self._holders[block]:
                del self._holders[block]
        self.pool.release(blocks)

    def check(self) -> None:
        """Raise AssertionError where the books contradict themselves. Cheap enough for every step of a test."""
        self.pool.check(request.block_table for request in (*self.running, *self.waiting))
        for request in self.running:
            held = len(request.block_table)
            assert request.state is RequestState.RUNNING
            dense = self.limits.kv_layout == "dense" and held > 0
            needed = request.max_total_tokens - 1 if dense else request.num_computed_tokens
            assert held == self.blocks_for(needed), f"{request.request_id} holds {held} blocks"
            assert request.num_computed_tokens <= request.num_tokens
        for request in self.waiting:
            assert request.state in (RequestState.WAITING, RequestState.PREEMPTED)
            assert not request.block_table, f"{request.request_id} waits but holds blocks"
            assert request.num_computed_tokens == 0
        for queue in (self.running, self.waiting):
            arrivals = [request.arrival for request in queue]
            assert arrivals == sorted(arrivals), "a queue is out of order"
