"""The tools that come with glasschat."""

from __future__ import annotations

from inference.tools.builtin.calculator import calculator
from inference.tools.builtin.clock import clock
from inference.tools.builtin.command import run_command
from inference.tools.builtin.documents import search_docs
from inference.tools.builtin.edit import create_file, edit_file
from inference.tools.builtin.engine_state import engine_state
from inference.tools.builtin.files import list_files, read_file, search_files
from inference.tools.context import Context
from inference.tools.definition import Tool

SHORT = (calculator.name, clock.name, search_docs.name)
"""Tools whose results are never long. Beside others, `read_result` is offered too."""


def offered(context: Context) -> list[Tool]:
    """Those that have in this context what they need. `read_result` is not among them: see `SHORT`."""
    tools = [calculator, clock]
    if context.search_documents is not None:
        tools.append(search_docs)
    if context.engine_state is not None:
        tools.append(engine_state)
    if context.workspace is not None:
        tools += [list_files, read_file, search_files, edit_file, create_file, run_command]
    return tools
