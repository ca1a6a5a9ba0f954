"""What happened to an engine, as JSON lines: arrivals, aborts, changes, and every step's decisions and tokens.

The first line says what the engine was. The others follow in the order in which things happened; each has one key
that says what it is. Times are seconds since the recording began.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from inference.errors import ConfigError
from inference.protocol import EngineConfig, PhaseTimes, SamplingParams, Scheduled

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Header:
    """The engine that was recorded."""

    model: str
    config: EngineConfig
    """As in force when the recording began."""
    num_blocks: int
    block_size: int
    max_model_len: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request was accepted."""

    time: float
    request_id: str
    session: str
    prompt_ids: tuple[int, ...]
    max_total_tokens: int
    priority: int
    params: SamplingParams
    """With the seed that was drawn if none was given."""
    output_ids: tuple[int, ...] = ()
    """Of one that was live when the recording began: its answer so far, all of which is computed again."""


@dataclass(frozen=True, slots=True)
class Departure:
    """A request ended between two steps: it was aborted."""

    time: float
    request_id: str


@dataclass(frozen=True, slots=True)
class Change:
    """Options took effect."""

    time: float
    config: EngineConfig


@dataclass(frozen=True, slots=True)
class Output:
    """A token, and why the request ended with it, if it did."""

    request_id: str
    token_id: int
    """Negative if the request ended without one: its logits were no numbers."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """A step's decisions and what came of them."""

    time: float
    """At its end."""
    step: int
    phases: PhaseTimes
    decisions: tuple[Scheduled, ...]
    preempted: tuple[str, ...]
    outputs: tuple[Output, ...]
    used_blocks: int
    cached_blocks: int
    """Free, and with content."""
    pace: int | None = None
    """The most prefill tokens that the step might have."""
    failed: bool = False
    """The step could not be computed; its requests are tried one by one, which a replay can't repeat."""
    wanted_drafts: Mapping[str, int] = field(default_factory=dict)
    """Drafts that were offered, by request; the others had none."""


Entry = Arrival | Departure | Change | RecordedStep
_KINDS: Mapping[str, type[Entry]] = {
    "arrival": Arrival,
    "departure": Departure,
    "change": Change,
    "step": RecordedStep,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


@dataclass
class Recording:
    header: Header
    entries: list[Entry] = field(default_factory=list)

    @property
    def steps(self) -> Iterator[RecordedStep]:
        return (entry for entry in self.entries if isinstance(entry, RecordedStep))


def header_line(header: Header) -> str:
    return json.dumps({"glasschat": FORMAT, **asdict(header)})


def entry_line(entry: Entry) -> str:
    return json.dumps({_NAMES[type(entry)]: asdict(entry)})


def read(path: Path) -> Recording:
    """Raises ConfigError, with the line, for a file that is missing or no recording."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the recording {path} can't be read: {getattr(error, 'strerror', None) or error}") from None
    recording: Recording | None = None
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
            if recording is None:
                recording = Recording(_header(value))
            else:
                recording.entries.append(_entry(value))
        except (ValueError, TypeError, KeyError, ConfigError) as error:
            if number == len(lines) and recording is not None:
                break  # the engine ended while it wrote this line
            what = f"{path}, line {number}" if recording else str(path)
            raise ConfigError(f"{what} is no recording of glasschat's: {error}") from None
    if recording is None:
        raise ConfigError(f"the recording {path} is empty")
    return recording


def _header(value: Any) -> Header:
    if value.pop("glasschat") != FORMAT:
        raise ValueError(f"only format {FORMAT} can be read")
    return Header(**{**value, "config": _config(value["config"])})


def _config(value: Mapping[str, Any]) -> EngineConfig:
    known = {f.name for f in fields(EngineConfig)}
    if unknown := sorted(set(value) - known):
        raise ValueError(f"there is no option {unknown[0]!r}")
    return EngineConfig(**value)


def _entry(value: Any) -> Entry:
    ((name, body),) = value.items()
    match _KINDS[name]:
        case kind if kind is Arrival:
            params = {**body["params"], "stop": tuple(body["params"]["stop"])}
            params["logit_bias"] = {int(token): bias for token, bias in params["logit_bias"].items()}
            ids = {name: tuple(body[name]) for name in ("prompt_ids", "output_ids") if name in body}
            return Arrival(**{**body, **ids, "params": SamplingParams(**params)})
        case kind if kind is Change:
            return Change(body["time"], _config(body["config"]))
        case kind if kind is RecordedStep:
            decisions = tuple(Scheduled(**each) for each in body["decisions"])
            outputs = tuple(Output(**each) for each in body["outputs"])
            preempted, phases = tuple(body["preempted"]), PhaseTimes(**body["phases"])
            parts = {"decisions": decisions, "outputs": outputs, "preempted": preempted, "phases": phases}
            return RecordedStep(**{**body, **parts})
        case kind:
            return kind(**body)
