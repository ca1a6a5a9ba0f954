"""A model's chat template: messages and tools in, the prompt's text out.

The variables, filters and functions that a template may use are those that transformers offers it, see
https://huggingface.co/docs/transformers/chat_templating_writing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from inference.errors import ModelError, RequestError
from inference.model.config import read_json
from inference.protocol import Message

FALLBACK = Path(__file__).with_name("chatml.jinja")


class ChatTemplate:
    """A compiled template. It runs in a sandbox, since it came with a download."""

    def __init__(self, source: str, origin: Path, special_tokens: Mapping[str, str]) -> None:
        """`origin` is the file that it came from; `special_tokens` such as eos_token are variables of the template.

        Raises ModelError if the template can't be compiled.
        """
        self.source = source
        self.origin = origin
        self._special_tokens = dict(special_tokens)
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ModelError(f"{origin}: the chat template can't be compiled ({error})") from None

    @classmethod
    def from_directory(cls, directory: Path, settings: Mapping[str, Any]) -> ChatTemplate:
        """The model's own template, or ChatML as Qwen2.5 speaks it if there is none.

        `settings` is what tokenizer_config.json holds; a chat_template.jinja beside it goes first.
        """
        special_tokens = {name: text for name in settings if (text := special_token(settings, name)) is not None}
        file = directory / "chat_template.jinja"
        if file.exists():
            return cls(file.read_text(encoding="utf-8"), file, special_tokens)
        template = settings.get("chat_template")
        if isinstance(template, list):
            # Several by name: "default", and perhaps one for tools, which a template for tools alone can't replace.
            template = {entry["name"]: entry["template"] for entry in template}.get("default")
        if isinstance(template, str):
            return cls(template, directory / "tokenizer_config.json", special_tokens)
        return cls(FALLBACK.read_text(encoding="utf-8"), FALLBACK, special_tokens)

    def render(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = (), add_generation_prompt: bool = True
    ) -> str:
        """The prompt's text, ready for the assistant's turn if `add_generation_prompt`.

        Raises RequestError if the template refuses the messages.
        """
        try:
            return self._template.render(
                messages=[_as_mapping(message) for message in messages],
                tools=[dict(tool) for tool in tools] or None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._special_tokens,
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
            raise RequestError(f"the model's chat template refuses these messages: {error}") from None


def special_token(settings: Mapping[str, Any], name: str) -> str | None:
    """The text of a special token in tokenizer_config.json, such as eos_token: a string, or an object around one."""
    if not name.endswith("_token"):
        return None
    value = settings[name].get("content") if isinstance(settings.get(name), Mapping) else settings.get(name)
    return value if isinstance(value, str) else None


def tokenizer_settings(directory: Path) -> dict[str, Any]:
    """What tokenizer_config.json holds; nothing if there is none."""
    path = directory / "tokenizer_config.json"
    return read_json(path) if path.exists() else {}


def _as_mapping(message: Message) -> dict[str, Any]:
    entry: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        entry["tool_calls"] = [dict(call) for call in message.tool_calls]
    return entry


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    # Jinja's own filter escapes <, > and & for HTML, which no model was trained on.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
