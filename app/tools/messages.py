"""From turns and receipts to what the model is sent: each answer as it wrote it, then the results of its calls.

The prompt after a call begins with all tokens of the prompt before it and of the answer, so that the blocks in the KV
cache are found again. For that the answer goes back as the model wrote it, markup included, and what follows an answer
never changes once it has been sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from app.tools.folds import Folds
from inference.protocol import THOUGHT, Message
from inference.tools.calls import call_id
from inference.tools.compaction import summary_messages
from inference.tools.markup import OPEN, RESPONSE, Answer, parse_answer
from inference.tools.receipts import Receipt
from inference.tools.rounds import LAST_ROUND

NOT_MADE = "error: this call was not made"


class SomeTurn(Protocol):
    """As much of a turn as is needed here."""

    id: str
    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """One message, and where it comes from."""

    message: Message
    turn: str = ""
    call: str = ""
    """If it is a result: of which call."""


def parts(turns: Sequence[SomeTurn], receipts: Mapping[str, Receipt], max_rounds: int) -> list[Part]:
    """The messages of a path. A call without a finished receipt counts as not made, unless it is in the last answer."""
    found: list[Part] = []
    rounds = 0
    for turn in turns:
        if not turn.text:
            continue
        if turn.role != "assistant":
            rounds = 0
            found.append(Part(Message(turn.role, turn.text), turn.id))
            continue
        answer = taken_apart(turn.text)
        found.append(Part(Message("assistant", answer.kept), turn.id))
        if not answer.calls:
            continue
        rounds += 1
        for call in answer.calls:
            name = call_id(turn.id, call.index)
            receipt = receipts.get(name)
            if receipt is not None and receipt.state.finished:
                text = receipt.result
            elif turn is turns[-1]:
                break
            else:
                text = NOT_MADE
            if rounds == max_rounds and call is answer.calls[-1]:
                text += f"\n{LAST_ROUND}"
            found.append(Part(Message("tool", text), turn.id, name))
    return found


def folded(whole: Sequence[Part], folds: Folds, path: Sequence[str]) -> list[Part]:
    """The parts with what was folded in its short form; `path`: the turns that they are of, empty ones too."""
    end = folds.end(path)
    summed_up = set(path[: path.index(end) + 1]) if end else set()
    found = [_folded(part, folds) for part in whole if part.turn not in summed_up]
    if end:
        begin = 1 if found and found[0].message.role == "system" else 0
        found[begin:begin] = [Part(message) for message in summary_messages(folds.summaries[end])]
    return found


def _folded(part: Part, folds: Folds) -> Part:
    text = folds.results.get(part.call) if part.call else folds.answers.get(part.turn)
    if text is None:
        return part
    if part.message.content.endswith(LAST_ROUND):
        text += f"\n{LAST_ROUND}"
    return replace(part, message=Message(part.message.role, text))


def taken_apart(text: str) -> Answer:
    """A stored answer: its text, its calls and its thought."""
    if not any(marker in text for marker in (OPEN, RESPONSE, THOUGHT)):
        return Answer(text, (), text)
    return parse_answer(text)
