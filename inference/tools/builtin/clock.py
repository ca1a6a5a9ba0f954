"""The date and the time, here or in a named time zone."""

from __future__ import annotations

import difflib
from datetime import datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import Field

from inference.tools.context import Context
from inference.tools.definition import Effect, ToolError, tool, visible


@tool(effect=Effect.READS)
def clock(
    context: Context,
    what: Annotated[Literal["time", "date", "both"], Field(description="time, date or both")] = "both",
    zone: Annotated[str, Field(max_length=64, description="an IANA name such as Europe/Paris; empty: here")] = "",
) -> str:
    """Tell the time or the date."""
    now = context.now()
    if zone.strip():
        now = now.astimezone(_zone(zone.strip()))
    date = f"{now:%A} {now.date().isoformat()}"
    time = f"{now:%H:%M}" + (f" {_offset(now)}" if zone.strip() else "")
    return {"time": time, "date": date, "both": f"{date} {time}"}[what]


def _zone(name: str) -> ZoneInfo:
    """The time zone of this name, written with any case and with spaces."""
    wanted = name.replace(" ", "_")
    known = {each.casefold(): each for each in available_timezones()}
    if not known:
        raise ToolError("this machine has no table of time zones: install the package tzdata")
    if (found := known.get(wanted.casefold())) is None:
        cities = {each.rpartition("/")[2]: each for each in known}
        near = difflib.get_close_matches(wanted.casefold(), [*known, *cities], n=3)
        names = ", ".join(dict.fromkeys(known[cities.get(each, each)] for each in near))
        raise ToolError(f"there is no time zone {visible(name)!r}: " + (f"try {names}" if names else "use Area/City"))
    try:
        return ZoneInfo(found)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ToolError(f"the time zone {found} can't be read ({error})") from None


def _offset(now: datetime) -> str:
    """Such as UTC+05:30."""
    sign = now.strftime("%z")
    return f"UTC{sign[:3]}:{sign[3:5]}"
