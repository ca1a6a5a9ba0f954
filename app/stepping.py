"""Pausing the engine, stepping it, and letting it run until something happens: the commands, in words."""

from __future__ import annotations

from collections.abc import Iterator

from inference.protocol import Condition, Resume, Until

CROWDED = 80.0
"""Percent of the KV blocks; for the palette's condition."""


def commands(session: str) -> Iterator[tuple[str, str, Resume]]:
    """Title, help and command of what the palette offers while `session` is on the screen."""
    for count in (10, 100):
        yield f"Run {count} steps", f"then pause the engine after step {count} from here", Resume(steps=count)
    for title, until in (
        ("Run until a preemption", Until(Condition.PREEMPTION)),
        (f"Run until KV use is above {CROWDED:.0f} %", Until(Condition.KV_ABOVE, percent=CROWDED)),
        ("Run until this session is scheduled", Until(Condition.SCHEDULED, session=session)),
        ("Run until a request ends", Until(Condition.FINISHED)),
        ("Run until a request is not admitted", Until(Condition.REFUSED)),
    ):
        yield title, "then pause the engine at that step's end", Resume(until=until)
