"""What drafting gives on real text: the same answers by several ways of decoding, in turns, so that noise hits all.

Speed-ups are of the engine as it is used: questions in the chat's own form, answers that end where they end, several
sessions whose answers begin and end at their own times. The answers are the same in all ways, token for token: drafts
never change one, and the draws of a request have a seed. That, too, is counted here rather than believed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any

from inference.bench.measure import Spread
from inference.engine.engine import Engine
from inference.errors import ConfigError, RequestError
from inference.llm import LLM
from inference.protocol import (
    ChatPrompt,
    Configured,
    Delta,
    EngineConfig,
    Finished,
    FinishReason,
    Message,
    ModelInfo,
    OptionState,
    SamplingParams,
    StepRecord,
    Submit,
)

QUESTIONS = tuple(Path(__file__).with_name("questions.txt").read_text(encoding="utf-8").splitlines())
"""Of the demo model's own world: a model that knows nothing of it can be measured, but its answers say less."""
LEAST = 12
"""Questions of a pass. With many sessions it takes two for each, so that most steps have all of them."""
DEPTHS = (2, 4, 6)
TEMPERATURES = (0.0, 0.8)

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to decode: the options that make it."""

    name: str
    speculation: str
    tokens: int
    """num_speculative_tokens."""
    adaptive: bool = False

    @property
    def options(self) -> Mapping[str, Any]:
        return {
            "speculation": self.speculation,
            "num_speculative_tokens": self.tokens,
            "adaptive_speculation": self.adaptive,
        }


PLAIN = Way("plain", "off", 1)


def ways(*, draft: bool, most: int) -> tuple[Way, ...]:
    """All that can be compared, plain decoding first; adaptive ones go up to `most` drafts."""
    found = [PLAIN]
    if draft:
        found += [Way(f"draft, always {depth}", "draft", depth) for depth in DEPTHS]
        found.append(Way(f"draft, up to {most}", "draft", most, adaptive=True))
    found.append(Way(f"ngram, always {most}", "ngram", most))
    found.append(Way(f"ngram, up to {most}", "ngram", most, adaptive=True))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Pass:
    """All questions once, by one way. Times in seconds."""

    answers: Mapping[str, tuple[int, ...]]
    full_tokens: int
    full_seconds: float
    """Of the steps in which all sessions decoded and no prompt was read: what they gave, and what they took."""
    tokens: int
    seconds: float
    """From the first question to the last answer's end."""
    draft_seconds: float
    depths: tuple[int, ...]
    """Of each step, what was chosen."""
    reached: tuple[int, ...]
    accepted: tuple[int, ...]
    """By place in a draft: how often all before it were right, and how often it was as well."""
    decodes: int
    """One request in one step, after its prompt."""
    gained: int
    """Tokens of these."""
    reason: str
    """Why the last step drafted as it did."""

    @property
    def decode_speed(self) -> float:
        return self.full_tokens / self.full_seconds if self.full_seconds else 0.0

    @property
    def total_speed(self) -> float:
        return self.tokens / self.seconds


@dataclass(frozen=True, slots=True)
class Measured:
    """One way at one number of sessions and one temperature, over several runs."""

    way: Way
    sessions: int
    temperature: float
    decode_speed: Spread
    """Tokens per second of all sessions together, while all of them decode."""
    total_speed: Spread
    """The same over all, prompts and the last answers' ends included."""
    decode_ratio: Spread
    total_ratio: Spread
    """By plain decoding's, run by run."""
    acceptance: tuple[float, ...]
    """By place in a draft: the share that was right of those that all before were right of."""
    tokens_per_decode: float
    """That one request got from one step after its prompt."""
    depth: float
    """Mean over the steps."""
    draft_share: float
    """Of the time, what went into drafting."""
    reason: str
    answers: int
    other_answers: int
    """Those that are not plain decoding's, token for token: 0, unless rounding differs with the shape of a batch."""


@dataclass(frozen=True, slots=True)
class DraftingReport:
    model: ModelInfo
    options: tuple[OptionState, ...]
    runs: int
    most: int
    """Tokens of an answer."""
    results: tuple[Measured, ...]

    def as_json(self) -> dict[str, object]:
        from inference.bench.drafting_report import as_json

        return as_json(self)

    def as_table(self) -> str:
        from inference.bench.drafting_report import as_table

        return as_table(self)


def bench_drafting(
    model: str,
    config: EngineConfig,
    *,
    gen_tokens: int,
    concurrency: Sequence[int],
    runs: int,
    seed: int,
    progress: Progress,
) -> DraftingReport:
    """Load a model, and its draft model if it has one, and compare the ways. Raises ConfigError and ModelError."""
    progress(f"loading {model}")
    engine = LLM(model, config).engine
    results = compare_ways(
        engine, gen_tokens=gen_tokens, concurrency=concurrency, runs=runs, seed=seed, progress=progress
    )
    return DraftingReport(engine.model_info, engine.options, runs, gen_tokens, results)


def compare_ways(
    engine: Engine,
    *,
    gen_tokens: int,
    concurrency: Sequence[int],
    runs: int,
    seed: int,
    progress: Progress,
    temperatures: Sequence[float] = TEMPERATURES,
) -> tuple[Measured, ...]:
    """Every way at every number of sessions and temperature. The engine's options are as before afterwards.

    Raises ConfigError if the options in force leave nothing to compare, RequestError if a question does not fit.
    """
    before = {option.name: option.requested for option in engine.options}
    compared = ways(draft=bool(engine.model_info.draft), most=int(before["num_speculative_tokens"]))
    if before["kv_layout"] == "none":
        raise ConfigError("with kv_layout none nothing can be drafted: choose another to compare ways to draft")
    results: list[Measured] = []
    try:
        for way in compared:
            _run(engine, way, _requests(1, 1, 8, 0.0, seed), 1)  # compiles kernels and touches weights
        for sessions in concurrency:
            for temperature in temperatures:
                requests = _requests(max(LEAST, 2 * sessions), sessions, gen_tokens, temperature, seed)
                passes: dict[Way, list[Pass]] = {way: [] for way in compared}
                for run in range(runs):
                    # Each begins once, so that no way always follows the same other one.
                    for way in (*compared[run % len(compared) :], *compared[: run % len(compared)]):
                        progress(
                            f"{sessions} at once, temperature {temperature:g}, run {run + 1} of {runs}: {way.name}"
                        )
                        passes[way].append(_run(engine, way, requests, sessions))
                plain = passes[PLAIN]
                results += [_summary(way, sessions, temperature, passes[way], plain) for way in compared]
    finally:
        _configure(engine, {f.name: _value(f.default, before[f.name]) for f in fields(EngineConfig) if f.name in _USED})
    return tuple(results)


_USED = ("speculation", "num_speculative_tokens", "adaptive_speculation", "max_num_seqs")


def _value(default: object, text: str) -> object:
    """An option's value from what is said of it."""
    if isinstance(default, bool):
        return text == "on"
    return int(text) if isinstance(default, int) else text


def _configure(engine: Engine, changes: Mapping[str, Any]) -> None:
    for event in engine.configure(changes):
        if isinstance(event, Configured) and event.error:
            raise ConfigError(event.error)


def _requests(count: int, sessions: int, gen_tokens: int, temperature: float, seed: int) -> list[Submit]:
    """So many questions, which begin again when all were asked, each with a seed of its own."""
    return [
        Submit(
            f"question-{i}",
            f"session-{i % sessions}",
            ChatPrompt((Message("user", QUESTIONS[i % len(QUESTIONS)]),)),
            SamplingParams(temperature=temperature, max_tokens=gen_tokens, seed=seed + i),
        )
        for i in range(count)
    ]


def _run(engine: Engine, way: Way, requests: Sequence[Submit], sessions: int) -> Pass:
    """One pass. What was learned of times is forgotten first: a way must find out by itself what pays."""
    _configure(engine, {**way.options, "max_num_seqs": sessions})
    engine.forget_prefixes()
    engine.speculator.forget()
    answers: dict[str, list[int]] = {request.request_id: [] for request in requests}
    steps: list[tuple[StepRecord, float]] = []
    began = last = time.perf_counter()
    try:
        for request in requests:
            for event in engine.submit(request):
                if isinstance(event, Finished):
                    raise RequestError(event.message)
        while engine.has_work:
            events = engine.step()
            now = time.perf_counter()
            for event in events:
                match event:
                    case Delta():
                        answers[event.request_id] += event.token_ids
                    case Finished(reason=FinishReason.ERROR):
                        raise RequestError(event.message)
                    case StepRecord():
                        steps.append((event, now - last))
                    case _:
                        pass
            last = now
    finally:
        for request in requests:
            engine.abort(request.request_id)
        while engine.has_work:
            engine.step()
    return _read(steps, {name: tuple(tokens) for name, tokens in answers.items()}, last - began, sessions)


def _read(
    steps: Sequence[tuple[StepRecord, float]], answers: Mapping[str, tuple[int, ...]], seconds: float, sessions: int
) -> Pass:
    full = [
        (record, took)
        for record, took in steps
        if len(record.scheduled) == sessions and not any(s.is_prefill for s in record.scheduled)
    ]
    records = [record for record, _ in steps]
    verified = [each for record in records for each in record.verified]
    places = range(max((each.drafted for each in verified), default=0))
    told = [record.speculation for record in records if record.speculation]
    alone = sum(not s.is_prefill and not s.drafts for record in records for s in record.scheduled)
    return Pass(
        answers=answers,
        full_tokens=sum(record.sampled_tokens for record, _ in full),
        full_seconds=sum(took for _, took in full),
        tokens=sum(map(len, answers.values())),
        seconds=seconds,
        draft_seconds=sum(record.phases.draft for record in records),
        depths=tuple(each.depth for each in told),
        reached=tuple(sum(each.judged > i for each in verified) for i in places),
        accepted=tuple(sum(each.accepted > i for each in verified) for i in places),
        decodes=alone + len(verified),
        gained=alone + sum(each.tokens for each in verified),
        reason=told[-1].reason if told else "",
    )


def _summary(way: Way, sessions: int, temperature: float, passes: Sequence[Pass], plain: Sequence[Pass]) -> Measured:
    depth = max(len(each.reached) for each in passes)
    reached, accepted = (
        [sum(counts[i] for counts in lists if i < len(counts)) for i in range(depth)]
        for lists in ([each.reached for each in passes], [each.accepted for each in passes])
    )
    pairs = list(zip(passes, plain, strict=True))
    return Measured(
        way,
        sessions,
        temperature,
        decode_speed=Spread.of(each.decode_speed for each in passes),
        total_speed=Spread.of(each.total_speed for each in passes),
        decode_ratio=Spread.of(_by(each.decode_speed, other.decode_speed) for each, other in pairs),
        total_ratio=Spread.of(_by(each.total_speed, other.total_speed) for each, other in pairs),
        acceptance=tuple(_by(right, of) for right, of in zip(accepted, reached, strict=True)),
        tokens_per_decode=_by(sum(each.gained for each in passes), sum(each.decodes for each in passes)),
        depth=fmean([d for each in passes for d in each.depths] or [0]),
        draft_share=_by(sum(each.draft_seconds for each in passes), sum(each.seconds for each in passes)),
        reason=passes[-1].reason,
        answers=sum(len(each.answers) for each in passes),
        other_answers=sum(
            each.answers[name] != tokens for each, other in pairs for name, tokens in other.answers.items()
        ),
    )


def _by(value: float, other: float) -> float:
    return value / other if other else 0.0
