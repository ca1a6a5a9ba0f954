"""What the panels show: a history of step records, and immutable snapshots made from it.

The app adds each `StepRecord` as it comes and asks for a snapshot a few times a second; every panel is a pure function
of the snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from inference.protocol import (
    BlockCounts,
    Finished,
    FinishReason,
    PhaseTimes,
    RequestRow,
    RequestState,
    Scheduled,
    Speculation,
    StepRecord,
)

BIN = 1.0
"""Seconds in one point of a graph."""
BINS = 60
"""Points kept: one minute."""
RECENT = 2.0
"""Seconds over which "now" is averaged."""
KEPT_STEPS = 160
KEPT_FINISHED = 12
NO_BLOCKS = BlockCounts(0, 0, 0)


@dataclass(frozen=True, slots=True)
class StepBar:
    step: int
    prefill: int
    decode: int
    drafts: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """What one request got in the latest step."""

    session: str
    prefill: int
    decode: int
    request: str = ""
    drafts: int = 0

    @property
    def total(self) -> int:
        return self.prefill + self.decode + self.drafts


@dataclass(frozen=True, slots=True)
class RequestView:
    id: str
    session: str
    state: str
    """WAIT, PREFILL, DECODE, PREEMPTED, or in small letters how it finished."""
    prompt: int
    computed: int
    output: int
    blocks: int
    speed: float = 0.0
    why: str = ""
    """Why it got nothing, or less than it wanted, in the latest step."""
    live: bool = True


@dataclass(frozen=True, slots=True)
class Series:
    """One graph: points a second apart, the newest last."""

    points: tuple[float, ...] = ()
    now: float = 0.0

    @property
    def peak(self) -> float:
        return max((self.now, *self.points))


@dataclass(frozen=True, slots=True)
class Drafting:
    """How drafts have done lately."""

    decided: Speculation | None = None
    """For the latest step in which something decoded; None where nobody drafts."""
    accepted: Series = Series()
    """Of the drafts, in percent."""
    drafts: int = 0
    """In the recent steps."""
    verifications: int = 0
    tokens: int = 0
    """That these gave."""


@dataclass(frozen=True, slots=True)
class Reuse:
    """What the prefix cache has had of the requests that were admitted since the engine started."""

    tokens: int = 0
    """Looked for."""
    cached: int = 0
    """Found, and so not computed again."""

    @property
    def percent(self) -> float:
        return 100 * self.cached / self.tokens if self.tokens else 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    step: int = 0
    running: int = 0
    waiting: int = 0
    blocks: BlockCounts = NO_BLOCKS
    reuse: Reuse = Reuse()
    block_size: int = 16
    budget: int = 0
    """Tokens that a step may hold."""
    step_seconds: float = 0.0
    bars: tuple[StepBar, ...] = ()
    shares: tuple[Share, ...] = ()
    requests: tuple[RequestView, ...] = ()
    resting: tuple[tuple[str, str], ...] = ()
    """Sessions without a request that wait for something else, and why."""
    measuring: str = ""
    """What is being measured with the chats' steps, and how far."""
    paused: bool = False
    """Nobody gets anything before the engine is told to go on."""
    decode: Series = Series()
    prefill: Series = Series()
    step_ms: Series = Series()
    ttft: tuple[float, ...] = ()
    """Seconds to the first token of the latest answers, the newest last."""
    phases: PhaseTimes = field(default_factory=PhaseTimes)
    """Mean seconds of each phase of the recent steps, or where there were none, of the latest."""
    drafting: Drafting = Drafting()

    @property
    def kv_percent(self) -> float:
        return 100 * self.blocks.used / self.blocks.total if self.blocks.total else 0.0

    @property
    def idle(self) -> bool:
        return self.running + self.waiting == 0

    def joined_by(self, sent: Iterable[RequestView]) -> Snapshot:
        """With requests that no step has told of yet, among the waiting ones."""
        known = {view.id for view in self.requests}
        new = tuple(view for view in sent if view.id not in known)
        live = sum(view.live for view in self.requests)
        requests = (*self.requests[:live], *new, *self.requests[live:])
        return replace(self, requests=requests, waiting=self.waiting + len(new))


@dataclass(slots=True)
class _Bin:
    number: int
    decode: int = 0
    """Tokens that came out."""
    prefill: int = 0
    drafts: int = 0
    accepted: int = 0
    steps: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Telemetry:
    """The history. `now` is always the app's clock: records are dated by their arrival."""

    _latest: StepRecord | None = None
    _bars: deque[StepBar] = field(default_factory=lambda: deque(maxlen=KEPT_STEPS))
    _bins: deque[_Bin] = field(default_factory=lambda: deque(maxlen=BINS + 4))
    _recent: deque[tuple[float, StepRecord]] = field(default_factory=deque)
    _marks: dict[str, deque[tuple[float, int]]] = field(default_factory=dict)
    """Per live request: when it had how many output tokens, for its speed."""
    _live: dict[str, RequestView] = field(default_factory=dict)
    _finished: deque[RequestView] = field(default_factory=lambda: deque(maxlen=KEPT_FINISHED))
    _ttft: deque[float] = field(default_factory=lambda: deque(maxlen=10))
    _pool: BlockCounts = NO_BLOCKS
    _decided: Speculation | None = None
    _reuse: Reuse = Reuse()

    def engine_ready(self, num_blocks: int) -> None:
        """A new engine begins with an empty pool."""
        self._pool = BlockCounts(num_blocks, 0, num_blocks)
        self._latest = self._decided = None
        self._reuse = Reuse()

    def engine_lost(self) -> None:
        """Nothing runs any more."""
        for id in list(self._live):
            self._end(id, "lost")
        self._pool = BlockCounts(self._pool.total, 0, self._pool.total)

    def idle(self, now: float) -> bool:
        """Whether nothing runs or waits, and nothing has for a while."""
        return not self._live and (not self._recent or self._recent[-1][0] < now - RECENT)

    def add(self, record: StepRecord, now: float) -> None:
        self._latest, self._pool = record, record.blocks
        self._recent.append((now, record))
        if record.speculation is not None or record.config.speculation == "off":
            self._decided = record.speculation
        self._reuse = Reuse(
            self._reuse.tokens + sum(lookup.tokens for lookup in record.lookups),
            self._reuse.cached + sum(lookup.cached_tokens for lookup in record.lookups),
        )
        drafts = sum(s.drafts for s in record.scheduled)
        self._bars.append(StepBar(record.step, record.prefill_tokens, record.decode_tokens - drafts, drafts))
        number = int(now / BIN)
        if not self._bins or self._bins[-1].number != number:
            self._bins.append(_Bin(number))
        current = self._bins[-1]
        current.decode += record.sampled_tokens
        current.prefill += record.prefill_tokens
        current.drafts += sum(v.decided for v in record.verified)
        current.accepted += sum(v.accepted for v in record.verified)
        current.steps += 1
        current.seconds += record.phases.total
        prefilling = {s.request_id for s in record.scheduled if s.is_prefill}
        why = {u.request_id: u.why for u in record.unscheduled}
        live = {
            row.request_id: self._view(row, prefilling, why.get(row.request_id, ""), now) for row in record.requests
        }
        before, self._live = self._live, live
        reasons = dict(record.finished)
        for id, view in before.items():
            if id in reasons or id not in live:
                self._live[id] = view
                self._end(id, reasons[id].value if id in reasons else "gone")

    def _view(self, row: RequestRow, prefilling: set[str], why: str, now: float) -> RequestView:
        marks = self._marks.setdefault(row.request_id, deque())
        if not marks or marks[-1][1] != row.output_tokens:
            marks.append((now, row.output_tokens))
        while len(marks) > 2 and now - marks[0][0] > RECENT:
            marks.popleft()
        elapsed = now - marks[0][0]
        return RequestView(
            row.request_id,
            row.session,
            _state(row, prefilling),
            row.prompt_tokens,
            row.computed_tokens,
            row.output_tokens,
            row.blocks,
            (row.output_tokens - marks[0][1]) / elapsed if elapsed > 0 else 0.0,
            why,
        )

    def finish(self, event: Finished) -> None:
        timings = event.timings
        if timings.ttft > 0:
            self._ttft.append(timings.ttft)
        if event.request_id in self._live:
            self._end(event.request_id, event.reason.value)
        for index, view in enumerate(self._finished):
            if view.id == event.request_id:
                self._finished[index] = replace(
                    view,
                    state=event.reason.value,
                    output=timings.output_tokens,
                    speed=timings.tokens_per_second,
                    computed=max(view.computed, timings.prompt_tokens + timings.output_tokens - 1),
                )

    def _end(self, id: str, how: str) -> None:
        view = self._live.pop(id)
        self._marks.pop(id, None)
        self._finished.appendleft(replace(view, state=how, blocks=0, why="", live=False))

    def snapshot(self, now: float) -> Snapshot:
        record = self._latest
        live = tuple(self._live.values())
        numbers = range(int(now / BIN) - BINS, int(now / BIN))
        bins = {b.number: b for b in self._bins}
        found = [bins.get(n) for n in numbers]
        while self._recent and self._recent[0][0] < now - RECENT:
            self._recent.popleft()
        recent = [record for _, record in self._recent]
        shares: tuple[Share, ...] = ()
        if record is not None:
            shares = tuple(_share(s) for s in record.scheduled)
        verified = [v for r in recent for v in r.verified]
        drafted = sum(v.decided for v in verified)
        return Snapshot(
            step=record.step if record else 0,
            running=sum(v.state in ("PREFILL", "DECODE") for v in live),
            waiting=sum(v.state in ("WAIT", "PREEMPTED") for v in live),
            blocks=self._pool,
            reuse=self._reuse,
            block_size=record.config.block_size if record else 16,
            budget=record.config.max_num_batched_tokens if record else 0,
            step_seconds=record.phases.total if record else 0.0,
            bars=tuple(self._bars),
            shares=shares,
            requests=live + tuple(self._finished),
            decode=_series(
                [b.decode / BIN if b else 0.0 for b in found], sum(r.sampled_tokens for r in recent) / RECENT
            ),
            prefill=_series(
                [b.prefill / BIN if b else 0.0 for b in found], sum(r.prefill_tokens for r in recent) / RECENT
            ),
            step_ms=_series(
                [1000 * b.seconds / b.steps if b and b.steps else 0.0 for b in found],
                1000 * sum(r.phases.total for r in recent) / len(recent) if recent else 0.0,
            ),
            ttft=tuple(self._ttft),
            phases=PhaseTimes.mean([r.phases for r in recent or ([record] if record else [])]),
            drafting=Drafting(
                self._decided,
                _series(
                    [100 * b.accepted / b.drafts if b and b.drafts else 0.0 for b in found],
                    100 * sum(v.accepted for v in verified) / drafted if drafted else 0.0,
                ),
                drafted,
                len(verified),
                sum(v.tokens for v in verified),
            ),
        )

    def effect(self, what: str, since: float, now: float) -> str:
        """Speed before and after a change, each over at most ten seconds in which something ran."""
        at = int(since / BIN)
        before = [b for b in self._bins if at - 10 <= b.number < at and b.steps]
        after = [b for b in self._bins if at < b.number <= at + 10 and b.number < int(now / BIN) and b.steps]
        if not before or not after:
            return f"{what}: the effect on speed appears here when answers run before and after the change"
        old, new = _rates(before), _rates(after)
        return (
            f"{what}: decode {old[0]:.1f} → {new[0]:.1f} tok/s, step {old[1]:.0f} → {new[1]:.0f} ms "
            f"({len(before) * BIN:.0f} s before, {len(after) * BIN:.0f} s after; other load counts too)"
        )


def _rates(bins: Sequence[_Bin]) -> tuple[float, float]:
    """Decode tokens per second and milliseconds per step."""
    steps = sum(b.steps for b in bins)
    return sum(b.decode for b in bins) / (len(bins) * BIN), 1000 * sum(b.seconds for b in bins) / steps


def _share(chunk: Scheduled) -> Share:
    if chunk.is_prefill:
        return Share(chunk.session, chunk.num_tokens, 0, chunk.request_id)
    return Share(chunk.session, 0, chunk.num_tokens - chunk.drafts, chunk.request_id, chunk.drafts)


def _series(points: Sequence[float], now: float) -> Series:
    return Series(tuple(points), now)


def _state(row: RequestRow, prefilling: set[str]) -> str:
    if row.state is RequestState.WAITING:
        return "WAIT"
    if row.state is RequestState.PREEMPTED:
        return "PREEMPTED"
    if row.state is RequestState.FINISHED:
        return FinishReason.STOP.value
    unfinished = row.computed_tokens < row.prompt_tokens
    return "PREFILL" if unfinished or (row.request_id in prefilling and not row.output_tokens) else "DECODE"


def held_by_session(requests: Iterable[RequestView]) -> list[tuple[str, int]]:
    """Blocks held by each session, the most first."""
    held: dict[str, int] = {}
    for view in requests:
        if view.live and view.blocks:
            held[view.session] = held.get(view.session, 0) + view.blocks
    return sorted(held.items(), key=lambda item: -item[1])
