"""The only words that pass between the app and the engine: commands, events and the records they carry.

Everything here is a frozen dataclass of plain Python values, so that it can be pickled between processes, written to
JSON and compared in tests. No array, no clock and no file handle ever appears in it. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from inference.errors import ConfigError, RequestError

# --- what a request asks for -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the tokens of one request are chosen, and when it ends. Field names are the ones that vLLM uses.

    Applied to a row of logits in this order: `logit_bias`, repetition, presence and frequency penalties, then (only if
    `temperature` > 0) temperature, `min_p`, `top_k`, `top_p`. Temperature 0 is greedy: the largest logit after
    penalties. Reported log-probabilities are the model's own, before any of this.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """Keep the k most probable tokens; 0 keeps all."""
    min_p: float = 0.0
    """Keep tokens at least this fraction as probable as the most probable one."""
    repetition_penalty: float = 1.0
    """Divides positive and multiplies negative logits of tokens seen in prompt or output (Keskar et al. 2019, 4.1)."""
    presence_penalty: float = 0.0
    """Subtracted once from the logit of every token already in the output."""
    frequency_penalty: float = 0.0
    """Subtracted from a token's logit once for each time it is in the output."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    """The same seed gives the same tokens whatever else is in the batch. None: the engine draws one and reports it."""
    stop: tuple[str, ...] = ()
    """The text ends before the first of these strings."""
    max_tokens: int | None = None
    """None: until the context or the KV pool is full."""
    ignore_eos: bool = False
    logprobs: int | None = None
    """How many alternatives to report with each token's log-probability; 0: the chosen token's alone; None: none."""

    def __post_init__(self) -> None:
        def need(ok: bool, what: str) -> None:
            if not ok:
                raise RequestError(what)

        need(0 <= self.temperature <= 100, f"temperature is {self.temperature}, but must be between 0 and 100")
        need(0 < self.top_p <= 1, f"top_p is {self.top_p}, but must be above 0 and at most 1")
        need(self.top_k >= 0, f"top_k is {self.top_k}, but must be 0 (off) or more")
        need(0 <= self.min_p <= 1, f"min_p is {self.min_p}, but must be between 0 and 1")
        need(
            0 < self.repetition_penalty <= 10,
            f"repetition_penalty is {self.repetition_penalty}, but must be above 0 and at most 10",
        )
        for name in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            need(-10 <= value <= 10, f"{name} is {value}, but must be between -10 and 10")
        need(
            self.max_tokens is None or self.max_tokens >= 1,
            f"max_tokens is {self.max_tokens}, but must be at least 1",
        )
        need(
            self.logprobs is None or 0 <= self.logprobs <= 20,
            f"logprobs is {self.logprobs}, but must be between 0 and 20",
        )
        need(all(self.stop), "a stop string is empty: leave it out or give it at least one character")
        need(all(abs(b) <= 100 for b in self.logit_bias.values()), "a logit_bias lies outside -100 to 100")
        need(
            self.seed is None or 0 <= self.seed < 2**63,
            f"seed is {self.seed}, but must be between 0 and 2**63 - 1",
        )


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat as the chat template sees it. `role` is system, user, assistant or tool."""

    role: str
    content: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """Messages that the engine renders with the model's chat template, ready for an assistant's turn."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    """JSON schemas of the tools offered, as the template expects them."""


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """Raw text, tokenized as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    token_ids: tuple[int, ...]


Prompt = ChatPrompt | TextPrompt | TokenPrompt


# --- how the engine is set up ----------------------------------------------------------------------------------------


KV_CACHE_DTYPES = ("auto", "float32", "bfloat16", "float16", "int8", "int4")


SCHEDULING_POLICIES = ("fcfs", "shortest", "priority", "fair")


def _option(default: Any, help: str, *, live: bool, at_least: int | None = None) -> Any:
    """A field of `EngineConfig`: `live` options change at a step boundary, the others when the engine restarts."""
    return field(default=default, metadata={"help": help, "live": live, "at_least": at_least})


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Every engine option. Each is a command-line flag of the same name and a row of the switches panel."""

    max_num_seqs: int = _option(16, "most requests in one batch", live=True, at_least=1)
    max_num_batched_tokens: int = _option(256, "token budget of one step", live=True, at_least=1)
    enable_chunked_prefill: bool = _option(
        True,
        "compute a long prompt in pieces that fit the budget, beside the decodes of other requests",
        live=True,
    )
    scheduling_policy: str = _option(
        "fcfs",
        "fcfs (first come first served), shortest (least left to compute), priority, or fair (between sessions): who "
        "is admitted and gets tokens first",
        live=True,
    )
    enable_prefix_caching: bool = _option(
        True, "keep full blocks when they become free, and reuse them for requests that begin alike", live=True
    )
    block_size: int = _option(16, "tokens in one block of KV cache", live=False, at_least=1)
    num_kv_blocks: int = _option(
        0, "blocks in the KV pool; 0 sizes it from the model and the free memory", live=False, at_least=0
    )
    max_model_len: int = _option(
        0, "longest prompt plus output in tokens; 0 takes the model's own limit", live=False, at_least=0
    )
    dtype: str = _option("auto", "auto, float32, bfloat16 or float16: type of activations", live=False)
    kv_cache_dtype: str = _option(
        "auto",
        "auto (the activations'), float32, bfloat16, float16, int8 or int4: type of the KV cache; running requests are "
        "computed again",
        live=True,
    )
    kernels: str = _option(
        "auto", "auto, native, mlx or reference, and exceptions as operation=implementation after commas", live=True
    )
    activations: str = _option(
        "exact", "exact, or bfloat16 or int8: round what matrices are multiplied by, for speed", live=True
    )

    def __post_init__(self) -> None:
        for f in fields(self):
            value, least = getattr(self, f.name), f.metadata["at_least"]
            if least is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ConfigError(f"{f.name} is {value!r}, but must be a whole number of at least {least}")
        if self.dtype not in ("auto", "float32", "bfloat16", "float16"):
            raise ConfigError(f"dtype is {self.dtype!r}, but must be auto, float32, bfloat16 or float16")
        if self.scheduling_policy not in SCHEDULING_POLICIES:
            names = ", ".join(SCHEDULING_POLICIES)
            raise ConfigError(f"scheduling_policy is {self.scheduling_policy!r}, but must be one of {names}")
        if self.kv_cache_dtype not in KV_CACHE_DTYPES:
            names = ", ".join(KV_CACHE_DTYPES)
            raise ConfigError(f"kv_cache_dtype is {self.kv_cache_dtype!r}, but must be one of {names}")


@dataclass(frozen=True, slots=True)
class OptionState:
    """One option as asked for and as in force. `reason` says why they differ, or since when; never empty if they do."""

    name: str
    requested: str
    effective: str
    reason: str = ""
    live: bool = True


# --- commands: app to engine -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submit:
    request_id: str
    session: str
    """Which session it belongs to: a label for the records, nothing more."""
    prompt: Prompt
    params: SamplingParams
    priority: int = 0
    """For the policy of that name: smaller goes first."""


@dataclass(frozen=True, slots=True)
class Abort:
    request_id: str


@dataclass(frozen=True, slots=True)
class Configure:
    """Change live options at the next step boundary; answered by `Configured`."""

    changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CountTokens:
    """How many tokens a prompt has once rendered; answered by `TokenCount`."""

    query_id: str
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class Pause:
    """Compute no further step; answered by `Stepping`. Everything else goes on being answered."""


class Condition(StrEnum):
    """What a running engine can be stopped by."""

    PREEMPTION = "a request is preempted"
    KV_ABOVE = "KV use is above"
    SCHEDULED = "a session is scheduled"
    FINISHED = "a request ends"
    REFUSED = "a request is not admitted"


@dataclass(frozen=True, slots=True)
class Until:
    """The engine pauses after the first step that fulfils this."""

    condition: Condition
    percent: float = 0.0
    """For KV_ABOVE."""
    session: str = ""
    """For SCHEDULED."""

    def __str__(self) -> str:
        match self.condition:
            case Condition.KV_ABOVE:
                return f"{self.condition} {self.percent:g} %"
            case Condition.SCHEDULED:
                return f"{self.session} is scheduled"
            case _:
                return str(self.condition)


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on after a pause; answered by `Stepping`, and by another one at the next pause."""

    steps: int | None = None
    """Pause again after so many; None never does for that reason."""
    until: Until | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"{self.steps} steps are none: ask for at least one")


@dataclass(frozen=True, slots=True)
class Record:
    """Write what happens to a file, from now on, or no longer; answered by `Recorded`."""

    path: str
    """Empty to end the recording."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    pass


Command = Submit | Abort | Configure | CountTokens | Pause | Resume | Record | Shutdown


# --- the step record -------------------------------------------------------------------------------------------------


class RequestState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    PREEMPTED = "preempted"
    FINISHED = "finished"


class WaitReason(StrEnum):
    """Why a request got no tokens in a step, or fewer than it wanted."""

    BUDGET = "token budget spent"
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


@dataclass(frozen=True, slots=True)
class Unscheduled:
    request_id: str
    session: str
    reason: WaitReason
    missing: int
    """How many tokens, places in the batch or blocks it was short of."""


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
class BlockCounts:
    """`free + used == total` at every step."""

    total: int
    used: int
    free: int
    cached: int = 0
    """Of the free ones, those whose content may still be reused."""


@dataclass(frozen=True, slots=True)
class PhaseTimes:
    """Where the step's time went, in seconds."""

    schedule: float = 0.0
    build: float = 0.0
    compute: float = 0.0
    sample: float = 0.0
    output: float = 0.0
    """Detokenizing, stop strings and events."""

    @property
    def total(self) -> float:
        return self.schedule + self.build + self.compute + self.sample + self.output


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

    @property
    def prefill_tokens(self) -> int:
        return sum(s.num_tokens for s in self.scheduled if s.is_prefill)

    @property
    def decode_tokens(self) -> int:
        return sum(s.num_tokens for s in self.scheduled if not s.is_prefill)

    @property
    def sampled_tokens(self) -> int:
        return sum(s.samples for s in self.scheduled)


# --- events: engine to app -------------------------------------------------------------------------------------------


class FinishReason(StrEnum):
    """Every request ends in exactly one of these."""

    STOP = "stop"
    LENGTH = "length"
    ABORTED = "aborted"
    ERROR = "error"


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
    """New output of one request. `text` is whole characters and never holds a part of a stop string."""

    request_id: str
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()


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


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording has begun, or ended."""

    path: str
    active: bool
    message: str = ""
    """Why it could not begin, or ended without being asked to."""


@dataclass(frozen=True, slots=True)
class TokenCount:
    query_id: str
    num_tokens: int
    error: str = ""
    """Set if the prompt can't be tokenized; `num_tokens` is 0 then."""


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
    | TokenCount
    | Heartbeat
    | EngineDied
)
