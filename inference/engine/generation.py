"""A request from its acceptance to its end, as the engine sees it: sampling, text and times around the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from inference.engine.output import TextStream
from inference.protocol import Delta, FinishReason, RequestState, SamplingParams, Timings
from inference.sampling.sampler import Sampled, SamplingState
from inference.scheduling.request import Request


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What turns tokens into text, and which of them end an output."""

    token_bytes: Callable[[int], bytes]
    """The bytes that a token stands for; none for special tokens, which are never shown."""
    eos_ids: frozenset[int]


class Generation:
    """One live request. Times are seconds of the engine's clock."""

    def __init__(
        self,
        request: Request,
        params: SamplingParams,
        seed: int,
        vocabulary: Vocabulary,
        arrived: float,
        opening: str = "",
    ) -> None:
        """`opening`: what the prompt has of the answer's text."""
        self.request = request
        """Its numbers in the scheduler; replaced by a new object when it is put back in the queue."""
        self.sampling = SamplingState(params, seed, request.prompt_ids)
        self._params = params
        self._vocabulary = vocabulary
        self._text = TextStream(params.stop)
        self._opening = opening
        self.arrived = arrived
        self._first_computed: float | None = None
        self._cached_tokens = 0
        self._first_token: float | None = None

    def bring(self, token_ids: Iterable[int]) -> None:
        """The beginning of the answer was made, and told, elsewhere."""
        for token_id in token_ids:
            self.request.output_ids.append(token_id)
            self.sampling.append(token_id)
            self._text.push(self._vocabulary.token_bytes(token_id))

    @property
    def request_id(self) -> str:
        return self.request.request_id

    def computed(self, began: float) -> None:
        """Some of it was computed in a step that began then."""
        if self._first_computed is None:
            self._first_computed = began
            self._cached_tokens = self.request.cached_tokens

    def opening(self) -> Delta | None:
        """With the first token, and once: what the prompt has of the answer's text, if there is any."""
        text, self._opening = self._opening, ""
        return Delta(self.request_id, text, ()) if text else None

    def accept(self, sampled: Sampled, now: float, *, drafted: bool = False) -> tuple[Delta, FinishReason | None]:
        """Take the token just sampled, already appended by the scheduler: its delta, and why the request ends."""
        token_id = sampled.token_id
        self._first_token = now if self._first_token is None else self._first_token
        self.sampling.append(token_id)
        text = self._text.push(self._vocabulary.token_bytes(token_id))
        reason = self._reason(token_id)
        if reason is not None:
            text += self._text.flush()
        logprobs = () if sampled.logprob is None else (sampled.logprob,)
        return Delta(self.request_id, text, (token_id,), logprobs, drafted), reason

    def _reason(self, token_id: int) -> FinishReason | None:
        is_eos = token_id in self._vocabulary.eos_ids and not self._params.ignore_eos
        if is_eos or self._text.stopped:
            return FinishReason.STOP
        return FinishReason.LENGTH if self.request.is_full else None

    def cut_short(self) -> Delta | None:
        """The request ends from outside: the text that was held back for a stop string, if there is any."""
        text = self._text.flush()
        return Delta(self.request_id, text, ()) if text else None

    def requeue(self) -> None:
        """Replace its entry for the scheduler by a fresh one with the output so far, to be computed from the start.

        The old entry is still to be finished.
        """
        old = self.request
        was_running = old.state is RequestState.RUNNING
        self.request = Request(
            old.request_id,
            old.session,
            old.prompt_ids,
            old.max_total_tokens,
            old.priority,
            output_ids=old.output_ids,
            state=RequestState.PREEMPTED if was_running else old.state,
            preemptions=old.preemptions + was_running,
        )

    def timings(self, now: float) -> Timings:
        return Timings(
            queued=(now if self._first_computed is None else self._first_computed) - self.arrived,
            ttft=0.0 if self._first_token is None else self._first_token - self.arrived,
            total=now - self.arrived,
            prompt_tokens=self.request.num_prompt_tokens,
            output_tokens=len(self.request.output_ids),
            preemptions=self.request.preemptions,
            cached_tokens=self._cached_tokens,
        )
