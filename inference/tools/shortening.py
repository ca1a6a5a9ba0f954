"""Short forms: a result as one line, an answer without the long arguments of its calls, a text without its middle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from inference.tools.calls import Call, digest
from inference.tools.markup import CLOSE, OPEN, parse_answer
from inference.tools.results import STORED_OVER

KEPT_ARGUMENT = 200
"""Characters; shorter arguments stay as they are."""


def result_in_short(text: str, call_id: str) -> str:
    """A line that says what was there, and how to read it again if `call_id` names the call. A short result stays."""
    if len(text) <= STORED_OVER:
        return text
    again = f'; read_result(call_id="{call_id}") shows it' if call_id else ""
    return f"[an older result of {len(text):,} characters was left out (sha256 {digest(text)[:12]}){again}]"


def calls_in_short(text: str) -> str:
    """An answer with its words, without a thought, and with its calls without their long arguments. One that has none
    of these stays."""
    answer = parse_answer(text)
    if not any(call.error or long_arguments(call.arguments) for call in answer.calls):
        return text
    return "\n".join(part for part in (answer.text, *map(_call_in_short, answer.calls)) if part)


def clipped(text: str, most: int) -> str:
    """The beginning and the end of a text that is longer than `most` characters, with a word on what is missing."""
    if len(text) <= most:
        return text
    begin, end = max(0, most) * 2 // 3, max(0, most) // 3
    left_out = f"[{len(text) - begin - end:,} characters left out]"
    return "\n".join(part for part in (text[:begin], left_out, text[len(text) - end :]) if part)


def _call_in_short(call: Call) -> str:
    if call.error:
        return "[a call that could not be read was left out]"
    long = long_arguments(call.arguments)
    arguments = {name: long.get(name, value) for name, value in call.arguments.items()}
    return f"{OPEN}\n{json.dumps({'name': call.name, 'arguments': arguments}, ensure_ascii=False)}\n{CLOSE}"


def long_arguments(arguments: Mapping[str, Any]) -> dict[str, str]:
    """The long arguments, by name, with what stands in their place."""
    lengths = {name: len(json.dumps(value, ensure_ascii=False)) for name, value in arguments.items()}
    return {name: f"[{n:,} characters left out]" for name, n in lengths.items() if n > KEPT_ARGUMENT}
