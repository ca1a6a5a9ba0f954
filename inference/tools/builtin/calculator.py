"""Arithmetic, computed and not guessed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from inference.tools.builtin.arithmetic import ArithmeticProblem, value_of, written
from inference.tools.definition import Effect, ToolError, tool


@tool(effect=Effect.READS, timeout=5)
def calculator(
    expression: Annotated[str, Field(description="such as (3 + 4) * 2 ** 5, 15% * 80 or sqrt(2)")],
) -> str:
    """Compute the value of an arithmetic expression."""
    try:
        return written(value_of(expression))
    except ArithmeticProblem as problem:
        raise ToolError(str(problem)) from None
