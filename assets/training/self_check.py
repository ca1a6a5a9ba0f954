"""Checks before training: what transformers makes of a conversation is exactly what the model is trained on."""

import random
from pathlib import Path

from transformers import AutoTokenizer

from chat_format import Conversation, pieces, prompt_text, tool_schemas
from conversations import ConversationSampler
from tokenizer import ConversationEncoder, load_tokenizer

CHECKED_CONVERSATIONS = 300


class FormatMismatch(AssertionError):
    """The chat template or the tokenizer of transformers differs from the training text."""


def check_format(folder: Path, sampler: ConversationSampler, seed: int = 11) -> None:
    """Compare texts and token ids of sampled conversations; raises FormatMismatch at the first difference."""
    rng = random.Random(seed)
    reference = AutoTokenizer.from_pretrained(folder)
    encoder = ConversationEncoder(load_tokenizer(folder), as_is=True)
    for _ in range(CHECKED_CONVERSATIONS):
        conversation = sampler.conversation(rng)
        ours = "".join(piece.text for piece in pieces(conversation))
        tools = tool_schemas(conversation.tools) if conversation.tools else None
        theirs = reference.apply_chat_template(conversation.messages, tools=tools, tokenize=False)
        _compare("text", theirs, ours)
        ids = encoder.encode(conversation, rng).ids
        _compare("token ids", reference(ours, add_special_tokens=False)["input_ids"], ids)
        asked = Conversation(conversation.messages[:-1], conversation.tools)
        prompt = reference.apply_chat_template(asked.messages, tools=tools, tokenize=False, add_generation_prompt=True)
        _compare("prompt", prompt, prompt_text(asked))


def _compare(what: str, theirs: object, ours: object) -> None:
    if theirs != ours:
        raise FormatMismatch(f"{what} differs:\ntransformers {theirs!r}\ntraining     {ours!r}")
