"""What the engine tells the app."""

from __future__ import annotations

from dataclasses import dataclass

from inference.protocol.commands import Until
from inference.protocol.options import OptionState
from inference.protocol.steps import FinishReason, StepRecord


@dataclass(frozen=True, slots=True)
class ModelInfo:
    name: str
    """The model as it was asked for."""
    path: str
    architecture: str
    num_parameters: int
    weight_bytes: int
    context_length: int
    num_layers: int
    vocab_size: int
    kv_bytes_per_token: int
    quantization: str
    """Such as "4-bit, groups of 64", or "none"."""
    draft: str = ""
    """The draft model, as it was asked for; empty if there is none."""


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """What the engine is doing before it is ready, as a phrase for the user."""

    stage: str


@dataclass(frozen=True, slots=True)
class Ready:
    model: ModelInfo
    options: tuple[OptionState, ...]
    num_kv_blocks: int
    max_model_len: int


@dataclass(frozen=True, slots=True)
class Started:
    """The request passed its checks and waits for the scheduler."""

    request_id: str
    prompt_tokens: int
    seed: int


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    """The most probable tokens with their log-probabilities, best first."""


@dataclass(frozen=True, slots=True)
class Delta:
    """New output of one request. `text` is whole characters and never holds a part of a stop string.

    Where the chat template opened a thought for the model, the first delta is that marker, and has no tokens.
    """

    request_id: str
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    drafted: bool = False
    """Its token was drafted, and accepted; otherwise it was sampled as ever."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds, from the engine's monotonic clock."""

    queued: float
    """From arrival to the first step that computed some of it."""
    ttft: float
    """From arrival to the first sampled token; 0 if there was none."""
    total: float
    prompt_tokens: int
    output_tokens: int
    preemptions: int = 0
    cached_tokens: int = 0
    """Of the prompt, those that the prefix cache had."""

    @property
    def tokens_per_second(self) -> float:
        """Decode speed: the tokens after the first, by the time after the first."""
        elapsed = self.total - self.ttft
        return (self.output_tokens - 1) / elapsed if self.output_tokens > 1 and elapsed > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Finished:
    request_id: str
    reason: FinishReason
    timings: Timings
    message: str = ""
    """For an error: one sentence saying what to do."""


@dataclass(frozen=True, slots=True)
class Configured:
    """Answer to `Configure`: all options as they now stand, and the first step they apply to."""

    options: tuple[OptionState, ...]
    step: int
    error: str = ""
    """Set if the change was refused; nothing changed then."""


@dataclass(frozen=True, slots=True)
class Stepping:
    """The engine has paused, or goes on."""

    paused: bool
    step: int
    """The last one that was computed."""
    reason: str = ""
    """Why it paused, or how long it goes on, as a phrase; empty if it runs freely."""
    breakpoints: tuple[Until, ...] = ()
    """What it pauses at whenever it happens."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording has begun, or ended."""

    path: str
    active: bool
    message: str = ""
    """Why it could not begin, or ended without being asked to; where it begins, what that does to live requests."""


@dataclass(frozen=True, slots=True)
class PrefixExplained:
    """In sentences: what was found, and the first token that differs from the most similar request's."""

    session: str
    text: str


@dataclass(frozen=True, slots=True)
class TokenCount:
    query_id: str
    num_tokens: int
    error: str = ""
    """Set if the prompt can't be tokenized; `num_tokens` is 0 then."""


@dataclass(frozen=True, slots=True)
class MessageCounts:
    query_id: str
    num_tokens: int
    """Of the whole prompt."""
    bare: int = 0
    """Of a prompt with the same tools and an empty question alone."""
    contents: tuple[int, ...] = ()
    """Of each message's text, without what the chat template puts around it."""
    error: str = ""
    """Set if the prompt can't be tokenized; the numbers are missing then."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Sent twice a second from a thread of its own, so that a long step and a hung process can be told apart."""

    step: int
    seconds_in_step: float


@dataclass(frozen=True, slots=True)
class EngineDied:
    """Made by the client when the process ends or says that it can't start; requests in flight are lost with it."""

    message: str
    restartable: bool
    """False if starting again would fail in the same way (a broken model, a bad option)."""


Event = (
    LoadProgress
    | Ready
    | Started
    | Delta
    | Finished
    | StepRecord
    | Configured
    | Stepping
    | Recorded
    | PrefixExplained
    | TokenCount
    | MessageCounts
    | Heartbeat
    | EngineDied
)
