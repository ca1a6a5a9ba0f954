"""What a session has to do with tools: whether it has them, where they look, what was allowed, what was folded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inference.tools.receipts import Decision, Grants
from inference.tools.rounds import MAX_ROUNDS


@dataclass(slots=True)
class Folds:
    """What the model is told in short, because the conversation neared the context's limit. The turns stay whole."""

    results: dict[str, str] = field(default_factory=dict)
    """By call: the line that stands in the place of its result."""
    summary: str = ""
    kept_from: str = ""
    """The first turn that is not part of the summary; empty if there is none."""
    refused: bool = False
    """The user wants all of it back: nothing is folded by itself any more."""

    def __bool__(self) -> bool:
        return bool(self.results or self.kept_from)


@dataclass(slots=True)
class ToolUse:
    """One session's. Kept with it, but for what the toolbox says anew at each start."""

    on: bool = False
    directory: str = ""
    """The workspace; empty for the directory that glasschat was started in."""
    grants: Grants = field(default_factory=Grants)
    folds: Folds = field(default_factory=Folds)
    calling: str = ""
    """The answer whose calls are being made, or were when the app ended; empty if there is none."""
    schemas: tuple[Mapping[str, Any], ...] = ()
    """Of the tools that are offered, once they are known; the same in every prompt."""
    max_rounds: int = MAX_ROUNDS

    def to_json(self) -> str:
        folds = self.folds
        return json.dumps(
            {
                "on": self.on,
                "directory": self.directory,
                "grants": self.grants.decisions,
                "folded": folds.results,
                "summary": folds.summary,
                "kept_from": folds.kept_from,
                "unfolded": folds.refused,
                "calling": self.calling,
            },
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, text: str) -> ToolUse:
        """What can't be read is as in a new session: without tools, and nothing allowed."""
        try:
            raw = json.loads(text) if text else {}
            grants = {str(key): Decision(value) for key, value in raw.get("grants", {}).items()}
            results = {str(key): str(value) for key, value in raw.get("folded", {}).items()}
            folds = Folds(
                results, str(raw.get("summary", "")), str(raw.get("kept_from", "")), bool(raw.get("unfolded"))
            )
            calling = str(raw.get("calling", ""))
            return cls(bool(raw.get("on")), str(raw.get("directory", "")), Grants(grants), folds, calling)
        except (ValueError, TypeError, AttributeError):
            return cls()

    def like(self) -> ToolUse:
        """For another session: the same tools and place, nothing allowed yet."""
        return ToolUse(self.on, self.directory, schemas=self.schemas, max_rounds=self.max_rounds)
