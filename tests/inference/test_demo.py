"""The demo model in a chat that fills its context: what it says late is what it says in a fresh one."""

from __future__ import annotations

import pytest

from inference import LLM, EngineConfig, SamplingParams
from inference.protocol import ChatPrompt, Message

SUBJECTS = (
    "paged attention",
    "a block table",
    "rope",
    "continuous batching",
    "the prefix cache",
    "speculative decoding",
    "temperature",
    "top-p sampling",
    "quantization",
    "chunked prefill",
    "flash attention",
    "beam search",
    "the tokenizer",
    "a KV cache",
    "preemption",
    "gqa",
    "rmsnorm",
    "swiglu",
    "softmax",
    "lora",
    "mixture of experts",
    "tensor parallelism",
)
GREEDY = SamplingParams(temperature=0, max_tokens=200)


def thought(answer: str) -> str:
    return answer.partition("</think>")[0]


@pytest.mark.slow
def test_a_long_chat_is_answered_as_a_fresh_one_to_its_end() -> None:
    llm = LLM("demo", EngineConfig(enable_prefix_caching=True))
    questions = [Message("user", f"what is {subject}?") for subject in SUBJECTS]
    fresh = [completion.text for completion in llm.generate([ChatPrompt((q,)) for q in questions], GREEDY)]
    chat: list[Message] = []
    answers = []
    for question in questions:
        chat.append(question)
        completion = llm.generate(ChatPrompt(tuple(chat)), GREEDY)[0]
        assert completion.finish_reason == "stop"
        answers.append(completion.text)
        chat.append(Message("assistant", completion.text))
    assert len(completion.prompt_token_ids) > 1500
    # The longer the chat, the oftener a question is taken for another one; what it is taken for is said as ever.
    understood = [(said, alone) for said, alone in zip(answers, fresh, strict=True) if thought(said) == thought(alone)]
    assert len(understood) > len(SUBJECTS) / 2
    assert sum(said != alone for said, alone in understood) <= 1
