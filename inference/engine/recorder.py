"""Writes an engine's session to a file while it runs; `inference.scheduling.recording` says what is in it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from inference.errors import ConfigError
from inference.protocol import EngineConfig, FinishReason, SamplingParams, StepRecord
from inference.scheduling.recording import (
    Arrival,
    Change,
    Departure,
    Entry,
    Header,
    Output,
    RecordedStep,
    entry_line,
    header_line,
)
from inference.scheduling.request import Request


class Recorder:
    """One recording. A file that can't be written any more ends it; `problem` then says why."""

    def __init__(self, path: Path, header: Header) -> None:
        """Raises ConfigError if the file can't be written."""
        self.path = path
        self.problem = ""
        self._began = time.monotonic()
        self._config = header.config
        self._outputs: list[Output] = []
        try:
            self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115  # held until `close`
            self._file.write(header_line(header) + "\n")
        except OSError as error:
            raise ConfigError(f"the recording {path} can't be written: {error}") from None

    def arrival(self, request: Request, params: SamplingParams, seed: int) -> None:
        self._write(
            Arrival(
                self._now(),
                request.request_id,
                request.session,
                tuple(request.prompt_ids),
                request.max_total_tokens,
                request.priority,
                replace(params, seed=seed),
                tuple(request.output_ids),
            )
        )

    def departure(self, request_id: str) -> None:
        self._write(Departure(self._now(), request_id))

    def change(self, config: EngineConfig) -> None:
        if config != self._config:
            self._config = config
            self._write(Change(self._now(), config))

    def output(self, request_id: str, token_id: int, reason: FinishReason | None) -> None:
        """A token of the step that is being computed; -1 for a request that ends without one."""
        self._outputs.append(Output(request_id, token_id, "" if reason is None else str(reason)))

    def step(self, record: StepRecord, wanted_drafts: Mapping[str, int], *, failed: bool) -> None:
        outputs, self._outputs = tuple(self._outputs), []
        blocks = record.blocks
        self._write(
            RecordedStep(
                self._now(),
                record.step,
                record.phases,
                record.scheduled,
                record.preempted,
                outputs,
                blocks.used,
                blocks.cached,
                record.pace,
                failed,
                wanted_drafts,
            )
        )

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self.problem = self.problem or str(error)

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _write(self, entry: Entry) -> None:
        if self.problem:
            return
        try:
            self._file.write(entry_line(entry) + "\n")
            if isinstance(entry, RecordedStep):
                self._file.flush()
        except OSError as error:
            self.problem = f"the recording {self.path} ends here: {error}"
