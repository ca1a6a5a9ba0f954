"""The engine as a process of its own: `python -m inference.engine.process DESCRIPTOR`, started by `inference.client`.

Over the inherited socket come pickles: first the pair (model, EngineConfig), then commands. Back go lists of events,
one list per step. Three threads: the main one loads the model and owns every array; one reads commands into the inbox;
one beats the heart. When the other end closes, for whatever reason, the process is gone at once: it keeps nothing that
would need saving, and nobody is left to stop it later. stdout and stderr belong to the parent's log file.
"""

from __future__ import annotations

import faulthandler
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections import deque
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, NoReturn

from inference.engine.control import Control
from inference.errors import ConfigError, GlasschatError, ModelError
from inference.protocol import (
    Abort,
    Command,
    Configure,
    CountMessages,
    CountTokens,
    EngineConfig,
    EngineDied,
    Event,
    ExplainPrefix,
    Heartbeat,
    LoadProgress,
    Pause,
    Record,
    Resume,
    SetBreakpoints,
    Shutdown,
    StepRecord,
    Submit,
)

if TYPE_CHECKING:  # the heart must beat before the seconds that importing these takes
    from inference.engine.engine import Engine

HEARTBEAT_INTERVAL = 0.5


class Outbox:
    """Sends events from several threads, each list in one piece."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, events: list[Event]) -> None:
        """Waits while the other end does not read: an app that is stopped slows the engine down, it loses nothing."""
        with self._lock:
            try:
                self._connection.send(events)
            except OSError:
                _vanish()


class Pulse:
    """Says twice a second how long the current step has been running."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.step = 0
        self.step_began: float | None = None
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def _beat(self) -> None:
        while True:
            began = self.step_began
            elapsed = 0.0 if began is None else time.monotonic() - began
            self._outbox.send([Heartbeat(self.step, elapsed)])
            time.sleep(HEARTBEAT_INTERVAL)


def main(descriptor: int) -> int:
    """Load, serve, and return the exit code: 0 when asked to end, 1 after a failure, 2 if starting again is no use."""
    os.set_inheritable(descriptor, False)
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C in the terminal is for the app to decide about
    connection = Connection(descriptor)
    outbox = Outbox(connection)
    pulse = Pulse(outbox)
    try:
        model, config = connection.recv()
    except EOFError:
        return 0
    inbox: queue.SimpleQueue[Command] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(connection, inbox), name="commands", daemon=True).start()
    try:
        engine = _load(model, config, outbox)
        outbox.send([engine.ready()])
        serve(engine, inbox, outbox, pulse)
    except (ModelError, ConfigError) as error:
        print(error, file=sys.stderr)
        outbox.send([EngineDied(str(error), restartable=False)])
        return 2
    except Exception as error:
        traceback.print_exc()
        sentence = str(error) if isinstance(error, GlasschatError) else f"{type(error).__name__}: {error}"
        outbox.send([EngineDied(f"the engine failed ({sentence})", restartable=True)])
        return 1
    return 0


def _load(model: str, config: EngineConfig, outbox: Outbox) -> Engine:
    def progress(stage: str) -> None:
        outbox.send([LoadProgress(stage)])

    progress("importing MLX")
    from inference.engine.start import start

    return start(model, config, progress)


def serve(engine: Engine, inbox: queue.SimpleQueue[Command], outbox: Outbox, pulse: Pulse) -> None:
    """Take all commands that have come, then run one step, until told to shut down. Waits when idle or paused.

    Counting is the one thing that takes long and that nobody's tokens depend on: one count, at most, between two steps.
    """
    control = Control()
    counts: deque[CountTokens | CountMessages] = deque()
    while True:
        answers: list[Event] = []
        while not inbox.empty() or not (answers or counts or (engine.has_work and control.may_step)):
            command = inbox.get()
            if isinstance(command, Shutdown):
                return
            if isinstance(command, CountTokens | CountMessages):
                counts.append(command)
            else:
                answers += _obeyed(engine, control, command)
        if counts:
            answers += _obeyed(engine, control, counts.popleft())
        if answers:
            outbox.send(answers)  # before the step, which may be long
        if engine.has_work and control.may_step:
            pulse.step, pulse.step_began = pulse.step + 1, time.monotonic()
            events = engine.step()
            pulse.step_began = None
            record = events[-1]
            assert isinstance(record, StepRecord)
            stopped = control.after(record)
            outbox.send(events if stopped is None else [*events, stopped])


def _obeyed(engine: Engine, control: Control, command: Command) -> list[Event]:
    """What a command is answered with; nothing if it failed: whoever made the mistake must not cost the others their
    answers."""
    try:
        return _obey(engine, control, command)
    except Exception:
        traceback.print_exc()
        return []


def _obey(engine: Engine, control: Control, command: Command) -> list[Event]:
    match command:
        case Submit():
            return engine.submit(command)
        case Abort(request_id):
            return engine.abort(request_id)
        case Configure(changes):
            return engine.configure(changes)
        case CountTokens():
            return engine.count_tokens(command)
        case CountMessages():
            return engine.count_messages(command)
        case Pause():
            return [control.pause(engine.steps)]
        case ExplainPrefix(session):
            return engine.explain_prefix(session)
        case Record(path):
            return engine.record(path)
        case Resume():
            return [control.resume(command, engine.steps)]
        case SetBreakpoints(points):
            return [control.set_breakpoints(points)]
        case _:
            raise TypeError(f"{type(command).__name__} is not a command")


def _read(connection: Connection, inbox: queue.SimpleQueue[Command]) -> None:
    try:
        while True:
            inbox.put(connection.recv())
    except (EOFError, OSError):
        _vanish()
    except Exception:  # a pickle that can't be read: without this thread the engine would be deaf
        traceback.print_exc()
        _vanish(1)


def _vanish(code: int = 0) -> NoReturn:
    """End at once, from any thread, in the middle of whatever the others do."""
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
