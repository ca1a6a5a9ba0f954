"""One session's request: what it is now, where its blocks are, and what it got in its last steps."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from textwrap import wrap

from app.inspector.blocks import BlockMap
from app.paint import Line, fit
from inference.protocol import RequestRow, StepRecord

KEPT = 60
"""Steps remembered of each session."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What a session got in a step, or why it got nothing."""

    step: int
    tokens: int
    before: int
    """Tokens that were in the cache already."""
    prefill: bool
    why: str = ""
    drafts: int = 0
    """Of the tokens, those that were drafted."""
    gained: int = 0
    """Tokens that its text grew by, where drafts were verified."""


@dataclass(slots=True)
class Story:
    """Put together from step records, for every session that has been served."""

    _rows: dict[str, RequestRow] = field(default_factory=dict)
    """The latest state of each session's latest request."""
    _moments: dict[str, deque[Moment]] = field(default_factory=dict)
    _ended: dict[str, str] = field(default_factory=dict)
    """How the latest request of a session ended; missing while it is live."""

    def add(self, record: StepRecord) -> None:
        known = {row.request_id: row.session for row in self._rows.values()}
        for row in record.requests:
            known[row.request_id] = row.session
            self._rows[row.session] = row
            self._ended.pop(row.session, None)
        why = {u.request_id: u.why for u in record.unscheduled}
        gained = {v.request_id: v.tokens for v in record.verified}
        for s in record.scheduled:
            moment = Moment(
                record.step,
                s.num_tokens,
                s.num_computed,
                s.is_prefill,
                why.pop(s.request_id, ""),
                s.drafts,
                gained.get(s.request_id, 0),
            )
            self._note(s.session, moment)
        for request_id, reason in why.items():
            if request_id in known:
                self._note(known[request_id], Moment(record.step, 0, 0, False, reason))
        for request_id, end in record.finished:
            if request_id in known:
                self._ended[known[request_id]] = end.value

    def _note(self, session: str, moment: Moment) -> None:
        self._moments.setdefault(session, deque(maxlen=KEPT)).appendleft(moment)

    @property
    def sessions(self) -> list[str]:
        """Those there is something to tell of, in the order in which they came up."""
        return list(self._moments)

    def forget(self) -> None:
        """A new engine counts its steps anew."""
        self._rows.clear()
        self._moments.clear()
        self._ended.clear()

    def draw(self, session: str, blocks: BlockMap, width: int, height: int) -> list[Line]:
        row = self._rows.get(session)
        lines: list[Line] = [[(fit(session, width), "bold")]]
        if row is not None:
            state = f"ended: {self._ended[session]}" if session in self._ended else row.state.value
            lines.append([(fit(f"{state} · {row.preemptions} preemptions", width), "text")])
            text = f"{row.prompt_tokens} prompt + {row.output_tokens} answer, {row.computed_tokens} computed"
            lines.append([(fit(text, width), "text")])
            lines.append([(fit(f"{row.cached_tokens} came from the prefix cache", width), "dim")])
        lines += _held(blocks.of(session), width)
        for moment in self._moments.get(session, ()):
            lines.append(_moment(moment, width))
        return lines[:height]


def _held(blocks: list[tuple[int, bool]], width: int) -> list[Line]:
    """A session's blocks in the order of its text; shared ones are marked."""
    if not blocks:
        return [[("holds no block", "dim")]]
    names = " ".join(f"{block}*" if shared else str(block) for block, shared in blocks)
    shared = sum(is_shared for _, is_shared in blocks)
    head = f"{len(blocks)} blocks" + (f", {shared} shared *" if shared else "") + ": "
    lines = wrap(head + names, width)
    more = [*lines[:2], "…"] if len(lines) > 3 else lines
    return [[(line, "text")] for line in more]


def _moment(moment: Moment, width: int) -> Line:
    step = f"{moment.step:>6} "
    if not moment.tokens:
        return [(step, "dim"), (fit(f"nothing: {moment.why}", width - 7), "warn")]
    end = f" · {moment.why}" if moment.why else ""
    if moment.drafts:
        text = f"1 + {moment.drafts} drafts gave {moment.gained} after {moment.before}{end}"
        return [(step, "dim"), (fit(text, width - 7), "draft")]
    what = "prefill" if moment.prefill else "decode"
    return [(step, "dim"), (fit(f"{moment.tokens} {what} after {moment.before}{end}", width - 7), what)]
