"""Starting: light, quick, and quiet on the terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

MODULES = (
    "import sys; import app.main; print([m for m in ('mlx', 'transformers', 'numpy', 'torch') if m in sys.modules])"
)


def test_the_app_does_not_import_the_model_s_libraries() -> None:
    done = subprocess.run([sys.executable, "-c", MODULES], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


NOISY = """
import os, sys
from pathlib import Path
from app.terminal import quiet_terminal
with quiet_terminal(Path(sys.argv[1])):
    print("from python")
    os.write(1, b"from C on stdout\\n")
    os.write(2, b"from C on stderr\\n")
    os.system("echo from a child")
    sys.__stderr__.write("the screen\\n")
print("afterwards")
"""


def test_what_libraries_print_goes_to_a_log_and_not_onto_the_screen(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    done = subprocess.run([sys.executable, "-c", NOISY, str(log)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("afterwards\n", "the screen\n")
    assert set(log.read_text().split("\n")) >= {"from python", "from C on stdout", "from C on stderr", "from a child"}


def test_the_first_frame_comes_soon_and_the_terminal_is_left_as_it_was(tmp_path: Path) -> None:
    """In a real terminal: frame, Ctrl+Q, alternate screen left. The bound is loose, for slow and busy machines."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30", "GLASSCHAT_DATA": str(tmp_path)}
        os.execv(sys.executable, [sys.executable, "-m", "tests.app.dev"])
    begun = time.monotonic()
    seen = b""

    def read_until(mark: bytes) -> None:
        nonlocal seen
        while mark not in seen and time.monotonic() - begun < 30:
            ready, _, _ = select.select([terminal], [], [], 0.1)
            if ready:
                try:
                    seen += os.read(terminal, 65536)
                except OSError:
                    break

    read_until(b"Ask something below")
    first_frame = time.monotonic() - begun
    time.sleep(0.3)
    os.write(terminal, b"\x11")
    read_until(b"\x1b[?1049l")
    assert b"\x1b[?1049l" in seen
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    os.close(terminal)
    assert first_frame < 10
