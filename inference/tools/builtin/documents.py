"""Looking things up in the documentation. Where that is and how it is searched is the app's affair."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from inference.tools.context import Context
from inference.tools.definition import Effect, ToolError, tool

MAX_CHARS = 2_000
"""Of what is found; whoever wants to know more asks more precisely."""


@tool(effect=Effect.READS)
def search_docs(
    query: Annotated[str, Field(min_length=1, max_length=500, description="what to look for")], context: Context
) -> str:
    """Search the documentation."""
    if context.search_documents is None:
        raise ToolError("there is no documentation to search")
    return context.search_documents(query).strip()[:MAX_CHARS] or "no results"
