"""What a request asks for: a prompt, and how its tokens are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inference.errors import RequestError

THOUGHT, THOUGHT_END = "<think>", "</think>"
"""Markers of the thought that a reasoning model's answer begins with."""


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
    opening: str = ""
    """Text at the prompt's end that belongs to the answer: the marker of a thought that the chat template opened. The
    answer's text begins with it."""


Prompt = ChatPrompt | TextPrompt | TokenPrompt
