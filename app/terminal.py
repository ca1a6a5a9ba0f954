"""Keeps the terminal to the app: what libraries print goes to a log, and copied text reaches the clipboard."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast


def leave_with_terminal(every: float = 1.0) -> None:
    """End this process by SIGHUP once the terminal on stdin is gone, looking `every` so many seconds.

    The system's own SIGHUP goes to the session's leader and the foreground group, and may miss a program that make or
    a script started; Textual would then read from the dead terminal without end, and its drawing would block.
    """

    def watch() -> None:
        while True:
            try:
                termios.tcgetattr(0)
            except termios.error:
                os.kill(os.getpid(), signal.SIGHUP)
                return
            time.sleep(every)

    # Also under nohup: without a terminal nothing is left for the app to do, and its chats are stored.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    threading.Thread(target=watch, name="glasschat-terminal", daemon=True).start()


@contextmanager
def quiet_terminal(log: Path) -> Iterator[None]:
    """Send stray stdout and stderr, also that of C code and child processes, to `log` while the app runs.

    Textual draws on stderr, and asks stdout how large the terminal is: both names get a copy of the real terminal
    first, which is stdout where stderr was redirected.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    before_out, before_err = os.dup(1), os.dup(2)
    real_output, real_error = sys.__stdout__, sys.__stderr__
    screen = os.fdopen(
        os.dup(1 if os.isatty(1) and not os.isatty(2) else 2), "w", encoding="utf-8", errors="replace", buffering=1
    )
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(sink)
    cast(Any, sys).__stdout__ = cast(Any, sys).__stderr__ = screen
    try:
        yield
    finally:
        cast(Any, sys).__stdout__, cast(Any, sys).__stderr__ = real_output, real_error
        with suppress(OSError):
            screen.close()
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(before_out, 1)
        os.dup2(before_err, 2)
        os.close(before_out)
        os.close(before_err)


def tell_tmux(text: str) -> None:
    """Hand copied text to tmux, which by default ignores OSC 52 from the programs inside it but passes on its own."""
    if not os.environ.get("TMUX") or shutil.which("tmux") is None:
        return

    def load() -> None:
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                ["tmux", "load-buffer", "-w", "-"], input=text.encode(), timeout=2, capture_output=True, check=False
            )

    threading.Thread(target=load, daemon=True).start()
