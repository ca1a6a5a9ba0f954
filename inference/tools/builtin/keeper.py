"""The process between glasschat and a program that a tool runs, so that nothing of the program survives.

It is run as a file, by itself: `python -I -S keeper.py TASK`, where TASK is JSON, [program, arguments, environment].
The program gets no input, and its output goes where the keeper's stderr goes.

stdin is a pipe of which glasschat holds the other end. When that closes, since the call is over or glasschat has ended
in whatever way, everything is killed; and so is what is left when the program ends. On Linux the keeper is the
"subreaper" of all that descends from it (prctl 36): who loses its parent becomes its child, so there is no getting away
from it, and it knows that all are dead when it has no children. Elsewhere the process group is killed.

stdout gets two lines: the program's process id; then "exit N", "signal N" or "error ERRNO", with " left" behind it if
something could not be killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

PATIENCE = 5.0
"""Seconds that the killed get to be gone; one that the kernel itself holds, or that runs as another user, never is."""
_SET_CHILD_SUBREAPER = 36
_PAUSE = 0.002
_ON_LINUX = sys.platform.startswith("linux")


def main() -> None:
    program, arguments, environment = json.loads(sys.argv[1])
    if _ON_LINUX:
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    heard, bell = os.pipe()
    os.set_blocking(bell, False)
    signal.set_wakeup_fd(bell)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    pid = _start(program, arguments, environment)
    _tell(str(pid))
    kept = _Kept(pid)
    while kept.reap() and kept.ending is None:
        ready = select.select([0, heard], [], [])[0]
        if 0 in ready or set(os.read(heard, 4096)) - {signal.SIGCHLD}:
            break
    end = time.monotonic() + PATIENCE
    if not _ON_LINUX:
        kept.kill()  # who lost its parent is no child of ours there
    while (left := kept.reap()) and time.monotonic() < end:
        kept.kill()
        time.sleep(_PAUSE)
    _tell(f"{kept.ending or 'signal 9'}{' left' if left else ''}")


class _Kept:
    """The program and all that descends from it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ending: str | None = None
        """How the program itself ended."""

    def reap(self) -> bool:
        """Take note of what has ended; whether anything is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                code = os.waitstatus_to_exitcode(status)
                self.ending = f"exit {code}" if code >= 0 else f"signal {-code}"

    def kill(self) -> None:
        """Kill all that can be seen now. Children of the killed become ours, and are seen the next time."""
        _send(os.killpg, self.pid)
        for pid in _children() if _ON_LINUX else ():
            _send(os.kill, pid)


def _children() -> list[int]:
    own = os.getpid()
    try:
        with open(f"/proc/self/task/{own}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:  # a kernel without this list
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and _parent(name) == own]


def _parent(pid: str) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return None  # it ended meanwhile


def _send(kill: Callable[[int, int], None], pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        kill(pid, signal.SIGKILL)


def _start(program: str, arguments: list[str], environment: dict[str, str]) -> int:
    """The program in a session and process group of its own. Ends the keeper if it can't be started."""
    told, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and so would the program
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)
            os.execve(program, arguments, environment)
        except OSError as error:
            os.write(telling, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(telling)
    if problem := os.read(told, 20):
        _tell(f"{pid}\nerror {problem.decode()}")
        sys.exit()
    os.close(told)
    return pid


def _tell(line: str) -> None:
    with suppress(OSError):  # nobody listens any more
        os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    main()
