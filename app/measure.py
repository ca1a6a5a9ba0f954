"""Drives a before-and-after experiment through the engine, one window after another, whatever else goes on there."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from app.link import EngineLink
from inference.experiment import Experiment, Verdict, judge, work_for
from inference.protocol import Configured, EngineDied, Event, Finished, FinishReason, StepRecord


class Progress(StrEnum):
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


class Measurement:
    """An experiment with one option, under way or over. The option is put back as it was at every end."""

    def __init__(self, link: EngineLink, option: str, before: Any, after: Any, vocab_size: int) -> None:
        self.option, self.before, self.after = option, before, after
        self.experiment = Experiment({option: before}, {option: after}, vocab_size, work_for(option))
        self.progress = Progress.RUNNING
        self.problem = ""
        """Why it failed, as a sentence."""
        self._link = link
        self._in_force: Mapping[str, Any] = self.experiment.before

    @property
    def running(self) -> bool:
        return self.progress is Progress.RUNNING

    @property
    def verdict(self) -> Verdict | None:
        """What the pairs so far say."""
        pairs = self.experiment.measured()
        return judge(pairs) if pairs else None

    def start(self) -> None:
        self._next()

    def stop(self) -> None:
        """Leave it as it is."""
        if self.running:
            self._end(Progress.STOPPED)

    def on_event(self, event: Event) -> None:
        if not self.running:
            return
        match event:
            case StepRecord():
                if self.experiment.on_record(event):
                    self._end(Progress.DONE) if self.experiment.done else self._next()
            case Finished(request_id=name, reason=FinishReason.ERROR, message=message):
                if name in self.experiment.open_requests():
                    self._fail(message)
            case Configured(error=error) if error:
                self._fail(error)
            case EngineDied(message=message):
                self.progress, self.problem = Progress.FAILED, message
            case _:
                pass

    def _next(self) -> None:
        changes, requests = self.experiment.begin_next()
        if changes != self._in_force:
            self._link.configure(changes)
            self._in_force = changes
        for request in requests:
            self._link.submit(request)

    def _fail(self, problem: str) -> None:
        self.problem = problem
        self._end(Progress.FAILED)

    def _end(self, progress: Progress) -> None:
        self.progress = progress
        for request_id in self.experiment.open_requests():
            self._link.abort(request_id)
        if self._in_force != self.experiment.before:
            self._link.configure(self.experiment.before)
            self._in_force = self.experiment.before
