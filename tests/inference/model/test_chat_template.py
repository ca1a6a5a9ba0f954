"""Chat templates against transformers' apply_chat_template; ChatML for a model without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers

from inference.errors import ModelError, RequestError
from inference.model.chat_template import FALLBACK, ChatTemplate
from inference.model.tokenizer import Tokenizer
from inference.protocol import Message
from tests.inference import tiny

SYSTEM, USER = Message("system", "Be brief."), Message("user", "What is 2 + 3 < 6?")
CALLS = (
    {"name": "add", "arguments": {"a": 2, "b": 3}},
    {"type": "function", "function": {"name": "say", "arguments": {"text": "é <b> 'x'"}}},
)
TOOLS = ({"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}},)
CHATS: dict[str, list[Message]] = {
    "one question": [USER],
    "a system prompt": [SYSTEM, USER, Message("assistant", "Yes."), Message("user", "Sure?")],
    "tool calls": [
        SYSTEM,
        USER,
        Message("assistant", "", CALLS),
        Message("tool", "5"),
        Message("tool", "said"),
        Message("assistant", "It is 5.", CALLS[:1]),
        Message("tool", "5"),
        Message("assistant", "Done."),
    ],
}

# A template of a model's own: what templates in the wild use beyond the plain language.
TEMPLATE = """
{%- for message in messages %}
    {%- if message['role'] not in ['user', 'assistant', 'system', 'tool'] %}{{ raise_exception('bad role') }}{% endif %}
    {%- if loop.index0 > 20 %}{% break %}{% endif %}
[{{ message.role | upper }}] {{ message.content | trim }}{{ eos_token }}
    {% for call in message.tool_calls or [] %}
CALL {{ call | tojson }}
    {% endfor %}
{%- endfor %}
{% if tools is not none %}{{ tools | tojson(indent=2) }}{% endif %}
{% set ns = namespace(last=none) %}{% set ns.last = strftime_now('%Y') | length %}{{ ns.last }}
{% if add_generation_prompt %}[ASSISTANT]{% endif %}
"""


def as_mappings(chat: list[Message]) -> list[dict[str, Any]]:
    return [
        {"role": m.role, "content": m.content} | ({"tool_calls": list(m.tool_calls)} if m.tool_calls else {})
        for m in chat
    ]


@pytest.mark.parametrize("template", [TEMPLATE, FALLBACK.read_text()], ids=["own", "fallback"])
@pytest.mark.parametrize("tools", [(), TOOLS], ids=["", "tools"])
@pytest.mark.parametrize("prompt", [True, False], ids=["prompt", ""])
@pytest.mark.parametrize("chat", list(CHATS))
def test_renders_as_transformers_does(
    tmp_path: Path, template: str, tools: tuple[dict[str, Any], ...], prompt: bool, chat: str
) -> None:
    tiny.write_tokenizer(tmp_path, template)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer.from_directory(tmp_path)
    text = ours.render(CHATS[chat], tools, prompt)
    messages = as_mappings(CHATS[chat])
    options = {"tools": list(tools) or None, "add_generation_prompt": prompt}
    assert text == theirs.apply_chat_template(messages, tokenize=False, **options)
    assert ours.encode(text) == theirs.apply_chat_template(messages, tokenize=True, return_dict=False, **options)


def test_fallback_is_chatml(tmp_path: Path) -> None:
    tiny.write_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_directory(tmp_path)
    assert tokenizer.render([USER]) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nWhat is 2 + 3 < 6?<|im_end|>\n<|im_start|>assistant\n"
    )
    text = tokenizer.render(CHATS["tool calls"], TOOLS, add_generation_prompt=False)
    assert text.startswith("<|im_start|>system\nBe brief.\n\n# Tools\n")
    assert (
        '<tools>\n{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}\n</tools>' in text
    )
    assert (
        '<|im_start|>assistant\n<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 3}}\n</tool_call>\n'
        '<tool_call>\n{"name": "say", "arguments": {"text": "é <b> \'x\'"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n5\n</tool_response>\n<tool_response>\nsaid\n</tool_response><|im_end|>\n"
        '<|im_start|>assistant\nIt is 5.\n<tool_call>\n{"name": "add"'
    ) in text
    assert text.endswith("<|im_start|>assistant\nDone.<|im_end|>\n")


def test_where_a_template_is_found(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    assert ChatTemplate.from_directory(tmp_path, {}).origin == FALLBACK
    assert ChatTemplate.from_directory(tmp_path, {"chat_template": "S"}).render([]) == "S"
    assert ChatTemplate.from_directory(tmp_path, {"chat_template": named}).render([]) == "D"
    (tmp_path / "chat_template.jinja").write_text("F{{ bos_token }}")
    template = ChatTemplate.from_directory(tmp_path, {"chat_template": "S", "bos_token": {"content": "<s>"}})
    assert template.render([]) == "F<s>"


def test_a_broken_template_is_the_models_fault(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer_config.json: the chat template can't be compiled"):
        ChatTemplate.from_directory(tmp_path, {"chat_template": "{% if %}"})


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "refuses these messages: roles must alternate"),
        ("{{ messages[0].content + 1 }}", "refuses these messages: "),
        ("{{ messages.append(1) }}", "refuses these messages: "),
        ("{{ ''.__class__.__mro__ }}", "refuses these messages: "),
    ],
)
def test_a_refusal_is_the_requests_fault(tmp_path: Path, template: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        ChatTemplate.from_directory(tmp_path, {"chat_template": template}).render([USER])
