"""One call of a tool as a model wrote it: read from JSON with suspicion, and identified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

MAX_CALL_CHARS = 200_000
"""A longer call is not read: no tool takes so much, and a model that repeats itself would fill the memory."""
MAX_DEPTH = 32
"""Nesting of arguments; deeper ones serve only to exhaust a stack."""
MAX_NAME_CHARS = 100


class CallError(Exception):
    """Why a call can't be read or its arguments can't be taken: one sentence for the model."""


@dataclass(frozen=True, slots=True)
class Call:
    """What the model asks for. With an `error` it can't be run; `name` and `arguments` are then what could be read."""

    index: int
    """Its place among the calls of one answer, from 0."""
    name: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


def read_call(body: str, index: int) -> Call:
    """The call that stands between `<tool_call>` and `</tool_call>`; errors become the call's `error`.

    Taken as well, since models write them and they can mean one thing only: arguments as a string of JSON, none at all,
    "parameters" for "arguments", line breaks within strings. Whatever could mean two things is refused.
    """
    try:
        name, arguments = _read(body)
    except CallError as error:
        return Call(index, error=str(error))
    return Call(index, name, arguments)


def call_id(answer_id: str, index: int) -> str:
    """A call's identity: the same whenever the same answer is read again, and short enough for a model to copy."""
    return hashlib.sha256(f"{answer_id}:{index}".encode()).hexdigest()[:10]


def arguments_digest(name: str, arguments: Mapping[str, Any]) -> str:
    """Equal for calls that ask for the same, in whatever order their arguments stand."""
    return digest(json.dumps([name, arguments], ensure_ascii=False, sort_keys=True))


def digest(text: str) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def _read(body: str) -> tuple[str, dict[str, Any]]:
    if len(body) > MAX_CALL_CHARS:
        raise CallError(f"the call is longer than {MAX_CALL_CHARS:,} characters: pass less text at a time")
    found = _object(body, "the call")
    name = found.get("name")
    if not isinstance(name, str) or not name.strip():
        raise CallError('the call names no tool: write {"name": "…", "arguments": {…}}')
    if len(name) > MAX_NAME_CHARS:
        raise CallError(f"the name of the tool is longer than {MAX_NAME_CHARS} characters")
    if "arguments" in found and "parameters" in found:
        raise CallError('the call has both "arguments" and "parameters": give only "arguments"')
    arguments = found.get("arguments", found.get("parameters"))
    if isinstance(arguments, str):
        arguments = _object(arguments, "the text in arguments")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise CallError('"arguments" must be an object such as {"path": "notes.md"}')
    return name.strip(), arguments


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text, strict=False, object_pairs_hook=_once_each, parse_constant=_no_constant)
        _check_depth(value, what)
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise CallError(
            f"{what} is not valid JSON ({error.msg} at character {error.pos}): write one object with double quotes, "
            'as in {"name": "…", "arguments": {…}}'
        ) from None
    except UnicodeEncodeError:
        raise CallError(f"{what} holds half of a character (a lone surrogate): write whole characters") from None
    except RecursionError:
        raise CallError(f"{what} is nested more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise CallError(f"{what} holds a number that can't be read ({error})") from None
    if not isinstance(value, dict):
        raise CallError(f"{what} must be one JSON object")
    return value


def _check_depth(value: Any, what: str) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [v for v in level if isinstance(v, dict | list)]
        level = [inner for v in containers for inner in (v.values() if isinstance(v, dict) else v)]
        if not level:
            return
    raise CallError(f"{what} is nested more than {MAX_DEPTH} levels deep")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise CallError("a name stands twice in one object of the call: give each argument once")
    return found


def _no_constant(name: str) -> NoReturn:
    raise CallError(f"{name} is no number of JSON: write a number")
