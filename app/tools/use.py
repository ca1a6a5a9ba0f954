"""What a session has to do with tools: whether it has them, where they look, what was allowed, what was folded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.tools.folds import Folds
from inference.tools.receipts import Decision, Grants
from inference.tools.rounds import MAX_ROUNDS

GUIDE = "demo"
"""The model that has learned to call our own tools."""


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

    @classmethod
    def at_first(cls, model: str) -> ToolUse:
        """Of a session that nobody has chosen for: the guide has its tools, another model gets none unasked."""
        return cls(on=model.partition(":")[0] == GUIDE)

    def to_json(self) -> str:
        use = {"on": self.on, "directory": self.directory, "grants": self.grants.decisions, "calling": self.calling}
        return json.dumps(use | self.folds.to_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ToolUse:
        """What can't be read is as in a new session: without tools, and nothing allowed."""
        try:
            raw = json.loads(text) if text else {}
            grants = {str(key): Decision(value) for key, value in raw.get("grants", {}).items()}
            grants_and_folds = Grants(grants), Folds.from_dict(raw)
            return cls(
                bool(raw.get("on")), str(raw.get("directory", "")), *grants_and_folds, str(raw.get("calling", ""))
            )
        except (ValueError, TypeError, AttributeError):
            return cls()

    def like(self) -> ToolUse:
        """For another session: the same tools and place, nothing allowed yet."""
        return ToolUse(self.on, self.directory, schemas=self.schemas, max_rounds=self.max_rounds)
