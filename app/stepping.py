"""Stepping the engine, letting it run until something happens, and breakpoints: the commands, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inference.protocol import Condition, Resume, Until

CROWDED = 80.0
"""Percent of the KV blocks; for the palette's condition."""
BREAKS = (Condition.SCHEDULED, Condition.PREEMPTION, Condition.FINISHED)
"""What one session can be made to pause the engine by."""


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


def breakpoints(session: str, known: Sequence[Until]) -> Iterator[tuple[str, str, Sequence[Until]]]:
    """Title, help and what is then set, for what the palette offers while `session` is on the screen."""
    for point in (Until(condition, session=session) for condition in BREAKS):
        if point in known:
            yield f"No breakpoint: {point}", "let it happen from now on", [p for p in known if p != point]
        else:
            yield f"Breakpoint: {point}", "pause the engine whenever that happens", [*known, point]
    if known:
        yield "Remove all breakpoints", ", ".join(map(str, known)), []


def next_breakpoint(session: str, known: Sequence[Until]) -> list[Until]:
    """With the next of the session's breakpoints in the place of the one it has; after the last one none."""
    own = [point.condition for point in known if point.session == session]
    place = BREAKS.index(own[-1]) + 1 if own and own[-1] in BREAKS else 0
    others = [point for point in known if point.session != session]
    return others if place == len(BREAKS) else [*others, Until(BREAKS[place], session=session)]
