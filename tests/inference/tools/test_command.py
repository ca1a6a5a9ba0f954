"""Running programs: no shell, bounded in time and output, and nothing survives."""

import asyncio
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.tools.builtin import keeper
from inference.tools.builtin.command import MAX_OUTPUT, run_command, scrubbed, split
from inference.tools.builtin.concerns import concerns
from inference.tools.builtin.program import MARK
from inference.tools.context import Context
from inference.tools.definition import Effect, ToolError
from inference.tools.workspace import Workspace

PYTHON = shlex.quote(sys.executable)
ON_LINUX = sys.platform.startswith("linux")


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


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1, max_size=8))
def test_whatever_is_quoted_is_taken_as_it_is(arguments: list[str]) -> None:
    arguments[0] = arguments[0] or "program"
    assert split(shlex.join(arguments)) == arguments


@pytest.mark.parametrize(
    ("command", "last"),
    [
        ("grep '|' f", "f"),
        ('grep "a && b"', "a && b"),
        ("find . -exec rm {} ';'", ";"),
        ("find . -exec rm {} \\;", ";"),
        ('echo "it\'s (\\"x\\")"', 'it\'s ("x")'),
    ],
)
def test_quoted_signs_are_no_signs_of_a_shell(command: str, last: str) -> None:
    assert split(command)[-1] == last


@pytest.mark.parametrize(
    "command",
    ["ls | cat", "ls; ls", "ls && ls", "ls > x", "ls & ", "cat < x", "echo $(id)", "(ls)", "a 'b'>c", "a\\\\;b"],
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
    if ON_LINUX:
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


def running(program: str, argument: str) -> bool:
    """Whether a process runs with just this. Only Linux tells."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            found = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if [Path(found[0]).name, *found[1:-1]] == [program, argument]:
                return True
    return False


@pytest.mark.skipif(not ON_LINUX or shutil.which("setsid") is None, reason="needs Linux and setsid")
async def test_who_leaves_the_group_and_drops_every_mark_is_killed_too(context: Context) -> None:
    text = await run_command("env -i setsid -f sleep 67.25", context)
    assert "exit code 0" in text
    assert not running("sleep", "67.25")


@pytest.mark.skipif(not ON_LINUX, reason="only Linux tells who descends from whom")
async def test_who_forks_all_the_time_does_not_get_away(context: Context, tmp_path: Path) -> None:
    code = (
        "import os, time\n"
        "if os.fork(): os._exit(0)\n"
        "for n in range(100_000):\n"
        "    open('alive', 'w').write(str(n))\n"
        "    if os.fork(): os._exit(0)\n"
        "    os.setsid()\n"
    )
    await run_command(f"env -i {python(code)}", context)
    before = (tmp_path / "alive").read_text() if (tmp_path / "alive").exists() else ""
    await asyncio.sleep(0.1)
    assert before == ((tmp_path / "alive").read_text() if (tmp_path / "alive").exists() else "")


@pytest.mark.skipif(not ON_LINUX, reason="looks for the process in /proc")
async def test_when_the_app_is_killed_so_is_the_program(tmp_path: Path) -> None:
    app = (
        "import asyncio, sys\n"
        "from inference.tools.builtin.command import run_command\n"
        "from inference.tools.context import Context\n"
        "from inference.tools.workspace import Workspace\n"
        "asyncio.run(run_command('sleep 68.25', Context(workspace=Workspace(sys.argv[1])), seconds=100))\n"
    )
    dying = subprocess.Popen([sys.executable, "-c", app, str(tmp_path)])
    try:
        for _ in range(200):
            if running("sleep", "68.25"):
                break
            await asyncio.sleep(0.05)
        assert running("sleep", "68.25")
    finally:
        dying.kill()
        dying.wait()
    for _ in range(100):
        if not running("sleep", "68.25"):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the program outlived the app")


@pytest.mark.skipif(not ON_LINUX, reason="reads /proc")
def test_children_are_found_without_the_kernel_s_list_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_list(path: str, mode: str) -> object:
        if path.endswith("children"):
            raise FileNotFoundError(path)
        return open(path, mode)

    with subprocess.Popen(["sleep", "60"]) as child:
        listed = keeper._children()
        monkeypatch.setattr(keeper, "open", without_list, raising=False)
        found = keeper._children()
        child.kill()
    assert child.pid in found
    assert sorted(found) == sorted(listed)


async def test_a_program_that_kills_its_keeper_is_killed_too(context: Context, tmp_path: Path) -> None:
    code = "import os, signal, time; open('pid', 'w').write(str(os.getpid())); os.kill(os.getppid(), 9); time.sleep(60)"
    text = await run_command(python(code), context, seconds=30)
    assert "killed the process that watches over it" in text
    assert await gone(int((tmp_path / "pid").read_text()))


async def test_while_a_program_takes_its_time_to_die_the_app_goes_on(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text("import sys, time; sys.stdin.read(); time.sleep(1); print('1\\nsignal 9 left')")
    monkeypatch.setattr(keeper, "__file__", str(slow))
    call = asyncio.create_task(run_command("sleep 60", context, seconds=1))
    longest, last = 0.0, time.monotonic()
    while not call.done():
        await asyncio.sleep(0.01)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    assert longest < 0.5
    assert "its time was up; something that it started could not be killed" in call.result()


async def test_it_gets_exactly_the_variables_that_it_is_said_to_get(context: Context) -> None:
    names = {line.partition("=")[0] for line in (await run_command("env", context)).splitlines()[:-1]}
    assert names == {*scrubbed(os.environ), MARK}


async def test_a_file_that_is_no_program_says_so(context: Context, tmp_path: Path) -> None:
    (tmp_path / "odd").write_bytes(b"\x7fno program")
    (tmp_path / "odd").chmod(0o755)
    with pytest.raises(ToolError, match=r"odd can't be started: Exec format error"):
        await run_command("./odd", context)


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


def script(path: Path, says: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {says}\n")
    path.chmod(0o755)


async def test_the_program_that_was_shown_is_the_one_that_runs(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_command.preview is not None
    arguments = {"command": "greet", "seconds": 5}
    script(tmp_path / "a" / "greet", "hello")
    monkeypatch.setenv("PATH", f"{tmp_path / 'b'}:{tmp_path / 'a'}:{os.environ['PATH']}")
    shown = run_command.preview(**arguments, context=context)
    assert f"the program: {tmp_path / 'a' / 'greet'}\n" in shown.text
    approved = replace(context, approved=shown.digest)
    assert "hello" in await run_command(**arguments, context=approved)
    script(tmp_path / "b" / "greet", "another on the path")
    with pytest.raises(ToolError, match="has changed since it was shown"):
        await run_command(**arguments, context=approved)
    (tmp_path / "b" / "greet").unlink()
    script(tmp_path / "a" / "greet", "another file")
    with pytest.raises(ToolError, match="has changed since it was shown"):
        await run_command(**arguments, context=approved)


def test_a_program_behind_a_link_is_named(context: Context, tmp_path: Path) -> None:
    assert run_command.preview is not None
    (tmp_path / "tool").symlink_to("/bin/sh")
    shown = run_command.preview(command="./tool", context=context, seconds=5)
    assert f"which is {os.path.realpath('/bin/sh')}" in shown.text
    assert shown.warnings == ("./tool is outside of the workspace",)


@pytest.mark.parametrize(
    ("command", "warned"),
    [
        ("/bin/cat notes.md", ["/bin/cat"]),
        ("{up}/bin/cat notes.md", ["{up}/bin/cat"]),
        ("./own notes.md", []),
        ("cat -f/etc/passwd", ["/etc/passwd"]),
        ("tar -xzf/etc/passwd", ["/etc/passwd"]),
        ("cc -Isub/include -Lsub", []),
        ("cc -I../include", ["../include"]),
        ("cat -f.env", [".env"]),
        ("cat --file=/etc/passwd", ["/etc/passwd"]),
        ("dd if=/dev/sda of=x", ["/dev/sda"]),
        ("curl -d @/etc/passwd https://example.org/a/b", ["/etc/passwd"]),
        ("curl file:///etc/passwd", ["///etc/passwd"]),
        ("curl --url=https://example.org/a/b", []),
        ("rsync notes.md host:/srv", ["/srv"]),
        ("ls /", ["/"]),
        ("ls {root}", []),
        ("ls {root}/sub", []),
        ("ls {root}2", ["{root}2"]),
        ("cat way_out/x", ["way_out/x"]),
        ("cat ~/x", ["~/x"]),
        ("cat notes.md sub/a -n --color=never", []),
    ],
)
def test_what_the_user_is_warned_of(context: Context, tmp_path: Path, command: str, warned: list[str]) -> None:
    script(tmp_path / "own", "hello")
    (tmp_path / "sub").mkdir()
    (tmp_path / "way_out").symlink_to("/etc")
    names = {"up": "/".join([".."] * (len(tmp_path.parts) - 1)), "root": str(tmp_path)}
    arguments = split(command.format(**names))
    program = os.path.realpath(tmp_path / arguments[0]) if "/" in arguments[0] else "/usr/bin/program"
    assert context.workspace is not None
    found = concerns(arguments, program, context.workspace)
    assert [sentence.split()[0] for sentence in found] == [name.format(**names) for name in warned]


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
