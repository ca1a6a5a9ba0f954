"""A session as a Markdown file."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path

from app.sessions.session import Session, Turn, TurnState
from app.tools.messages import taken_apart
from inference.tools.calls import Call, call_id
from inference.tools.definition import visible
from inference.tools.markup import Answer
from inference.tools.receipts import Receipt


def to_markdown(session: Session) -> str:
    """The path on screen as Markdown: one heading per turn, the statistics of each answer in italics below it."""
    parts = [f"# {session.name}\n"]
    if session.system_prompt.strip():
        parts.append(f"> System prompt: {' '.join(session.system_prompt.split())}\n")
    for turn in session.path():
        parts.append(f"## {'You' if turn.is_question else 'Answer'}\n")
        answer = Answer(turn.text, (), turn.text) if turn.is_question else taken_apart(turn.text)
        if answer.thought:
            parts.append(_quoted(f"∴ {answer.thought}"))
        if text := answer.text.rstrip():
            parts.append(f"{text}\n")
        parts += [_call(call, session.receipts.get(call_id(turn.id, call.index))) for call in answer.calls]
        if line := statistics(turn):
            parts.append(f"*{line}*\n")
    return "\n".join(parts)


def _quoted(text: str) -> str:
    return "".join(f"> {line}".rstrip() + "\n" for line in text.split("\n"))


def _call(call: Call, receipt: Receipt | None) -> str:
    """A tool call with what the model got of its result, as a block that no text in it can end early."""
    state = "not made" if receipt is None else receipt.state.value
    lines = [f"{call.name or 'a tool'} ({state})"]
    lines += [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in call.arguments.items()]
    result = call.error if receipt is None else receipt.result
    return "\n".join(f"    {visible(line)}" for line in [*lines, *(f"→ {each}" for each in result.splitlines())]) + "\n"


def statistics(turn: Turn) -> str:
    """How an answer went, in one line; empty for a question and for an answer still under way."""
    if turn.is_question or turn.open:
        return ""
    words = [f"{turn.output_tokens} token{'' if turn.output_tokens == 1 else 's'}"]
    if turn.ttft > 0:
        words.append(f"TTFT {turn.ttft:.2f} s")
    if turn.speed > 0:
        words.append(f"{turn.speed:.1f} tok/s")
    words.append("interrupted" if turn.state is TurnState.INTERRUPTED else turn.reason)
    return " · ".join(word for word in words if word)


def export(session: Session, folder: Path, now: datetime) -> Path:
    """Write the session to a new file in `folder` and return its path; an existing file is never overwritten."""
    stem = re.sub(r"[^\w.-]+", "-", session.name).strip("-.") or "session"
    base = f"{stem}-{now:%Y%m%d-%H%M%S}"
    text = to_markdown(session)
    for number in range(1, 1000):
        path = folder / (f"{base}.md" if number == 1 else f"{base}-{number}.md")
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            return path
        except FileExistsError:
            continue
    raise OSError(f"{folder} holds a thousand exports of the same second")
