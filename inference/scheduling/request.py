"""One request as the scheduler sees it: counts of tokens and a block table. It knows no text and no sampling."""

from __future__ import annotations

from dataclasses import dataclass, field

from inference.protocol import RequestRow, RequestState
from inference.scheduling.blocks import ROOT, Content, chain


@dataclass(slots=True, eq=False)
class Request:
    """A sequence that grows until someone finishes it.

    The scheduling rule needs only two of its numbers: `num_tokens` (prompt and output so far) and
    `num_computed_tokens` (those whose K and V are in the cache). Each step the second moves towards the first; when
    they meet, a token is sampled and the first moves on.
    """

    request_id: str
    session: str
    prompt_ids: list[int]
    max_total_tokens: int
    """Prompt plus output never exceed this; whoever appends tokens sees to it."""
    priority: int = 0
    """Smaller goes first, where the policy asks for it."""
    arrival: int = 0
    """Order of arrival: a number given by the scheduler, not a time."""
    output_ids: list[int] = field(default_factory=list)
    block_table: list[int] = field(default_factory=list)
    num_computed_tokens: int = 0
    state: RequestState = RequestState.WAITING
    preemptions: int = 0
    cached_tokens: int = 0
    """Tokens that the prefix cache had when the request was last admitted."""
    epoch: int = 0
    """Of the prefix cache, when the request was last admitted; only in the same one is what it computes reused."""
    wanted_drafts: int = 0
    """Tokens that somebody offers to draft for the next step; how many are taken is up to the scheduler."""
    draft_ids: list[int] = field(default_factory=list)
    """Those of the step that is being computed: what may follow the output."""
    _contents: list[Content] = field(default_factory=list)

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.prompt_ids)

    @property
    def num_tokens(self) -> int:
        return len(self.prompt_ids) + len(self.output_ids)

    @property
    def num_uncomputed_tokens(self) -> int:
        return self.num_tokens - self.num_computed_tokens

    @property
    def is_decode(self) -> bool:
        """Nothing is left to compute but the token sampled last.

        Having produced output is not the test: a preempted request has output and still has all of it to recompute.
        """
        return self.num_uncomputed_tokens == 1 and self.num_computed_tokens >= self.num_prompt_tokens

    @property
    def is_full(self) -> bool:
        return self.num_tokens >= self.max_total_tokens

    def token_ids(self, start: int, stop: int) -> list[int]:
        """Tokens `start` to `stop` of prompt, output and drafts together."""
        found: list[int] = []
        for part in (self.prompt_ids, self.output_ids, self.draft_ids):
            found += part[max(0, start) : max(0, stop)]
            start, stop = start - len(part), stop - len(part)
        return found

    def contents(self, block_size: int, num_tokens: int) -> list[Content]:
        """What its first blocks hold or will hold: those that `num_tokens` of its tokens fill. Kept once computed."""
        for index in range(len(self._contents), num_tokens // block_size):
            parent = self._contents[-1].name if self._contents else ROOT
            tokens = tuple(self.token_ids(index * block_size, (index + 1) * block_size))
            self._contents.append(Content(chain(parent, tokens), parent, tokens))
        return self._contents[: num_tokens // block_size]

    def row(self) -> RequestRow:
        return RequestRow(
            request_id=self.request_id,
            session=self.session,
            state=self.state,
            prompt_tokens=self.num_prompt_tokens,
            output_tokens=len(self.output_ids),
            computed_tokens=self.num_computed_tokens,
            blocks=len(self.block_table),
            preemptions=self.preemptions,
            cached_tokens=self.cached_tokens,
        )
