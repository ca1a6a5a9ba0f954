"""Every live request and why it got what it got in the latest step; then the sessions that wait for a tool."""

from __future__ import annotations

from textwrap import wrap

from app.paint import Line, fit
from app.panels.telemetry import Snapshot

TITLE = "Who got what, and why"
LEGEND = "in the latest step"


def draw(snapshot: Snapshot, width: int, height: int) -> list[Line]:
    live = [view for view in snapshot.requests if view.live]
    if not live and not snapshot.resting:
        return [[(line, "dim")] for line in wrap("No request is live. Each message you send is one.", width)]
    given = {share.request: share for share in snapshot.shares}
    name = max(6, min(16, width - 40))
    lines: list[Line] = []
    if snapshot.paused:
        lines.append([(fit(f"paused after step {snapshot.step} (F5, F6)", width), "warn bold")])
    for view in live:
        share = given.get(view.id)
        tokens, drafts = (share.total, share.drafts) if share else (0, 0)
        got = f"{tokens} token{'s' * (tokens != 1)}" if tokens else "nothing"
        why = view.why or (f"{drafts} of them drafts" if drafts else "all it asked for" if tokens else "")
        line: Line = [
            (fit(view.session, name), "text"),
            (f" {view.state:<9} ", "prefill" if view.state == "PREFILL" else "decode" if tokens else "warn"),
            (f"{got:<11}", "bold" if tokens else "warn"),
        ]
        lines.append(line)
        if len(why) <= width - name - 22:
            line.append((why, "dim"))
        elif view.why:
            lines.append([(fit(f"  {why}", width), "dim")])
    for session, why in snapshot.resting:
        lines.append([(fit(session, name), "text"), (" TOOL ", "warn"), (fit(why, max(0, width - name - 6)), "dim")])
    if len(lines) > height:
        lines = [*lines[: height - 1], [(f"and {len(lines) - height + 1} more", "dim")]]
    return lines
