"""Every engine option, as asked for and as in force."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from inference.errors import ConfigError

DTYPES = ("auto", "float32", "bfloat16", "float16")
KV_CACHE_DTYPES = (*DTYPES, "int8", "int4")
ATTENTIONS = ("auto", "flash", "plain")
ACTIVATIONS = ("exact", "bfloat16", "int8")
KV_LAYOUTS = ("paged", "dense", "none")
SPECULATIONS = ("auto", "off", "draft", "ngram")
SCHEDULING_POLICIES = ("fcfs", "shortest", "priority", "fair")


def _option(default: Any, help: str, *, live: bool, at_least: int | None = None, choices: tuple[str, ...] = ()) -> Any:
    """A field of `EngineConfig`: `live` options change at a step boundary, the others when the engine restarts.

    Its value is a number of at least `at_least`, or one of `choices`, where those are given.
    """
    metadata = {"help": help, "live": live, "at_least": at_least, "choices": choices}
    return field(default=default, metadata=metadata)


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
    decode_slowdown: int = _option(
        2,
        "how many times as long as its decodes alone a step may take because of prefill beside them, by what the last "
        "steps took; 0 for as long as the budget makes it",
        live=True,
        at_least=0,
    )
    scheduling_policy: str = _option(
        "fcfs",
        "who is admitted and gets tokens first: fcfs (first come first served), shortest (least left to compute), "
        "priority, or fair (between sessions)",
        live=True,
        choices=SCHEDULING_POLICIES,
    )
    enable_prefix_caching: bool = _option(
        True, "keep full blocks when they become free, and reuse them for requests that begin alike", live=True
    )
    kv_layout: str = _option(
        "paged",
        "paged (blocks as a text grows), dense (each request gets room for its longest text at once) or none (nothing "
        "is kept: every token computes the whole text again); running requests are computed again",
        live=True,
        choices=KV_LAYOUTS,
    )
    block_size: int = _option(16, "tokens in one block of KV cache", live=False, at_least=1)
    num_kv_blocks: int = _option(
        0, "blocks in the KV pool; 0 sizes it from the model and the free memory", live=False, at_least=0
    )
    max_model_len: int = _option(
        0, "longest prompt plus output in tokens; 0 takes the model's own limit", live=False, at_least=0
    )
    dtype: str = _option("auto", "type of activations: auto, float32, bfloat16 or float16", live=False, choices=DTYPES)
    kv_cache_dtype: str = _option(
        "auto",
        "type of the KV cache: auto (the activations'), float32, bfloat16, float16, int8 or int4; running requests are "
        "computed again",
        live=True,
        choices=KV_CACHE_DTYPES,
    )
    kernels: str = _option(
        "auto", "auto, native, mlx or reference, and exceptions as operation=implementation after commas", live=True
    )
    attention: str = _option(
        "auto",
        "flash (through the keys in pieces, no matrix of scores is kept), plain (all scores, then their softmax), or "
        "auto (what kernels says)",
        live=True,
        choices=ATTENTIONS,
    )
    activations: str = _option(
        "exact",
        "what matrices are multiplied by: exact, or rounded to bfloat16 or int8, for speed",
        live=True,
        choices=ACTIVATIONS,
    )

    draft: str = _option(
        "auto",
        "a small model that drafts for this one: a directory or hub id, none, or auto (the demo model's own beside the "
        "demo model)",
        live=False,
    )
    speculation: str = _option(
        "auto",
        "who drafts tokens that one step then verifies: draft (the draft model), ngram (what followed the same words "
        "earlier in the text), off, or auto (the draft model, if there is one)",
        live=True,
        choices=SPECULATIONS,
    )
    num_speculative_tokens: int = _option(
        4, "most tokens that are drafted for a request in one step", live=True, at_least=1
    )
    adaptive_speculation: bool = _option(
        True,
        "draft fewer tokens, or none, where verifying them costs more time than they save, by what the last steps took",
        live=True,
    )

    def __post_init__(self) -> None:
        for f in fields(self):
            value, least = getattr(self, f.name), f.metadata["at_least"]
            if least is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ConfigError(f"{f.name} is {value!r}, but must be a whole number of at least {least}")
            choices = f.metadata["choices"]
            if choices and value not in choices:
                raise ConfigError(f"{f.name} is {value!r}, but must be one of {', '.join(choices)}")


def in_words(value: object) -> str:
    """An option's value as it is shown and typed."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


@dataclass(frozen=True, slots=True)
class KernelState:
    """What computes one operation of the model."""

    operation: str
    implementation: str
    reason: str
    ratio: float = 0.0
    """How many times as fast as MLX's operations our own kernel is; 0 if that was not measured."""
    error: float | None = None
    """How far our own kernel is from the reference, as a fraction of the numbers' size; None if it was not compared,
    or gave no numbers."""


@dataclass(frozen=True, slots=True)
class OptionState:
    """One option as asked for and as in force. `reason` says why they differ, or since when; never empty if they do."""

    name: str
    requested: str
    effective: str
    reason: str = ""
    live: bool = True
    kernels: tuple[KernelState, ...] = ()
    """Of the option of that name: each operation."""
