"""Measures the app in a real terminal: four sessions at 50 tokens a second each, and keys typed meanwhile.

    python -m tests.benchmarks.app_streaming [--seconds 20] [--rate 50] [--size 120x40]

Prints the processor time of the app process (its scripted engine makes the tokens in the same process and is counted,
so this is an upper bound), the time from a key to its letter on the terminal, and the time to the first frame.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import statistics
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path


class Terminal:
    """The app in a pseudo-terminal."""

    def __init__(self, columns: int, lines: int, rate: float) -> None:
        data = tempfile.mkdtemp("glasschat")
        self.begun = time.monotonic()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ |= {"TERM": "xterm-256color", "GLASSCHAT_DATA": data, "GLASSCHAT_RATE": str(rate)}
            os.environ |= {"COLUMNS": str(columns), "LINES": str(lines)}
            os.execv(sys.executable, [sys.executable, "-m", "tests.app.dev", "one", "two", "three", "four"])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.bytes = 0

    def read(self, seconds: float) -> bytes:
        """What arrives in that time."""
        end, found = time.monotonic() + seconds, b""
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([self.fd], [], [], left)
            if ready:
                found += os.read(self.fd, 65536)
        self.bytes += len(found)
        return found

    def wait_for(self, mark: bytes, seconds: float = 20.0) -> float:
        """Seconds until these bytes arrive."""
        begun, found = time.monotonic(), b""
        while mark not in found:
            left = begun + seconds - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{mark!r} did not appear")
            ready, _, _ = select.select([self.fd], [], [], left)
            if ready:
                piece = os.read(self.fd, 65536)
                self.bytes += len(piece)
                found = found[-64:] + piece
        return time.monotonic() - begun

    def write(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def cpu(self) -> float:
        """Seconds of processor time of the process so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=50.0, help="tokens per second of each session")
    parser.add_argument("--size", default="120x40")
    args = parser.parse_args()
    columns, lines = map(int, args.size.split("x"))
    terminal = Terminal(columns, lines, args.rate)
    terminal.wait_for(b"Ask something below")
    print(f"first frame          {time.monotonic() - terminal.begun:6.2f} s")
    terminal.read(1.0)
    cpu, begun = terminal.cpu(), time.monotonic()
    terminal.read(3.0)
    print(f"idle                 {100 * (terminal.cpu() - cpu) / (time.monotonic() - begun):6.1f} % of a core")
    for _ in range(4):
        terminal.write("long answer please\r")
        terminal.read(0.4)
        terminal.write("\x1b[6;5~")
        terminal.read(0.4)
    cpu, begun, size = terminal.cpu(), time.monotonic(), terminal.bytes
    delays = []
    for number in range(int(args.seconds / 0.5)):
        letter = "abcdefghijklmnopqrstuvwxyz"[number % 26] + "漢"
        terminal.write(letter)
        delays.append(1000 * terminal.wait_for("漢".encode()))
        terminal.write("\x7f\x7f")
        terminal.read(max(0.0, 0.5 - delays[-1] / 1000))
    wall = time.monotonic() - begun
    print(f"4 x {args.rate:g} tokens/s    {100 * (terminal.cpu() - cpu) / wall:6.1f} % of a core")
    print(f"to the terminal      {(terminal.bytes - size) / wall / 1024:6.1f} KiB/s")
    ordered = sorted(delays)
    print(
        f"key to screen        {statistics.median(delays):6.1f} ms median, "
        f"{ordered[int(len(ordered) * 0.95)]:.1f} ms p95, "
        f"{ordered[-1]:.1f} ms worst of {len(delays)}"
    )
    terminal.write("\x11")
    terminal.wait_for(b"\x1b[?1049l")


if __name__ == "__main__":
    main()
