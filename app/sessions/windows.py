"""Which app windows are alive on one data directory, so that two of them never write to the same session.

Each running app holds a lock on a file of its own. The kernel lets go of the lock when the process ends, however it
ends, so a session whose owner's lock is free was left behind and may be taken over.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from app.sessions.session import new_id


class Window:
    """This app's presence in a data directory."""

    def __init__(self, folder: Path) -> None:
        self.id = new_id()
        self._folder = folder / "windows"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self._path(self.id), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def _path(self, window: str) -> Path:
        return self._folder / f"{window}.lock"

    def alive(self, window: str) -> bool:
        """Whether that window still runs. This window itself counts."""
        if window == self.id:
            return True
        try:
            fd = os.open(self._path(window), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        else:
            self._path(window).unlink(missing_ok=True)
            return False
        finally:
            os.close(fd)

    def others(self) -> int:
        """How many other windows are open on the same data."""
        return sum(self.alive(p.stem) for p in self._folder.glob("*.lock") if p.stem != self.id)

    def close(self) -> None:
        self._path(self.id).unlink(missing_ok=True)
        os.close(self._fd)
