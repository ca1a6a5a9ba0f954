"""What training knows of the app's own way to ask."""

from __future__ import annotations

from pathlib import Path

from chat_format import APP_TOOLS

from inference.tools.context import Context
from inference.tools.toolbox import standard_tools
from inference.tools.workspace import Workspace


def test_training_and_evaluation_list_the_tools_that_the_app_offers(tmp_path: Path) -> None:
    context = Context(Workspace(tmp_path), engine_state=lambda: "", search_documents=lambda query: "")
    offered = [schema["function"] for schema in standard_tools(context).schemas]
    assert {tool["name"]: list(tool["parameters"].get("properties", {})) for tool in offered} == APP_TOOLS
    assert [tool["name"] for tool in offered] == list(APP_TOOLS), "in this order"
