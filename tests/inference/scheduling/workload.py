"""A pretend engine around the scheduler: it samples numbers instead of tokens and ends requests as asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from inference.protocol import KV_LAYOUTS, SCHEDULING_POLICIES
from inference.scheduling.plan import Limits, Plan
from inference.scheduling.request import Request
from inference.scheduling.scheduler import Scheduler


@dataclass
class Arrival:
    """A request to come: when, how long, and after how many tokens its user loses patience (if ever).

    Prompts of one family begin alike.
    """

    step: int
    prompt: int
    output: int
    abort_after: int | None = None
    family: int = 0
    alike: int = 60
    """Tokens that are the family's; the rest is its own."""
    priority: int = 0


arrivals = st.lists(
    st.builds(
        Arrival,
        step=st.integers(0, 30),
        prompt=st.integers(1, 60),
        output=st.integers(1, 25),
        abort_after=st.none() | st.integers(0, 12),
        family=st.integers(0, 2),
        alike=st.integers(0, 60),
        priority=st.integers(-2, 2),
    ),
    min_size=1,
    max_size=14,
)

limits = st.builds(
    Limits,
    max_num_seqs=st.integers(1, 8),
    max_num_batched_tokens=st.integers(1, 40),
    enable_chunked_prefill=st.booleans(),
    enable_prefix_caching=st.booleans(),
    scheduling_policy=st.sampled_from(SCHEDULING_POLICIES),
    kv_layout=st.sampled_from(KV_LAYOUTS),
).map(lambda drawn: drawn if drawn.kv_layout == "paged" else replace(drawn, enable_prefix_caching=False))


paces = st.lists(st.none() | st.integers(1, 30), min_size=1, max_size=4)
drafts = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=5)
"""For each request in turn: how many tokens are drafted, and how many of them are right."""


@dataclass
class Simulation:
    """Runs arrivals through a scheduler step by step, checking its books at every one."""

    scheduler: Scheduler
    pending: list[Arrival]
    step: int = 0
    live: dict[Request, Arrival] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    refused: list[int] = field(default_factory=list)
    paces: list[int | None] = field(default_factory=lambda: [None])
    """The most prefill beside decodes, in turn from step to step."""
    drafts: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    accepted: int = 0
    memory: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """What the KV cache would hold: for each slot, the tokens that its key and value were computed from."""

    @classmethod
    def of(
        cls,
        arrivals: list[Arrival],
        limits: Limits,
        *,
        num_blocks: int,
        block_size: int,
        paces: Sequence[int | None] = (None,),
        drafts: Sequence[tuple[int, int]] = ((0, 0),),
    ) -> Simulation:
        scheduler = Scheduler(limits, num_blocks=num_blocks, block_size=block_size, max_model_len=4096)
        return cls(scheduler, sorted(arrivals, key=lambda a: a.step), paces=list(paces), drafts=list(drafts))

    @property
    def busy(self) -> bool:
        return bool(self.pending or self.live)

    @property
    def pace(self) -> int | None:
        """Of the next step: there is none without decodes."""
        return self.paces[self.step % len(self.paces)] if self.scheduler.decoding else None

    def advance(self) -> Plan:
        """One step: arrivals, aborts, the plan, and tokens for each chunk that samples."""
        self.arrive_and_leave()
        plan = self.scheduler.schedule(self.pace)
        for place, chunk in enumerate(plan.chunks):
            right = min(chunk.drafts, self._drafts(place)[1])
            chunk.request.draft_ids = [7] * right + [8] * (chunk.drafts - right)
        self._compute(plan)
        for chunk in plan.chunks:
            for _ in range(chunk.request.draft_ids.count(7) + 1 if chunk.samples else 0):
                self.scheduler.append(chunk.request, 7)
            if chunk.request.is_full:
                self._end(chunk.request, "length")
            elif chunk.drafts:
                self.accepted += chunk.request.draft_ids.count(7)
                self.scheduler.settle(chunk.request)
        self.scheduler.check()
        self.step += 1
        return plan

    def _drafts(self, place: int) -> tuple[int, int]:
        return self.drafts[(self.step + place) % len(self.drafts)]

    def arrive_and_leave(self) -> None:
        """What happens before the step."""
        while self.pending and self.pending[0].step <= self.step:
            self._arrive(self.pending.pop(0))
        for request, arrival in list(self.live.items()):
            if arrival.abort_after is not None and self.step >= arrival.step + arrival.abort_after:
                self._end(request, "aborted")
        for place, request in enumerate(self.scheduler.decoding):
            request.wanted_drafts = self._drafts(place)[0]

    def _compute(self, plan: Plan) -> None:
        """Write what the chunks compute, then check that each finds its whole context."""
        size = self.scheduler.block_size
        for write in (True, False):
            for chunk in plan.chunks:
                request, end = chunk.request, chunk.num_computed + chunk.num_tokens
                for place in range(chunk.num_computed if write else 0, end):
                    slot = request.block_table[place // size] * size + place % size
                    tokens = tuple(request.token_ids(0, place + 1))
                    if write:
                        self.memory[slot] = tokens
                    else:
                        assert self.memory.get(slot) == tokens, "a request reads what is not its own"

    def _arrive(self, arrival: Arrival) -> None:
        if self.scheduler.refusal(arrival.prompt) is not None:
            self.refused.append(arrival.prompt)
            return
        number = len(self.live) + len(self.ended)
        total = min(arrival.prompt + arrival.output, self.scheduler.capacity)
        alike = min(arrival.alike, arrival.prompt)
        prompt = [arrival.family] * alike + [100 + number] * (arrival.prompt - alike)
        request = Request(f"r{number}", f"s{number % 3}", prompt, total, arrival.priority)
        self.scheduler.add(request)
        self.live[request] = arrival

    def _end(self, request: Request, reason: str) -> None:
        assert request.request_id not in self.ended, "a request ended twice"
        self.ended[request.request_id] = reason
        del self.live[request]
        self.scheduler.finish(request)
