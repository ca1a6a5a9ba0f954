"""Results of calls, bounded: what the model gets of them at once, and how it reads the rest."""

from __future__ import annotations

from dataclasses import dataclass

from inference.tools.calls import digest
from inference.tools.context import ResultStore
from inference.tools.markup import quote_markers

STORED_OVER = 300
"""Characters; shorter results are never left out."""
MAX_ERROR_CHARS = 2_000
"""Of what is said about a call that failed."""
LINE_WIDTH = 400
"""Longer lines of a stored result are shown in pieces of so many characters, so that every part can be reached."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a call came to."""

    text: str
    """For the model: bounded, with control markers broken."""
    ok: bool
    digest: str
    """SHA-256 of the whole result, before it was bounded."""
    chars: int
    """Length of the whole result."""


def result_of_error(sentence: str) -> Result:
    """A call that failed, in a sentence."""
    text = f"error: {sentence}"
    return Result(quote_markers(text), False, digest(text), len(text))


def bounded(text: str, call_id: str, store: ResultStore, most_chars: int, ok: bool = True) -> Result:
    """A result as the model gets it. Of what is longer than `most_chars`, the beginning is shown, whole lines, with a
    word on how to read on. All but short ones are stored: they may be left out of later prompts."""
    whole = Result(quote_markers(text), ok, digest(text), len(text))
    if len(text) > min(STORED_OVER, most_chars):
        store.put(call_id, text)
    if len(text) <= most_chars:
        return whole
    lines = stored_lines(text)
    shown = 0
    room = most_chars
    while shown < len(lines) and (room := room - len(lines[shown]) - 1) >= 0:
        shown += 1
    note = (
        f"[lines 1 to {shown} of {len(lines)}; the rest is stored: "
        f'read_result(call_id="{call_id}", start={shown + 1}) reads on]'
    )
    return Result(quote_markers("\n".join([*lines[:shown], note])), ok, whole.digest, whole.chars)


def stored_lines(text: str) -> list[str]:
    """The lines by which a stored result is read; they hold all of it but the line breaks."""
    return [line[at : at + LINE_WIDTH] for line in text.splitlines() for at in range(0, max(1, len(line)), LINE_WIDTH)]
