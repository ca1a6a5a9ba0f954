"""Drives a before-and-after experiment through the engine, one window after another, whatever else goes on there."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from app.link import EngineLink
from inference.experiment import Experiment, Verdict, judge, work_for
from inference.live_experiment import LiveExperiment
from inference.protocol import Configured, EngineDied, Event, Finished, FinishReason, Ready, StepRecord, in_words


class Progress(StrEnum):
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


class Measurement:
    """An experiment with one option, under way or over. The option is put back as it was at every end."""

    def __init__(
        self, link: EngineLink, option: str, before: Any, after: Any, work: Experiment | LiveExperiment
    ) -> None:
        self.option, self.before, self.after = option, before, after
        self.experiment = work
        self.progress = Progress.RUNNING
        self.problem = ""
        """Why it failed, as a sentence."""
        self._link = link
        self._in_force: Mapping[str, Any] = work.before
        self._verdict: Verdict | None = None
        self._judged = 0
        """Windows that were done when the verdict was made."""

    @classmethod
    def of_work(cls, link: EngineLink, option: str, before: Any, after: Any, vocab_size: int) -> Measurement:
        """On work of its own, the same under either value."""
        work = Experiment({option: before}, {option: after}, vocab_size, work_for(option))
        return cls(link, option, before, after, work)

    @classmethod
    def of_chats(cls, link: EngineLink, option: str, before: Any, after: Any) -> Measurement:
        """On the steps that chats bring about."""
        return cls(link, option, before, after, LiveExperiment({option: before}, {option: after}))

    @property
    def running(self) -> bool:
        return self.progress is Progress.RUNNING

    @property
    def live(self) -> bool:
        """Whether it measures what chats ask for, and so goes on while they are written."""
        return isinstance(self.experiment, LiveExperiment)

    @property
    def verdict(self) -> Verdict | None:
        """What the pairs so far say."""
        if self._judged != self.experiment.windows_done:
            self._judged = self.experiment.windows_done
            pairs = self.experiment.measured()
            self._verdict = judge(pairs) if pairs else None
        return self._verdict

    @property
    def found(self) -> str:
        """The verdict on the change, in words; empty as long as it is not done."""
        verdict = self.verdict
        if self.progress is not Progress.DONE or verdict is None:
            return ""
        where = ", with your chats' steps" if self.live else ""
        return f"{in_words(self.before)} → {in_words(self.after)}: {verdict.sentence()}{where}"

    @property
    def standing(self) -> str:
        """How far it is, for the engine line."""
        return f"measuring {self.option} {self.experiment.windows_done}/{len(self.experiment.windows)}"

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
            case Configured(step=step, options=options):
                wanted = in_words(self._in_force[self.option])
                # Others may have been changed meanwhile: only the answer that has this window's value is its own.
                answered = any(o.name == self.option and o.requested == wanted for o in options)
                if isinstance(self.experiment, LiveExperiment) and answered:
                    self.experiment.in_force(step)
            case EngineDied(message=message):
                self.progress, self.problem = Progress.FAILED, message
            case Ready():
                self.progress, self.problem = Progress.FAILED, "the engine was started again"
            case _:
                pass

    def _next(self) -> None:
        changes, requests = self.experiment.begin_next()
        # Of live steps, only the engine's answer tells from which one on they are this window's.
        if self.live or changes != self._in_force:
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
