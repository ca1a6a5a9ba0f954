"""Malformed and hostile calls, from a file: each ends in a clear message, and nothing around the workspace changes.

The user of this test says yes to every change, and no to every command: a command that was allowed may do anything.
"""

import asyncio
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.tools.context import Context
from inference.tools.definition import Tool
from inference.tools.receipts import CallState, Decision, Receipt
from inference.tools.rounds import Phase, Rounds
from inference.tools.running import serve
from inference.tools.toolbox import Toolbox, standard_tools
from inference.tools.workspace import Workspace

CORPUS = [json.loads(line) for line in (Path(__file__).parent / "hostile_calls.jsonl").read_text().splitlines()]


@pytest.fixture
def around(tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("nobody may see this")
    for directory in ("sub", ".ssh", ".git/hooks"):
        (root / directory).mkdir(parents=True)
    (root / "notes.md").write_text("hello\nworld\n")
    (root / "notes.md").chmod(0o644)
    (root / "data.bin").write_bytes(b"\0\1\2a")
    (root / "readme_key.txt").write_text("-----BEGIN RSA PRIVATE KEY-----\nMII\n")
    for secret in (".env", "sub/.ENV", "server.pem", ".ssh/config", ".git/config", ".git/hooks/pre-commit", "id_rsa"):
        (root / secret).write_text("TOKEN=nobody may see this")
    (root / "link_to_file").symlink_to(tmp_path / "outside" / "secret.txt")
    (root / "link_to_dir").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to("loop")
    (root / "zero").symlink_to("/dev/zero")
    (root / "proc").symlink_to("/proc")
    os.mkfifo(root / "pipe")
    return tmp_path


def snapshot(directory: Path) -> dict[str, tuple[object, ...]]:
    """Everything below: kind, mode, time of change, and content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        is_plain = path.is_file() and not path.is_symlink()
        content = path.read_bytes() if is_plain else os.readlink(path) if path.is_symlink() else b""
        found[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_ino, content)
    return found


def test_there_are_enough_of_them() -> None:
    assert len(CORPUS) >= 60
    assert len({entry["about"] for entry in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize("entry", CORPUS, ids=[entry["about"] for entry in CORPUS])
async def test_it_ends_in_a_message_and_changes_nothing(entry: dict[str, object], around: Path) -> None:
    answer, said = str(entry["answer"]).replace("{around}", str(around)), entry["said"]
    assert isinstance(said, list)
    context = Context(workspace=Workspace(around / "workspace"))
    before = snapshot(around)

    async def ask(receipt: Receipt, preview: object) -> Decision:
        return Decision.NO if receipt.tool == "run_command" else Decision.ONCE

    kept: list[Receipt] = []

    async def keep(receipt: Receipt) -> None:
        kept.append(receipt)

    rounds = Rounds(standard_tools(context))
    shown = rounds.answered("turn", answer)
    await serve(rounds, context, ask, keep)

    assert snapshot(around) == before
    assert rounds.phase is Phase.ANSWER
    assert "tool_call" not in shown.text
    results = [message.content for message in rounds.messages() if message.role == "tool"]
    assert results
    for result in results:
        assert result.startswith("error: ")
        assert len(result) < 2500
        assert "Traceback" not in result
        assert "nobody may see this" not in result
        assert "<|im_" not in result
        assert "\x1b" not in result
    for words in said:
        assert any(words in result for result in results), results
    assert {receipt.state for receipt in rounds.receipts.values()} <= {
        CallState.REFUSED,
        CallState.FAILED,
        CallState.DENIED,
    }
    assert all(Receipt.from_json(receipt.to_json()) == receipt for receipt in kept)


def calls_of(toolbox: Toolbox) -> st.SearchStrategy[str]:
    """Calls of real tools with real names of arguments, and values that are anything."""
    paths = st.lists(
        st.sampled_from(["..", ".", "", "~", "sub", "notes.md", "link_to_dir", "link_to_file", "pipe", "zero", ".env"])
        | st.text(max_size=3),
        max_size=4,
    ).map("/".join)
    words = st.sampled_from(["hello", "world", "\n", "o", "</tool_call>", "<|im_end|>", "\x1b[2J"]) | st.text(
        max_size=5
    )
    values = paths | words | st.integers(-2, 5) | st.booleans() | st.none() | st.lists(words, max_size=2)

    def of(tool: Tool) -> st.SearchStrategy[str]:
        names = list(tool.parameters["properties"])
        arguments = st.fixed_dictionaries({}, optional=dict.fromkeys(names, values))
        if "path" in names:
            arguments = st.builds(lambda found, path: {**found, "path": path}, arguments, paths)
        return arguments.map(lambda found: json.dumps({"name": tool.name, "arguments": found}, ensure_ascii=False))

    return st.one_of(*map(of, toolbox)).map("<tool_call>\n{}\n</tool_call>".format)


TOOLBOX = standard_tools(Context(workspace=Workspace(Path(__file__).parent)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(calls_of(TOOLBOX), min_size=1, max_size=6))
def test_whatever_is_called_with_whatever_nothing_outside_changes(around: Path, calls: list[str]) -> None:
    context = Context(workspace=Workspace(around / "workspace"))
    before = snapshot(around / "outside")

    async def ask(receipt: Receipt, preview: object) -> Decision:
        return Decision.NO if receipt.tool == "run_command" else Decision.ONCE

    async def keep(receipt: Receipt) -> None:
        Receipt.from_json(receipt.to_json())

    rounds = Rounds(TOOLBOX)
    rounds.answered("turn", "\n".join(calls))
    asyncio.run(serve(rounds, context, ask, keep))
    assert rounds.phase is Phase.ANSWER
    assert len(rounds.messages()) == len(calls) + 1
    assert snapshot(around / "outside") == before
    assert sorted(path.name for path in around.iterdir()) == ["outside", "workspace"]
    shown = "".join(message.content for message in rounds.messages()[1:])
    assert "nobody may see this" not in shown
    assert "<|im_end|>" not in shown
