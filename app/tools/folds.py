"""What a session's model is told in short, as the conversation neared the context's limit; the turns stay whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

KEPT_SUMMARIES = 20
"""Older ones go: a branch that had one of them is summed up again when it is gone on with."""


@dataclass(slots=True)
class Folds:
    """Each belongs to a call or a turn, and so to the branches of the conversation that these are part of."""

    results: dict[str, str] = field(default_factory=dict)
    """By call: the line that stands in the place of its result."""
    answers: dict[str, str] = field(default_factory=dict)
    """By turn: what stands in the place of an answer whose calls have long arguments."""
    summaries: dict[str, str] = field(default_factory=dict)
    """By turn: what all turns up to it, and it, are summed up as. The latest on a path counts."""
    refused: bool = False
    """The user wants all of it back: nothing is folded by itself any more."""

    def __bool__(self) -> bool:
        return bool(self.results or self.answers or self.summaries)

    def sum_up(self, turn: str, summary: str) -> None:
        """Let a summary stand for all up to a turn."""
        self.summaries.pop(turn, None)
        self.summaries[turn] = summary
        while len(self.summaries) > KEPT_SUMMARIES:
            del self.summaries[next(iter(self.summaries))]

    def end(self, path: Iterable[str]) -> str:
        """The last turn of a path that is only part of a summary; empty if there is none."""
        return next((turn for turn in reversed([*path]) if turn in self.summaries), "")

    def carried(self, turns: Mapping[str, str], calls: Mapping[str, str]) -> Folds:
        """For a copy of these turns and calls, by their ids here and there."""
        return Folds(
            _moved(self.results, calls), _moved(self.answers, turns), _moved(self.summaries, turns), self.refused
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "folded": self.results,
            "shortened": self.answers,
            "summaries": self.summaries,
            "unfolded": self.refused,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Folds:
        """Raises AttributeError or TypeError for what was not made by `to_dict`."""
        results, answers, summaries = (
            {str(key): str(value) for key, value in raw.get(name, {}).items()}
            for name in ("folded", "shortened", "summaries")
        )
        return cls(results, answers, summaries, bool(raw.get("unfolded")))


def _moved(texts: Mapping[str, str], ids: Mapping[str, str]) -> dict[str, str]:
    return {ids[id]: text for id, text in texts.items() if id in ids}
