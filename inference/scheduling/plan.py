"""What the scheduler is told and what it answers, both plain values."""

from __future__ import annotations

from dataclasses import dataclass

from inference.protocol import EngineConfig, PrefixLookup, Scheduled, Unscheduled, WaitReason
from inference.scheduling.request import Request


@dataclass(frozen=True, slots=True)
class Limits:
    """The live options that scheduling depends on; may change between any two steps."""

    max_num_seqs: int
    max_num_batched_tokens: int
    enable_chunked_prefill: bool
    enable_prefix_caching: bool = False
    scheduling_policy: str = "fcfs"
    kv_layout: str = "paged"

    @classmethod
    def of(cls, config: EngineConfig) -> Limits:
        return cls(
            config.max_num_seqs,
            config.max_num_batched_tokens,
            config.enable_chunked_prefill,
            config.enable_prefix_caching,
            config.scheduling_policy,
            config.kv_layout,
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive tokens of one request, to be computed in one step."""

    request: Request
    num_tokens: int
    num_computed: int
    """Tokens of this request that were in the cache before the step."""
    is_prefill: bool
    samples: bool
    """The chunk reaches the request's last token, so the step samples the next one."""
    drafts: int = 0
    """Its last tokens, after the request's own: drafts that the step verifies."""

    def describe(self) -> Scheduled:
        return Scheduled(
            request_id=self.request.request_id,
            session=self.request.session,
            num_tokens=self.num_tokens,
            num_computed=self.num_computed,
            is_prefill=self.is_prefill,
            samples=self.samples,
            drafts=self.drafts,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: what is computed, and for everything that wanted more, why not."""

    chunks: tuple[Chunk, ...]
    denied: tuple[Unscheduled, ...]
    behind: tuple[Request, ...]
    """Waiting requests whose turn has not come. There may be thousands, and a simulation asks for no reasons."""
    preempted: tuple[str, ...]
    lookups: tuple[PrefixLookup, ...] = ()

    @property
    def unscheduled(self) -> tuple[Unscheduled, ...]:
        """Everyone who got less than wanted, with the reason."""
        waiting = (Unscheduled(r.request_id, r.session, WaitReason.BEHIND, 1) for r in self.behind)
        return (*self.denied, *waiting)

    @property
    def num_tokens(self) -> int:
        return sum(chunk.num_tokens for chunk in self.chunks)
