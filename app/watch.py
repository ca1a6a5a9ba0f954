"""The engine's health as the app sees it: loading, ready, silent, dead; and when a dead one is started again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

from app.link import EngineLink
from inference.errors import GlasschatError
from inference.protocol import (
    Configured,
    EngineConfig,
    EngineDied,
    Event,
    Heartbeat,
    LoadProgress,
    ModelInfo,
    OptionState,
    Ready,
    Recorded,
    Stepping,
    Until,
)

SILENT_AFTER = 3.0
"""Seconds without a heartbeat (there are two a second) after which the engine is said to be silent."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds before the first restart, and the limit of the doubling that follows."""
STEADY_AFTER = 60.0
"""An engine that has been ready this long is forgiven its earlier deaths."""


def _in_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="engine-restart", daemon=True).start()


class Phase(StrEnum):
    LOADING = "loading"
    READY = "ready"
    SILENT = "silent"
    DEAD = "dead"
    FAILED = "failed"
    """Dead for good: starting again would fail in the same way."""


class EngineWatch:
    """Follows the engine through its events and restarts it after a death, each time after a longer wait."""

    def __init__(
        self, link: EngineLink, config: EngineConfig, spawn: Callable[[Callable[[], None]], None] | None = None
    ) -> None:
        """`spawn` runs a function beside the caller; by default in a thread."""
        self._link = link
        self._spawn = spawn or _in_thread
        self.config = config
        """What the user asks for: the next start uses it."""
        self.phase = Phase.LOADING
        self.stage = "starting the engine"
        self.message = ""
        self.model: ModelInfo | None = None
        self.options: tuple[OptionState, ...] = ()
        self.tried = ""
        """The option that a measurement changes to and fro."""
        self.since: dict[str, int] = {}
        """The step from which an option has been as it is; those that never changed are missing."""
        self.max_model_len = 0
        self.num_kv_blocks = 0
        self.seconds_in_step = 0.0
        self.silence = 0.0
        self.stepping: Stepping | None = None
        """What the engine last said about pausing; None since it started."""
        self.recording = ""
        """The file that the engine writes what happens to; empty if it writes none."""
        self._deaths = 0
        self._restart_at: float | None = None
        self._ready_since: float | None = None

    def start(self) -> None:
        try:
            self._link.start()
        except GlasschatError as error:
            self.phase, self.message = Phase.FAILED, str(error)

    @property
    def ready(self) -> bool:
        """Whether commands can be sent: a silent engine still gets them."""
        return self.phase in (Phase.READY, Phase.SILENT)

    @property
    def breakpoints(self) -> tuple[Until, ...]:
        """What the engine says that it pauses at."""
        return self.stepping.breakpoints if self.stepping is not None else ()

    @property
    def paused(self) -> bool:
        return self.stepping is not None and self.stepping.paused

    def on_event(self, event: Event, now: float) -> None:
        match event:
            case LoadProgress(stage=stage):
                self.phase, self.stage = Phase.LOADING, stage
            case Ready(model=model, options=options, num_kv_blocks=blocks, max_model_len=length):
                self.phase, self.message = Phase.READY, ""
                self.model, self.options, self.num_kv_blocks, self.max_model_len = model, options, blocks, length
                self._ready_since, self.stepping, self.recording = now, None, ""
                self.since.clear()
            case Stepping():
                self.stepping = event
            case Recorded(path=path, active=active):
                self.recording = path if active else ""
            case Configured(options=options, step=step):
                before = {option.name: option.effective for option in self.options}
                self.since |= {o.name: step for o in options if before.get(o.name, o.effective) != o.effective}
                self.options = options
            case Heartbeat(seconds_in_step=seconds):
                self.seconds_in_step = seconds
            case EngineDied(message=message, restartable=restartable):
                self._on_death(message, restartable, now)
            case _:
                pass

    def _on_death(self, message: str, restartable: bool, now: float) -> None:
        self.message, self.seconds_in_step = message, 0.0
        if not restartable:
            self.phase, self._restart_at = Phase.FAILED, None
            return
        if self._ready_since is not None and now - self._ready_since > STEADY_AFTER:
            self._deaths = 0
        self._ready_since = None
        self.phase = Phase.DEAD
        self._restart_at = now + min(FIRST_WAIT * 2**self._deaths, LONGEST_WAIT)
        self._deaths += 1

    def tick(self, now: float) -> None:
        """To be called several times a second: notices silence, and restarts when the time has come."""
        if self.ready:
            self.silence = self._link.seconds_since_heartbeat()
            self.phase = Phase.SILENT if self.silence > SILENT_AFTER else Phase.READY
        elif self._restart_at is not None and now >= self._restart_at:
            self.restart()

    def restart(self) -> None:
        """Start the engine again now, with the options as they are asked for."""
        self.phase, self.stage, self._restart_at = Phase.LOADING, "starting the engine again", None
        self._ready_since = None
        # Ending a process that hangs takes a second, in which the screen must not stand still.
        self._spawn(self._do_restart)

    def _do_restart(self) -> None:
        try:
            self._link.restart(self.config)
        except GlasschatError as error:
            self.phase, self.message = Phase.FAILED, str(error)

    def request(self, **changes: object) -> None:
        """Remember options to start with the next time."""
        self.config = replace(self.config, **changes)  # type: ignore[arg-type]

    def sentence(self, now: float) -> str:
        """The state in words, for the engine line."""
        match self.phase:
            case Phase.LOADING:
                return f"{self.stage} … type ahead, answers start when it is ready"
            case Phase.SILENT:
                return f"no sign of life for {self.silence:.0f} s; Ctrl+P, Restart engine starts it again"
            case Phase.DEAD:
                wait = max(0.0, (self._restart_at or now) - now)
                return f"{self.message}; starting again in {wait:.0f} s, nothing is lost"
            case Phase.FAILED:
                return f"{self.message} Mend that, then Ctrl+P, Restart engine"
            case _ if self.seconds_in_step > 2:
                return f"step has run {self.seconds_in_step:.0f} s"
            case _ if self.stepping is not None and self.stepping.paused:
                return f"after step {self.stepping.step}: {self.stepping.reason}"
            case _:
                return self.stepping.reason if self.stepping is not None else ""
