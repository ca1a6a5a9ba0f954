"""What every step tells: what was scheduled, what was not and why, and what there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

from inference.protocol.options import EngineConfig


class RequestState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    PREEMPTED = "preempted"
    FINISHED = "finished"


class WaitReason(StrEnum):
    """Why a request got no tokens in a step, or fewer than it wanted."""

    BUDGET = "token budget spent"
    PACED = "held back for others' next tokens"
    BATCH_FULL = "batch full"
    BLOCKS = "too few free blocks"
    BEHIND = "behind an earlier request"
    PREEMPTED_NOW = "preempted in this step"


@dataclass(frozen=True, slots=True)
class Scheduled:
    """What one request got in a step: `num_tokens` tokens after the `num_computed` that were in the cache before it."""

    request_id: str
    session: str
    num_tokens: int
    num_computed: int
    is_prefill: bool
    """True while prompt tokens (or, after a preemption, earlier output) are computed; False for a decode."""
    samples: bool
    """True if a new token is sampled at the end of this chunk."""
    drafts: int = 0
    """Of its tokens, the last ones, those that were drafted and are verified in this step."""


@dataclass(frozen=True, slots=True)
class Unscheduled:
    request_id: str
    session: str
    reason: WaitReason
    missing: int
    """How many tokens, places in the batch or blocks it was short of."""

    @property
    def why(self) -> str:
        """The reason as a phrase, with the number."""
        return f"{self.reason} (short of {self.missing})"


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One live request as it stands after the step."""

    request_id: str
    session: str
    state: RequestState
    prompt_tokens: int
    output_tokens: int
    computed_tokens: int
    blocks: int
    """In its block table; some may be in others' as well."""
    preemptions: int
    cached_tokens: int = 0
    """Of its tokens, those that the prefix cache had when it was last admitted."""


@dataclass(frozen=True, slots=True)
class PrefixLookup:
    """A request was admitted, and the prefix cache was asked for its beginning."""

    request_id: str
    session: str
    tokens: int
    """Prompt, and output if the request was preempted."""
    cached_tokens: int
    """Those that need not be computed: whole blocks, and never all tokens."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What became of the tokens that were drafted for one request."""

    request_id: str
    session: str
    drafted: int
    accepted: int
    """The first so many."""
    judged: int
    """Those that were compared with the model's own: the accepted ones and the first wrong one. What was drafted behind
    the answer's end is neither right nor wrong."""
    tokens: int
    """That the request got: one more than were accepted, unless it ended with one of these."""

    @property
    def decided(self) -> int:
        """Drafted tokens that were accepted, or came to nothing by a wrong one: not those behind the answer's end."""
        return self.drafted if self.judged > self.accepted else self.judged


@dataclass(frozen=True, slots=True)
class Speculation:
    """Drafting as it stands: how far ahead, and by what figures."""

    method: str
    """draft or ngram."""
    depth: int
    """Tokens drafted for a request in this step, at most."""
    reason: str
    """Why so many, as a phrase."""
    acceptance: tuple[float, ...]
    """By place in a draft: how often the token there is accepted, if all before it are."""
    tokens_per_verification: float
    """Expected of the depth that was asked for; 1 without drafts."""
    break_even: int | None
    """The largest depth that costs no more time than it saves, of those that are allowed; 0 if none does, None as long
    as too little was measured to say."""


@dataclass(frozen=True, slots=True)
class BlockCounts:
    """`free + used == total` at every step."""

    total: int
    used: int
    free: int
    cached: int = 0
    """Of the free ones, those whose content may still be reused."""


@dataclass(frozen=True, slots=True)
class BlockChange:
    """What has become of one block of the pool in a step."""

    block: int
    holders: tuple[str, ...]
    """Requests whose tables it is in; more than one share it, none means that it is free."""
    index: int = 0
    """Its place in their tables: the same in all."""
    content: str = ""
    """The beginning of the hash by which it is found and reused; empty if it is not full, or the twin of another."""

    @property
    def cached(self) -> bool:
        """Free, and still of use."""
        return not self.holders and bool(self.content)


@dataclass(frozen=True, slots=True)
class PhaseTimes:
    """Where the step's time went, in seconds."""

    schedule: float = 0.0
    build: float = 0.0
    compute: float = 0.0
    sample: float = 0.0
    output: float = 0.0
    """Detokenizing, stop strings and events."""
    draft: float = 0.0
    """Before the batch is built: drafting tokens for it to verify."""

    @classmethod
    def mean(cls, times: Sequence[PhaseTimes]) -> PhaseTimes:
        """Of several steps; zeros for none."""
        count = max(1, len(times))
        return cls(**{f.name: sum(getattr(t, f.name) for t in times) / count for f in fields(cls)})

    @property
    def total(self) -> float:
        return self.schedule + self.build + self.compute + self.sample + self.output + self.draft


class FinishReason(StrEnum):
    """Every request ends in exactly one of these."""

    STOP = "stop"
    LENGTH = "length"
    ABORTED = "aborted"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """All that happened in one step. Panels, metrics, benchmarks and tests read only this."""

    step: int
    time: float
    """Monotonic clock at the end of the step."""
    scheduled: tuple[Scheduled, ...]
    unscheduled: tuple[Unscheduled, ...]
    preempted: tuple[str, ...]
    finished: tuple[tuple[str, FinishReason], ...]
    requests: tuple[RequestRow, ...]
    blocks: BlockCounts
    phases: PhaseTimes
    config: EngineConfig
    """The options in force during the step."""
    lookups: tuple[PrefixLookup, ...] = ()
    """In the prefix cache, where that is in force."""
    changed_blocks: tuple[BlockChange, ...] = ()
    """Blocks that are held by others than before, or hold something else; the rest are as they were."""
    pace: int | None = None
    """The most prefill tokens that the step might have, so that its decodes need not wait; None for any number."""
    verified: tuple[Verified, ...] = ()
    speculation: Speculation | None = None
    """None where nobody drafts."""

    @property
    def prefill_tokens(self) -> int:
        return sum(s.num_tokens for s in self.scheduled if s.is_prefill)

    @property
    def decode_tokens(self) -> int:
        return sum(s.num_tokens for s in self.scheduled if not s.is_prefill)

    @property
    def sampled_tokens(self) -> int:
        """With the drafts that were accepted."""
        return sum(s.samples and not s.drafts for s in self.scheduled) + sum(v.tokens for v in self.verified)
