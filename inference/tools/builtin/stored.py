"""Reading on in a result that was too long for the prompt."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from inference.tools.context import Context
from inference.tools.definition import Effect, ToolError, tool
from inference.tools.results import fitting, stored_lines

NOTE = 100
"""Bytes for the word on how to read on."""


@tool(effect=Effect.READS)
def read_result(
    call_id: Annotated[str, Field(description="the id that the shortened result names")],
    context: Context,
    start: Annotated[int, Field(ge=1, description="first line, from 1")] = 1,
    lines: Annotated[int, Field(ge=1, le=1000, description="how many lines")] = 100,
) -> str:
    """Read more of an earlier tool result that was too long to be shown whole."""
    text = context.results.get(call_id)
    if text is None:
        raise ToolError(f"no result is stored under {call_id!r}: take the call_id that the shortened result names")
    found = stored_lines(text)
    if start > len(found):
        raise ToolError(f"the result has {len(found)} lines, so none begins at {start}")
    # Fewer than asked for, rather than a result that is too long itself: then nothing is ever stored twice.
    asked = found[start - 1 : start - 1 + lines]
    chosen = asked[: max(1, fitting(asked, context.result_bytes - NOTE))]
    end = start + len(chosen) - 1
    more = f"; start={end + 1} reads on" if end < len(found) else ""
    return "\n".join([*chosen, f"[lines {start} to {end} of {len(found)}{more}]"])
