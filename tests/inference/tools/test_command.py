"""Running programs: no shell, bounded in time and output, and nothing survives."""

import asyncio
import contextlib
import os
import shlex
import sys
import time
from pathlib import Path

import pytest

from inference.tools.builtin.command import MAX_OUTPUT, run_command, scrubbed, split
from inference.tools.context import Context
from inference.tools.definition import Effect, ToolError
from inference.tools.workspace import Workspace

PYTHON = shlex.quote(sys.executable)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(workspace=Workspace(tmp_path))


def python(code: str) -> str:
    return f"{PYTHON} -c {shlex.quote(code)}"


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def gone(pid: int) -> bool:
    for _ in range(100):
        if not alive(pid):
            return True
        await asyncio.sleep(0.05)
    return False


async def test_it_runs_in_the_workspace_and_tells_output_and_exit_code(context: Context, tmp_path: Path) -> None:
    text = await run_command(
        python("import os,sys; print(os.getcwd()); print('e', file=sys.stderr); sys.exit(3)"), context
    )
    assert text.splitlines()[:2] in ([str(tmp_path), "e"], ["e", str(tmp_path)])
    assert "[exit code 3" in text


async def test_no_token_is_inherited(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", "very-secret")
    monkeypatch.setenv("LD_PRELOAD", "")
    text = await run_command(python("import os; print(sorted(os.environ))"), context)
    assert "API_TOKEN" not in text
    assert "LD_PRELOAD" not in text
    assert "'PATH'" in text
    assert "AWS_SECRET_ACCESS_KEY" not in scrubbed({"AWS_SECRET_ACCESS_KEY": "x"})


async def test_arguments_reach_the_program_as_they_are(context: Context) -> None:
    command = python("import sys; print(sys.argv[1:])") + " '$HOME' '*' 'a b' '; rm -rf .' `id`"
    assert "['$HOME', '*', 'a b', '; rm -rf .', '`id`']" in await run_command(command, context)


@pytest.mark.parametrize(
    "command", ["ls | cat", "ls; ls", "ls && ls", "ls > x", "ls & ", "cat < x", "echo $(id)", "(ls)"]
)
def test_signs_of_a_shell_are_refused(command: str) -> None:
    with pytest.raises(ToolError, match="no shell"):
        split(command)


@pytest.mark.parametrize(
    ("command", "said"),
    [("'open", "quote"), ("''", "no program"), (" ", "no program"), ("a " * 300, "arguments"), ("a\0b", "NUL")],
)
def test_what_is_no_command_is_refused(command: str, said: str) -> None:
    with pytest.raises(ToolError, match=said):
        split(command)


async def test_programs_that_are_not_there(context: Context) -> None:
    for command in ("no-such-program-anywhere", "./missing", "/no/such"):
        with pytest.raises(ToolError, match="no program"):
            await run_command(command, context)


async def test_the_time_limit_kills_children_too(context: Context, tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "q = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
        "open('pids', 'w').write(f'{p.pid} {q.pid}'); print('begun', flush=True); time.sleep(60)"
    )
    began = time.monotonic()
    text = await run_command(python(code), context, seconds=2)
    assert time.monotonic() - began < 10
    assert "begun" in text
    assert "its time was up" in text
    inside, escaped = map(int, (tmp_path / "pids").read_text().split())
    assert await gone(inside)
    if sys.platform.startswith("linux"):
        assert await gone(escaped)


async def test_what_it_leaves_behind_is_killed_and_not_waited_for(context: Context, tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open('pid', 'w').write(str(p.pid)); print('done')"
    )
    began = time.monotonic()
    text = await run_command(python(code), context, seconds=30)
    assert time.monotonic() - began < 10
    assert text.startswith("done\n[exit code 0")
    assert await gone(int((tmp_path / "pid").read_text()))


async def test_cancelling_kills(context: Context, tmp_path: Path) -> None:
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    task = asyncio.create_task(run_command(python(code), context))
    for _ in range(200):
        await asyncio.sleep(0.05)
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            break
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(int((tmp_path / "pid").read_text()))


async def test_endless_output_is_cut(context: Context) -> None:
    began = time.monotonic()
    text = await run_command("yes", context, seconds=30)
    assert time.monotonic() - began < 20
    assert len(text) < MAX_OUTPUT + 200
    assert "bytes of output" in text


async def test_it_has_no_input_and_no_terminal(context: Context) -> None:
    code = "import sys, os; print(repr(sys.stdin.read()), os.isatty(0), os.getsid(0) == os.getpid())"
    assert "'' False True" in await run_command(python(code), context)


def test_the_preview_shows_every_argument_and_warns(context: Context, tmp_path: Path) -> None:
    assert run_command.effect is Effect.RUNS
    assert run_command.preview is not None
    shown = run_command.preview(command="cat /etc/passwd ../x 'a b' --file=.env notes.md", context=context, seconds=5)
    assert "3: 'a b'" in shown.text
    assert str(tmp_path) in shown.text
    assert [warning.split()[0] for warning in shown.warnings] == ["/etc/passwd", "../x", ".env"]
    assert run_command.preview(command="bash -c id", context=context, seconds=5).warnings
    assert not run_command.preview(command="ls notes.md", context=context, seconds=5).warnings
    hidden = run_command.preview(command="echo \u202eabc\x1b[2J", context=context, seconds=5).text
    assert "\x1b" not in hidden
    assert "\u202e" not in hidden
