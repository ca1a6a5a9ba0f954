"""What becomes a tool, where tools come from, and what the settings may say."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from inference.errors import ConfigError
from inference.tools import toolbox as toolbox_module
from inference.tools.calls import CallError
from inference.tools.context import Context
from inference.tools.definition import Effect, tool
from inference.tools.settings import ToolSettings, read_settings
from inference.tools.signature import usage
from inference.tools.toolbox import Toolbox, load_toolbox, standard_tools, tools_of_file
from inference.tools.workspace import Workspace


@tool(effect=Effect.READS)
def weigh(
    thing: Annotated[str, Field(description="what to weigh")],
    context: Context,
    unit: Literal["g", "kg"] = "g",
    times: int = 1,
    title: str = "",
) -> str:
    """Weigh a thing."""
    return f"{thing} {unit} {times} {title} {context.call_id}"


def test_the_schema_comes_from_the_signature() -> None:
    assert weigh.schema == {
        "type": "function",
        "function": {
            "name": "weigh",
            "description": "Weigh a thing.",
            "parameters": {
                "type": "object",
                "additionalProperties": False,
                "required": ["thing"],
                "properties": {
                    "thing": {"type": "string", "description": "what to weigh"},
                    "unit": {"type": "string", "enum": ["g", "kg"], "default": "g"},
                    "times": {"type": "integer", "default": 1},
                    "title": {"type": "string", "default": ""},
                },
            },
        },
    }


def test_what_models_write_is_taken_where_it_means_one_thing() -> None:
    assert weigh.check({"thing": 3, "times": "3"}) == {"thing": "3", "unit": "g", "times": 3, "title": ""}
    assert weigh.check({"thing": "x", "times": 2.0})["times"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "the argument thing is missing; call it as weigh(thing: string, [unit: 'g' or 'kg'], [times: integer]"),
        ({"thing": "x", "size": 1}, "there is no argument size"),
        ({"thing": "x", "times": 1.5}, "the argument times: "),
        ({"thing": "x", "unit": "lb"}, "the argument unit: "),
        ({"thing": None}, "the argument thing: "),
        ({"a": 1, "b": 2, "c": 3, "d": 4}, "and 2 more"),
    ],
)
def test_complaints_say_what_is_wrong_and_how_to_call(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(CallError) as error:
        weigh.check(arguments)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "enum", "anyOf", "properties", "required", "x"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["type", "properties", "required"]), json_values), json_values)
def test_any_schema_is_told_in_one_line(schema: dict[str, object], argument: object) -> None:
    assert usage("t", schema).startswith("t(")
    told = usage("t", {"properties": {"x": argument}, "required": ["x"]})
    assert told.startswith("t(x: ")
    assert "\n" not in told


def undocumented(x: int) -> int:
    return x


def untyped(x) -> int:  # type: ignore[no-untyped-def]
    """Has no type."""
    return int(x)


def collecting(*x: int) -> int:
    """Collects."""
    return sum(x)


def positional(x: int, /) -> int:
    """Has no name for it."""
    return x


def private(_x: int) -> int:
    """Hides."""
    return _x


def odd(x: subprocess.Popen[bytes]) -> int:
    """Takes what no JSON is."""
    return 1


@pytest.mark.parametrize("function", [undocumented, untyped, collecting, positional, private, odd])
def test_functions_that_can_be_no_tools_are_refused(function: object) -> None:
    with pytest.raises(ConfigError, match=function.__name__):  # type: ignore[attr-defined]
        tool(effect=Effect.READS)(function)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "two words", "x" * 65, "1st", "a/b", "é"])
def test_names(name: str) -> None:
    with pytest.raises(ConfigError):
        tool(effect=Effect.READS, name=name or " ")(weigh.function)


def test_two_tools_of_one_name() -> None:
    with pytest.raises(ConfigError, match="weigh"):
        Toolbox([weigh, weigh])


def test_what_is_offered_is_what_can_be_used(tmp_path: Path) -> None:
    assert standard_tools(Context()).names == ("calculator", "clock")
    files = standard_tools(Context(workspace=Workspace(tmp_path)))
    assert {"read_file", "edit_file", "run_command", "read_result"} <= set(files.names)
    assert "engine_state" in standard_tools(Context(engine_state=lambda: "")).names
    assert "search_docs" in standard_tools(Context(search_documents=lambda query: query)).names
    asks = {each.name for each in files if each.asks}
    assert asks == {"edit_file", "create_file", "run_command"}


def test_other_names_of_a_tool(tmp_path: Path) -> None:
    tools = standard_tools(Context(workspace=Workspace(tmp_path)))
    assert tools.get("write_file") is tools.get("create_file")
    assert tools.get("nothing") is None
    assert tools.get("") is None


FILE = '''
from __future__ import annotations
from inference.tools import Effect, ToolError, tool

@tool(effect=Effect.READS)
def shout(text: str) -> str:
    """Make it loud."""
    if not text:
        raise ToolError("nothing to shout")
    return text.upper()
'''


def test_tools_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    [shout] = tools_of_file(tmp_path / "mine.py")
    assert shout(**shout.check({"text": "hi"})) == "HI"
    assert shout.source.endswith("mine.py")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x = 1", "no tool"),
        ("1 +", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("import no_such", "no_such"),
    ],
)
def test_files_without_tools(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(ConfigError, match=said):
        tools_of_file(tmp_path / "mine.py")
    with pytest.raises(ConfigError, match="no Python file"):
        tools_of_file(tmp_path / "missing.py")
    with pytest.raises(ConfigError, match="no Python file"):
        tools_of_file(tmp_path)


def test_tools_of_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    here = "tests.inference.tools.test_toolbox"
    found = [
        EntryPoint("good", f"{here}:weigh", toolbox_module.ENTRY_POINTS),
        EntryPoint("bad", f"{here}:undocumented", toolbox_module.ENTRY_POINTS),
        EntryPoint("missing", "no_such_module:x", toolbox_module.ENTRY_POINTS),
    ]
    monkeypatch.setattr(toolbox_module, "entry_points", lambda group: found if group == "glasschat.tools" else [])
    tools, problems = load_toolbox(ToolSettings(), Context())
    assert "weigh" in tools.names
    assert "read_result" in tools.names
    assert [problem.split(" (")[0] for problem in problems] == ["the tools of bad", "the tools of missing"]
    assert "weigh" not in load_toolbox(ToolSettings(packages=False), Context())[0].names
    assert "weigh" not in load_toolbox(ToolSettings(disabled=("weigh",)), Context())[0].names


def test_settings(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    file = tmp_path / "tools.toml"
    file.write_text(
        'workspace = "."\nfiles = ["mine.py"]\npackages = false\ndisabled = ["clock"]\nmax_rounds = 3\n'
        '[mcp.time]\ncommand = ["uvx", "mcp-server-time"]\nenvironment = { TZ = "UTC" }\ntimeout = 2\ntrusted = true\n'
    )
    settings = read_settings(file)
    assert settings.workspace == tmp_path
    assert settings.max_rounds == 3
    [server] = settings.mcp
    assert (server.name, server.command, server.timeout, server.trusted) == (
        "time",
        ("uvx", "mcp-server-time"),
        2,
        True,
    )
    names = load_toolbox(settings, Context())[0].names
    assert names == ("calculator", "shout", "read_result")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x", "not valid TOML"),
        ("workspaces = 1", "no key 'workspaces'; the keys are workspace, files"),
        ("workspace = 1", "workspace must be a path"),
        ('files = "a.py"', "files must be a list"),
        ("packages = 1", "packages must be true or false"),
        ("max_rounds = 0", "max_rounds must be a whole number"),
        ("max_rounds = true", "max_rounds must be a whole number"),
        ("mcp = 1", "mcp must be a table"),
        ("[mcp.a]", "mcp.a needs a command"),
        ('[mcp."a b"]\ncommand = ["x"]', "letters"),
        ('[mcp.a]\ncommand = "x"', "command must be a list"),
        ('[mcp.a]\ncommand = ["x"]\ntimeout = -1', "timeout must be a number"),
        ('[mcp.a]\ncommand = ["x"]\nenvironment = { A = 1 }', "environment must be a table"),
        ('[mcp.a]\ncommand = ["x"]\ntrust = true', "no key 'trust'"),
    ],
)
def test_settings_that_mean_nothing(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "tools.toml"
    file.write_text(content)
    with pytest.raises(ConfigError) as error:
        read_settings(file)
    assert said in str(error.value)


def test_settings_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        read_settings(tmp_path / "missing.toml")


def test_a_start_without_tools_pays_for_nothing() -> None:
    code = (
        "import sys, inference.tools, inference.tools.receipts, inference.tools.markup\n"
        "print([m for m in ('pydantic', 'mcp', 'mlx', 'textual', 'asyncio') if m in sys.modules])\n"
        "import inference.tools.toolbox, inference.tools.rounds, inference.tools.running, inference.tools.mcp_servers\n"
        "inference.tools.toolbox.standard_tools(inference.tools.Context())\n"
        "print([m for m in ('mcp', 'mlx', 'textual') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
