"""Who gets how many tokens in the next step. Plain numbers in, plain numbers out: no model, no arrays, no clock.

One rule (vLLM's v1 scheduler showed that it is enough): every request has `num_tokens` and `num_computed_tokens`, and
each step hands out tokens from one budget so that the second catches up with the first. Prefill, chunks of it, decode
and recomputation after a preemption are not phases but sizes of that gap; drafts are tokens beyond it.
"""

from __future__ import annotations

from collections.abc import Iterator

from inference.protocol import BlockChange, BlockCounts, RequestRow
from inference.scheduling.books import Books
from inference.scheduling.plan import Limits, Plan
from inference.scheduling.request import Request
from inference.scheduling.step import Step


class Scheduler:
    """Continuous batching over a pool of blocks: requests in and out, and a plan for each step.

    `Step` says how a step is made. Where blocks run out the latest arrival is preempted: its blocks are freed and it is
    computed again later. So the earliest running request always makes progress, and since none is accepted that exceeds
    the pool, every request ends.
    """

    def __init__(self, limits: Limits, *, num_blocks: int, block_size: int, max_model_len: int) -> None:
        if block_size < 1:
            raise ValueError(f"a block holds at least one token, not {block_size}")
        self.books = Books(limits, num_blocks, block_size)
        self.max_model_len = max_model_len
        self._arrivals = 0
        self._preempted: list[str] = []
        """Preempted since the last step, which has to tell it."""

    @property
    def block_size(self) -> int:
        return self.books.block_size

    @property
    def limits(self) -> Limits:
        return self.books.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        """From the next step on. Without a prefix cache there is none to come back to either."""
        self.books.limits = limits
        if not limits.enable_prefix_caching:
            self.forget_prefixes()

    # --- requests in and out ---

    @property
    def capacity(self) -> int:
        """Most tokens that one request may have, prompt and output together.

        One more than the cache holds: the last token is sampled but never computed.
        """
        return min(self.max_model_len, self.books.pool.total * self.block_size + 1)

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
        blocks, size = self.books.pool.total, self.block_size
        return (
            f"the prompt has {num_prompt_tokens} tokens, but the KV pool of {blocks} blocks of {size} tokens never "
            f"holds more than {blocks * size}: shorten it or raise num_kv_blocks"
        )

    def add(self, request: Request) -> None:
        """Queue a request that `refusal` has nothing against. It may bring output, computed elsewhere before."""
        if (refusal := self.refusal(request.num_prompt_tokens)) is not None:
            raise ValueError(refusal)
        if not request.num_tokens < request.max_total_tokens <= self.capacity:
            raise ValueError(f"max_total_tokens is {request.max_total_tokens}, but {self.capacity} is the most")
        request.arrival = self._arrivals
        self._arrivals += 1
        self.books.waiting.append(request)
        self.books.shares.arrive(request.session)

    def append(self, request: Request, token_id: int) -> None:
        """Record a token sampled for a running request, all of whose tokens before it have been computed.

        Several in one step are drafts that were accepted, and one more; `settle` follows the last.
        """
        before = request.num_computed_tokens
        request.num_computed_tokens = request.num_tokens
        if before < request.num_computed_tokens:
            self.books.publish(request, before)
        request.output_ids.append(token_id)
        if self.limits.kv_layout == "none":
            self.books.free(request)

    def settle(self, request: Request) -> None:
        """The drafts of a request that goes on are verified: the blocks of those that were rejected go back."""
        request.draft_ids.clear()
        self.books.trim(request)

    def forget_prefixes(self) -> None:
        """What requests to come compute is no longer what was, or by those that run now will be, computed."""
        self.books.forget_prefixes()

    def begin_anew(self) -> None:
        """With an empty cache and nobody in it, as if nothing had been before. Raises ValueError if somebody is."""
        if self.has_work:
            raise ValueError("there are requests: they have to be finished first")
        self.forget_prefixes()
        self._preempted.clear()

    def preempt_all(self) -> None:
        """Nothing in the cache holds any more: every running request is computed again, in its turn."""
        self.forget_prefixes()
        for request in list(self.books.running):
            self.books.preempt(request)
            self._preempted.append(request.request_id)

    def finish(self, request: Request) -> None:
        """The request is over, for whatever reason: its blocks are free from now on."""
        self.books.remove(request)

    # --- what there is ---

    def __iter__(self) -> Iterator[Request]:
        """Live requests: the running ones, then those waiting, each in order of arrival."""
        yield from self.books.running
        yield from self.books.waiting

    @property
    def has_work(self) -> bool:
        return bool(self.books.running or self.books.waiting)

    @property
    def blocks(self) -> BlockCounts:
        return self.books.pool.counts

    def block_changes(self) -> tuple[BlockChange, ...]:
        """What has become of the blocks since the last call."""
        return tuple(self.books.describe(block) for block in self.books.pool.changes())

    def rows(self) -> tuple[RequestRow, ...]:
        return tuple(request.row() for request in self)

    def check(self) -> None:
        """Raise AssertionError where the books contradict themselves. Cheap enough for every step of a test."""
        self.books.check()

    # --- the step ---

    @property
    def decoding(self) -> list[Request]:
        """Those that are due one token in the next step."""
        return [request for request in self.books.running if request.is_decode]

    @property
    def prefilling(self) -> list[Request]:
        """Running requests that have more to compute before they decode."""
        return [request for request in self.books.running if not request.is_decode]

    @property
    def prefill_is_due(self) -> bool:
        """Whether anybody wants more of the next step than a decode: otherwise no pace is needed."""
        return bool(self.books.waiting) or any(not request.is_decode for request in self.books.running)

    def schedule(self, pace: int | None = None) -> Plan:
        """Plan one step and carry it out in the books: blocks are allocated and `num_computed_tokens` advanced.

        `pace` is the most prefill that those who decode in this step shall wait for; without chunks it can't be kept.
        """
        preempted, self._preempted = tuple(self._preempted), []
        return Step(self.books, pace).plan(preempted)
