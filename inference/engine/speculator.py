"""Drafting within the step loop: how many tokens are offered to the scheduler, and which.

Before a step is planned, every decoding request is offered some drafts; the scheduler takes as many as tokens and
blocks allow; then they are made. What is drafted never changes an answer, only how many steps it takes.
"""

from __future__ import annotations

import sys
import traceback
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from inference.ops.native import failed_operations
from inference.protocol import EngineConfig, Speculation, StepRecord
from inference.scheduling.plan import Chunk, Plan
from inference.scheduling.request import Request
from inference.scheduling.step_time import Features, StepTime, features
from inference.speculation.acceptance import Acceptance, tokens_expected
from inference.speculation.depth import Depth, Prices, choose
from inference.speculation.drafter import CATCH_UP, Choose, Drafter, Text
from inference.speculation.ngram import NGrams

REMEMBERED = 64
"""Steps that are learned from, of those with drafts and of those without."""
BEGINNING = 3
"""Steps of either kind before what was measured decides."""
SHORT = 2
"""Drafts in a step that is made to learn what they cost: each costs something where they don't pay."""
LOOK = 64
"""Every so many steps one is made the other way: with drafts where they don't pay, without where they do."""
ANEW = 8
"""Steps after which what was measured is looked over."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a step with decodes took."""

    requests: int
    """That decoded."""
    features: Features
    seconds: float
    alone: bool
    """There was no prefill beside the decodes, of whose time nobody knows a part exactly."""


class Speculator:
    """Who drafts, how much, and how well that went."""

    def __init__(self, drafter: Drafter | None) -> None:
        self.drafter = drafter
        self.dictated: Mapping[str, int] | None = None
        """Drafts by request, in the place of what would be chosen: a recording says so."""
        self.problem = ""
        """Why the draft model is asked no more: it failed."""
        self._texts: dict[str, NGrams] = {}
        self._proposed: dict[str, list[int]] = {}
        self._acceptance: dict[str, Acceptance] = {}
        self._steps = 0
        self._depth = 1
        """As decided last."""
        self._now: Speculation | None = None
        self.forget()

    def forget(self) -> None:
        """Steps will take another time from now on."""
        self._plain: deque[Taken] = deque(maxlen=REMEMBERED)
        self._verifying: deque[Taken] = deque(maxlen=REMEMBERED)
        self._learned: StepTime | None = None
        self._since = self._learned_for = 0
        self._draft_seconds = 0.0
        """For each token of depth."""
        self._in_step = False
        """Whether the draft model had nothing to catch up with in this step: its time then says what drafting takes."""

    def reset(self) -> None:
        """The KV pool is a new one."""
        if self.drafter:
            self.drafter.reset()

    # --- before the step is planned ---

    def offer(self, requests: Sequence[Request], config: EngineConfig) -> dict[str, int]:
        """Say how many drafts each of the decoding requests may have in this step; those above 0, by id."""
        self._proposed.clear()
        method = config.speculation
        idle = method == "off" or not requests or (method == "draft" and self.problem)
        if method == "ngram":
            most = max(self.dictated.values(), default=0) if self.dictated else config.num_speculative_tokens
            self._proposed = {request.request_id: self._found(request, most) for request in requests}
        depth = 0 if idle else self._decide(method, requests, config)
        for request in requests:
            if self.dictated is not None:
                depth = self.dictated.get(request.request_id, 0)
            request.wanted_drafts = self._most(method, request, depth)
        return {request.request_id: request.wanted_drafts for request in requests if request.wanted_drafts}

    def _found(self, request: Request, most: int) -> list[int]:
        """What followed where the request's text ended as it does now."""
        text = self._texts.setdefault(request.request_id, NGrams())
        text.extend(request.token_ids(len(text), request.num_tokens))
        return text.propose(most)

    def _most(self, method: str, request: Request, depth: int) -> int:
        if not depth or method == "off":
            return 0
        if method == "ngram":
            return min(depth, len(self._proposed[request.request_id]))
        assert self.drafter is not None
        near = self.drafter.behind(request.request_id, request.num_tokens) <= CATCH_UP
        return depth if near or self.dictated is not None else 0

    def _decide(self, method: str, requests: Sequence[Request], config: EngineConfig) -> int:
        most = config.num_speculative_tokens
        rates = self._acceptance.setdefault(method, Acceptance()).rates(most)
        self._steps += 1
        drafting = len(requests) if method == "draft" else max(1, sum(map(bool, self._proposed.values())))
        prices = self._prices(requests, drafting)
        found = choose(most, rates, prices) if prices else Depth(most, None, "")
        depth, reason = found.depth, found.reason
        if not config.adaptive_speculation:
            depth, reason = most, "always as many, as asked for"
        elif len(self._plain) < BEGINNING:
            depth, reason = 0, "the first steps show what one takes without drafts"
        elif len(self._verifying) < BEGINNING:
            depth, reason = min(SHORT, most), "the first steps show what verifying takes"
        elif self._steps % LOOK < (1 if depth else 2):
            # Two steps where nobody drafted before: in the first one the draft model has to catch up.
            depth = 0 if depth else min(SHORT, most)
            reason = f"every {LOOK} steps one looks whether that still holds: {reason}"
        self._depth = depth
        self._now = Speculation(method, depth, reason, rates, tokens_expected(rates[:depth]), found.break_even)
        return depth

    def _prices(self, requests: Sequence[Request], drafting: int) -> Prices | None:
        """None as long as too little was measured."""
        if len(self._plain) < BEGINNING or len(self._verifying) < BEGINNING:
            return None
        if self._learned is None or self._since >= ANEW or self._learned_for != len(requests):
            steps = self._telling(len(requests))
            self._learned = StepTime.fit([(t.features, t.seconds) for t in steps])
            self._since, self._learned_for = 0, len(requests)
        learned, context = self._learned, sum(r.num_tokens for r in requests) / len(requests)
        return Prices(
            len(requests),
            drafting,
            lambda tokens: max(1e-9, learned.of((1.0, 0.0, tokens, tokens * context / 1000))),
            lambda depth: depth * self._draft_seconds,
        )

    def _telling(self, requests: int) -> list[Taken]:
        """The steps that say most: of about as many requests, as twice the rows may take more than twice the time, and
        without prefill. Where there are too few of them, as when prompts come all the time, the others have to do."""
        for wanted in (
            lambda t: t.alone and requests <= 2 * t.requests and t.requests <= 2 * requests,
            lambda t: t.alone,
            lambda t: True,
        ):
            plain, verifying = (list(filter(wanted, taken)) for taken in (self._plain, self._verifying))
            if min(len(plain), len(verifying)) >= BEGINNING:
                break
        return [*plain, *verifying]

    # --- once it is planned ---

    def draft(self, plan: Plan, config: EngineConfig, choose: Choose) -> None:
        """Put the drafts that the plan has room for into its requests."""
        if self.drafter:
            size = config.block_size
            for chunk in plan.chunks:
                # Of a chunk that begins within a block, that block goes on; those after it are new.
                self.drafter.reused(chunk.request.block_table[-(-chunk.num_computed // size) :])
        if config.speculation == "ngram":
            for chunk in plan.chunks:
                if chunk.drafts:
                    chunk.request.draft_ids = self._proposed[chunk.request.request_id][: chunk.drafts]
        elif config.speculation == "draft" and plan.chunks and (self._depth or self.dictated):
            assert self.drafter is not None
            behind = [self.drafter.behind(c.request.request_id, c.request.num_tokens) for c in plan.chunks]
            self._in_step = max(behind) <= config.num_speculative_tokens + 1
            # Prompts, too, are read as they come: the first drafts then need no catching up.
            drafts = self._drafts(self.drafter, plan, choose)
            for chunk in plan.chunks:
                made = drafts.get(chunk.request.request_id, [])[: chunk.drafts]
                chunk.request.draft_ids = made + [0] * (chunk.drafts - len(made))

    def _drafts(self, drafter: Drafter, plan: Plan, choose: Choose) -> Mapping[Hashable, list[int]]:
        """The draft model's; none if it fails, which is no reason for the requests to."""
        if not self.problem:
            try:
                return drafter.draft([_text(chunk) for chunk in plan.chunks], choose)
            except Exception as error:
                if failed_operations(error):
                    raise  # a kernel's fault: the model's own steps go by the same
                traceback.print_exception(error, file=sys.stderr)
                drafter.reset()
                self.problem = (
                    f"the draft model failed ({type(error).__name__}: {error}); choosing it again tries it again"
                )
        return {}

    # --- once it is done ---

    def observe(self, record: StepRecord) -> None:
        """Learn from a step that was taken."""
        for request_id, _ in record.finished:
            self._texts.pop(request_id, None)
        if self.drafter:
            self.drafter.forget(request_id for request_id, _ in record.finished)
        method = record.config.speculation
        for verified in record.verified:
            self._acceptance.setdefault(method, Acceptance()).observe(verified.judged, verified.accepted)
        decoding = sum(not s.is_prefill for s in record.scheduled)
        if decoding:
            step = features((s.num_tokens, s.num_computed, s.is_prefill) for s in record.scheduled)
            seconds = record.phases.total - record.phases.draft
            taken = Taken(decoding, step, seconds, decoding == len(record.scheduled))
            (self._verifying if record.verified else self._plain).append(taken)
            self._since += 1
            deepest = max((v.drafted for v in record.verified), default=0)
            if deepest and method == "draft" and self._in_step:
                each = record.phases.draft / deepest
                self._draft_seconds += (each - self._draft_seconds) / (4 if self._draft_seconds else 1)

    def report(self) -> Speculation | None:
        """What was decided for the step that was planned last; None if nobody drafts."""
        now, self._now = self._now, None
        return now


def _text(chunk: Chunk) -> Text:
    request = chunk.request
    end = request.num_tokens if not chunk.is_prefill else chunk.num_computed + chunk.num_tokens
    return Text(
        key=request.request_id,
        admission=request.preemptions,
        tokens=request.token_ids,
        length=end,
        block_table=request.block_table,
        cached=request.cached_tokens,
        drafts=chunk.drafts,
    )
