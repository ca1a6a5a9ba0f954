"""What the app asks of an engine client, so that tests can put a scripted one in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from inference.protocol import EngineConfig, Event, Prompt, Submit


class EngineLink(Protocol):
    """An engine in another process: commands go in, events are drained. No call waits for the engine."""

    def start(self) -> None: ...

    def submit(self, command: Submit) -> None: ...

    def abort(self, request_id: str) -> None: ...

    def configure(self, changes: Mapping[str, Any]) -> None: ...

    def count_tokens(self, query_id: str, prompt: Prompt) -> None: ...

    def drain(self) -> list[Event]: ...

    def seconds_since_heartbeat(self) -> float: ...

    def restart(self, config: EngineConfig | None = None) -> None: ...

    def close(self) -> None: ...
