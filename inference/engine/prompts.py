"""Turning what a request brings into token ids, with the checks that the scheduler can't make."""

from __future__ import annotations

import re
from collections.abc import Iterable

from inference.errors import RequestError
from inference.model.tokenizer import Tokenizer
from inference.protocol import THOUGHT, ChatPrompt, Prompt, SamplingParams, TextPrompt, TokenPrompt

_OPEN_THOUGHT = re.compile(rf"{THOUGHT}\s*\Z")


def encode_prompt(prompt: Prompt, tokenizer: Tokenizer, vocab_size: int) -> TokenPrompt:
    """The prompt as token ids. `vocab_size` is the model's, which may exceed the tokenizer's.

    A chat template may open a thought in the model's name. The answer's text then begins with what it wrote, so that
    whoever reads or stores the answer sees one form of it, and the template sees it whole in the next prompt.

    Raises RequestError for messages that the chat template refuses and for token ids that the model doesn't have.
    """
    if isinstance(prompt, ChatPrompt):
        text = tokenizer.render(prompt.messages, prompt.tools)
        opened = _OPEN_THOUGHT.search(text)
        return TokenPrompt(tuple(tokenizer.encode(text)), opened[0] if opened else "")
    if isinstance(prompt, TextPrompt):
        return TokenPrompt(tuple(tokenizer.encode(prompt.text)))
    _check_ids(prompt.token_ids, vocab_size, "the prompt")
    return prompt


def check_params(params: SamplingParams, vocab_size: int) -> None:
    """Raise RequestError for what can only be judged beside the model."""
    _check_ids(params.logit_bias, vocab_size, "logit_bias")


def _check_ids(token_ids: Iterable[int], vocab_size: int, where: str) -> None:
    for token_id in token_ids:
        if not 0 <= token_id < vocab_size:
            raise RequestError(f"{where} has token id {token_id}, but this model's lie between 0 and {vocab_size - 1}")
