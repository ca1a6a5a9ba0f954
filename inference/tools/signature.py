"""From a function's signature to a JSON schema and a check of arguments, by pydantic.

Models write "3" for 3 and 3 for "3": what can mean only one value is taken as that. What is missing, unknown or of
another kind is refused with a sentence that says how the tool is called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticUserError, ValidationError, create_model
from pydantic_core import ErrorDetails

from inference.errors import ConfigError
from inference.tools.calls import CallError
from inference.tools.context import Context
from inference.tools.definition import NAME, Effect, Tool

_STRICTNESS = ConfigDict(extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False)
_SHOWN_ERRORS = 3
_SHOWN_CHOICES = 20
_SHOWN_CHARS = 100
"""Of one choice."""
_SHOWN_DEPTH = 3
"""Choices within choices."""


def describe(function: Callable[..., Any], name: str, effect: Effect) -> Tool:
    """The tool that a function is. Raises ConfigError if a name, a type or the docstring is missing or can't serve."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"a tool can't be named {name!r}: use at most 64 letters, digits, _, - and .")
    description = inspect.cleandoc(function.__doc__ or "")
    if not description:
        raise ConfigError(f"the tool {name} has no docstring: the model needs it to know what the tool does")
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise ConfigError(f"the tool {name} has a type that can't be found ({error})") from None
    model, context_parameter = _model(function, name, hints)
    schema = _plain(model.model_json_schema())

    def check(arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            checked = model.model_validate(dict(arguments))
        except ValidationError as error:
            raise CallError(f"{_sentence(error)}; call it as {usage(name, schema)}") from None
        return {field: getattr(checked, field) for field in model.model_fields}

    return Tool(name, description, schema, effect, check, function, context_parameter)


def usage(name: str, schema: Mapping[str, Any]) -> str:
    """How a tool is called, for an error: name(argument: kind, …), optional ones in brackets. Any schema will do."""
    properties, required = schema.get("properties"), schema.get("required")
    known = properties if isinstance(properties, Mapping) else {}
    needed = required if isinstance(required, list) else []
    parts = {key: f"{_word(key)}: {_kind(kind)}" for key, kind in known.items()}
    return f"{name}({', '.join(part if key in needed else f'[{part}]' for key, part in parts.items())})"


def _model(function: Callable[..., Any], name: str, hints: Mapping[str, Any]) -> tuple[type[BaseModel], str | None]:
    fields: dict[str, Any] = {}
    context_parameter = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ConfigError(f"the tool {name} takes {parameter}: give every parameter a name of its own")
        if parameter.name not in hints:
            raise ConfigError(f"the tool {name} gives no type for {parameter.name}: annotate it")
        if hints[parameter.name] is Context:
            context_parameter = parameter.name
        elif parameter.name.startswith("_"):
            raise ConfigError(f"the tool {name} has a parameter {parameter.name}: begin its name with a letter")
        else:
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (hints[parameter.name], default)
    try:
        return create_model(name, __config__=_STRICTNESS, **fields), context_parameter
    except (PydanticUserError, TypeError, NameError) as error:
        raise ConfigError(f"the tool {name} has a parameter that no JSON can be made for ({error})") from None


def _plain(schema: Any) -> Any:
    """Without the titles that pydantic adds: they repeat the names, and cost tokens in every prompt."""
    if isinstance(schema, dict):
        # A property may be named title; only a title that is a string is pydantic's.
        return {k: _plain(v) for k, v in schema.items() if not (k == "title" and isinstance(v, str))}
    return [_plain(v) for v in schema] if isinstance(schema, list) else schema


def _sentence(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_input=False, include_context=False)
    shown = [_complaint(detail) for detail in details[:_SHOWN_ERRORS]]
    if len(details) > _SHOWN_ERRORS:
        shown.append(f"and {len(details) - _SHOWN_ERRORS} more")
    return ", ".join(shown)


def _complaint(detail: ErrorDetails) -> str:
    place = ".".join(str(part) for part in detail["loc"])[:100]
    if detail["type"] == "missing":
        return f"the argument {place} is missing"
    if detail["type"] == "extra_forbidden":
        return f"there is no argument {place}"
    return f"the argument {place}: {detail['msg'][0].lower()}{detail['msg'][1:]}"


def _kind(schema: Any, depth: int = 0) -> str:
    """What a value must be. Schemas of MCP servers may be anything that JSON Schema allows: `true`, say, or a choice of
    choices; what can't be said in a few words is "any"."""
    if not isinstance(schema, Mapping) or depth > _SHOWN_DEPTH:
        return "any"
    choices, kinds = schema.get("enum"), schema.get("anyOf")
    if isinstance(choices, list) and choices:
        return _either([_word(repr(value)) for value in choices])
    if isinstance(kinds, list) and kinds:
        return _either([_kind(each, depth + 1) for each in kinds])
    kind = schema.get("type", "any")
    return _either([_word(each) for each in (kind if isinstance(kind, list) else [kind])])


def _word(value: object) -> str:
    return " ".join(str(value).split())[:_SHOWN_CHARS]


def _either(choices: list[str]) -> str:
    """The choices, each once and not too many of them."""
    once = list(dict.fromkeys(choices))
    return " or ".join([*once[:_SHOWN_CHOICES], *(["…"] if len(once) > _SHOWN_CHOICES else [])])
