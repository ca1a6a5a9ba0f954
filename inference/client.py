"""The app's end of the engine process: start it, send commands, drain events, notice its death.

Nothing here waits for the engine: commands go through a queue to a writer thread, events come from a reader thread. So
a hung engine can't freeze the caller, and a dead one is known as soon as the system closes its end of the pipe. This
module must stay light: the app imports it before its first frame, and never imports MLX.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from inference.errors import EngineError
from inference.protocol import (
    Abort,
    ChatPrompt,
    Command,
    Configure,
    CountMessages,
    CountTokens,
    EngineConfig,
    EngineDied,
    Event,
    ExplainPrefix,
    Pause,
    Prompt,
    Record,
    Resume,
    SetBreakpoints,
    Shutdown,
    Submit,
)

_GRACE = 1.0
"""Seconds that a process which was asked to end gets before it is killed."""
_LOG_LIMIT = 1 << 20
"""A log longer than this many bytes is begun anew at the next start."""


class EngineClient:
    """An engine in a process of its own. Methods may be called from any thread; events come out in order.

    Life: `start()`, then `LoadProgress` events and one `Ready`, then answers to commands. If the process ends without
    being asked to, or says that it can't start, there is exactly one `EngineDied`; after it only `restart()` or
    `close()` make sense. Commands may be sent as soon as `start()` has returned: they wait until the model is loaded.
    """

    def __init__(self, model: str, config: EngineConfig | None = None, log_path: str | Path | None = None) -> None:
        """`log_path`: where the process's stdout and stderr go (appended); None throws them away."""
        self.model = model
        self.config = config or EngineConfig()
        self.log_path = None if log_path is None else Path(log_path)
        self._process: _Process | None = None
        self._events: list[Event] = []
        self._arrived = threading.Condition()

    def start(self) -> None:
        """Start the process and return at once; loading is reported by events. Raises EngineError if it can't."""
        if self._process is not None:
            raise EngineError("the engine was already started: use restart")
        self._process = _Process(self.model, self.config, self.log_path, self._put)

    def submit(self, command: Submit) -> None:
        """Answered by `Started` or by `Finished` with an error, then `Delta`s and one `Finished`."""
        self._send(command)

    def abort(self, request_id: str) -> None:
        """Answered by `Finished`; ignored if the request is not (or no longer) there."""
        self._send(Abort(request_id))

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change options; answered by `Configured`."""
        self._send(Configure(dict(changes)))

    def pause(self) -> None:
        """Compute no further step; answered by `Stepping`."""
        self._send(Pause())

    def resume(self, command: Resume) -> None:
        """Go on, freely or up to a next pause; answered by `Stepping`."""
        self._send(command)

    def set_breakpoints(self, command: SetBreakpoints) -> None:
        """Pause whenever one of these happens; answered by `Stepping`, and by another one at every such pause."""
        self._send(command)

    def explain_prefix(self, session: str) -> None:
        """Why its latest request found no more in the prefix cache; answered by `PrefixExplained`."""
        self._send(ExplainPrefix(session))

    def record(self, path: str) -> None:
        """Write what happens to a file, or with an empty path no longer; answered by `Recorded`."""
        self._send(Record(path))

    def count_tokens(self, query_id: str, prompt: Prompt) -> None:
        """Answered by `TokenCount` with the same id."""
        self._send(CountTokens(query_id, prompt))

    def count_messages(self, query_id: str, prompt: ChatPrompt) -> None:
        """Answered by `MessageCounts` with the same id."""
        self._send(CountMessages(query_id, prompt))

    def drain(self) -> list[Event]:
        """All events since the last call, in order. Never waits."""
        with self._arrived:
            events, self._events = self._events, []
        return events

    def wait(self, timeout: float) -> bool:
        """Wait until `drain` has something to give, at most `timeout` seconds. False if it hasn't."""
        with self._arrived:
            return self._arrived.wait_for(lambda: bool(self._events), timeout)

    @property
    def alive(self) -> bool:
        """Whether the process runs; it may still be loading, or hang."""
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def seconds_since_heartbeat(self) -> float:
        """Seconds since the last sign of life, of which there are two a second; 0 when there is no process."""
        return self._process.silence if self._process is not None and self._process.alive else 0.0

    def restart(self, config: EngineConfig | None = None) -> None:
        """End the process if it still runs, and start another, with `config` if given. Requests in flight are lost.

        Events that had already come stay in order before those of the new process.
        """
        if config is not None:
            self.config = config
        self.close()
        self.start()

    def close(self) -> None:
        """Ask the process to end, and kill it if it takes longer than a second. Safe to call twice."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def __enter__(self) -> EngineClient:
        if self._process is None:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, command: Command) -> None:
        """Commands to a process that has just died are dropped: its `EngineDied` is on the way or already there."""
        if self._process is None:
            raise EngineError("the engine is not running: start it first")
        self._process.send(command)

    def _put(self, events: list[Event]) -> None:
        with self._arrived:
            self._events += events
            self._arrived.notify_all()


class _Process:
    """One life of the engine process, with the two threads that talk to it."""

    def __init__(
        self, model: str, config: EngineConfig, log_path: Path | None, put: Callable[[list[Event]], None]
    ) -> None:
        self._put = put
        self._log_path = log_path
        self._closing = False
        self._told_of_death = False
        self._last_sign = time.monotonic()
        ours, theirs = socket.socketpair()
        try:
            self._popen = self._spawn(theirs.fileno())
        except OSError as error:
            ours.close()
            raise EngineError(f"the engine process could not be started: {error}") from error
        finally:
            theirs.close()  # or its death would not close the pipe
        from multiprocessing.connection import Connection  # a quarter of this module's import time, if done above

        self._connection = Connection(ours.detach())
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._outgoing.put(pickle.dumps((model, config)))
        self._reader = threading.Thread(target=self._read, name="engine-events", daemon=True)
        self._writer = threading.Thread(target=self._write, name="engine-commands", daemon=True)
        self._reader.start()
        self._writer.start()

    def _spawn(self, descriptor: int) -> subprocess.Popen[bytes]:
        # -P and the path keep a folder named "inference" in the user's working directory from being run instead.
        here = str(Path(__file__).resolve().parents[1])
        inherited = os.environ.get("PYTHONPATH")
        environment = os.environ | {"PYTHONPATH": f"{here}{os.pathsep}{inherited}" if inherited else here}
        command = [sys.executable, "-P", "-m", "inference.engine.process", str(descriptor)]
        self._log_start = 0
        if self._log_path is None:
            return subprocess.Popen(
                command,
                pass_fds=(descriptor,),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        too_long = self._log_path.exists() and self._log_path.stat().st_size > _LOG_LIMIT
        with open(self._log_path, "wb" if too_long else "ab") as log:
            self._log_start = log.tell()
            return subprocess.Popen(
                command,
                pass_fds=(descriptor,),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def silence(self) -> float:
        return time.monotonic() - self._last_sign

    def send(self, command: Command) -> None:
        """Pickled here, so that what can't be is the caller's error and not the end of the writer thread."""
        self._outgoing.put(pickle.dumps(command))

    def close(self) -> None:
        self._closing = True
        self.send(Shutdown())
        self._outgoing.put(None)
        try:
            self._popen.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._reader.join(_GRACE)
        self._writer.join(_GRACE)

    def _write(self) -> None:
        try:
            while (message := self._outgoing.get()) is not None:
                self._connection.send_bytes(message)
        except OSError:
            pass  # the process is gone; the reader reports it

    def _read(self) -> None:
        try:
            while True:
                events = self._connection.recv()
                self._last_sign = time.monotonic()
                self._told_of_death |= any(isinstance(event, EngineDied) for event in events)
                if not self._closing:
                    self._put(events)
        except (EOFError, OSError):
            pass
        except Exception as error:  # bytes that are not ours: the process can't be trusted any more
            self._popen.kill()
            self._report(f"the engine sent something unreadable ({error!r})")
        try:
            self._popen.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._popen.kill()  # it closed the pipe but lives on, and nobody could reach it
            self._popen.wait()
        self._report(f"the engine {self._ending()}")
        self._outgoing.put(None)
        self._writer.join()
        self._connection.close()

    def _report(self, message: str) -> None:
        if not self._closing and not self._told_of_death:
            self._told_of_death = True
            self._put([EngineDied(message, restartable=True)])

    def _ending(self) -> str:
        """How the process ended, with the last line that it wrote."""
        code = self._popen.returncode
        last = self._last_log_line()
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            how = f"was killed by {name}"
        else:
            how = f"ended with exit code {code}"
        return f"{how}: {last}" if last else how

    def _last_log_line(self) -> str:
        if self._log_path is None:
            return ""
        try:
            with open(self._log_path, "rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, end - 4096))
                lines = log.read().decode(errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")
