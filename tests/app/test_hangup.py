"""A terminal that goes away takes the app and its engine with it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time

import pytest


@pytest.mark.parametrize("ignored", [False, True])
def test_the_app_ends_with_its_terminal(tmp_path, ignored):
    """Even where the hang-up signal does not reach it, as under make (here it is in no terminal's session), or is
    ignored, as under nohup.
    """
    master, slave = pty.openpty()
    environment = {**os.environ, "GLASSCHAT_DATA": str(tmp_path), "TERM": "xterm-256color"}
    app = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "chat"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        start_new_session=True,
        preexec_fn=(lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) if ignored else None,
    )
    try:
        os.close(slave)
        assert os.read(master, 1)  # it draws
        time.sleep(1)
        assert app.poll() is None
        os.close(master)
        assert app.wait(20) == -signal.SIGHUP
    finally:
        app.kill()
        app.wait()
