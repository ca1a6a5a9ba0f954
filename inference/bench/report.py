"""A benchmark's results as a table for people and as one JSON object for programs."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING

from inference.bench.intrusion import SESSIONS
from inference.bench.measure import Result, Spread
from inference.bench.operations import StepTimes
from inference.machine import core_count, processor_name
from inference.protocol import ModelInfo, OptionState, PhaseTimes

if TYPE_CHECKING:
    from inference.bench.run import Report

_PHASES = (
    ("schedule", "who gets how many tokens"),
    ("build", "arrays for the batch"),
    ("compute", "the model"),
    ("sample", "choosing tokens"),
    ("output", "text and events"),
    ("draft", "tokens for the model to verify"),
)


def machine() -> dict[str, object]:
    """What the figures depend on besides the program."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "cores": core_count(),
        "python": platform.python_version(),
        "mlx": version("mlx"),
    }


def as_json(report: Report) -> dict[str, object]:
    return {
        "machine": machine(),
        "model": asdict(report.model),
        "effective_config": [asdict(option) for option in report.options],
        "runs": report.runs,
        "results": [result.as_dict() for result in report.results],
        "limits": asdict(report.limits),
        "efficiencies": [asdict(each) for each in report.efficiencies],
        "operations": [asdict(step) for step in report.steps],
        "memory": asdict(report.memory),
        "intrusions": [asdict(each) for each in report.intrusions],
        "comparisons": [asdict(each) for each in report.comparisons],
        "lengths": [asdict(each) for each in report.lengths],
        "mixed": asdict(report.mixed) if report.mixed else None,
    }


def as_table(report: Report) -> str:
    """The results with their spread, what they were measured on, and where a step's time went."""
    model, options, results = report.model, report.options, report.results
    memory = report.memory
    lines = [
        *heading(model, options),
        f"runs     {report.runs} after one to warm up: median (lowest to highest)",
        f"memory   {memory.peak / 1e6:.0f} MB at the most: weights {memory.weights / 1e6:.0f}, KV pool "
        f"{memory.pool / 1e6:.0f}, the rest {memory.rest / 1e6:.0f}",
        "",
        *columns(
            [
                ["sessions", "prompt", "output", "prefill tok/s", "decode tok/s", "TTFT", "ITL p50", "ITL p95"],
                *(_row(result) for result in results),
            ]
        ),
        "",
        "decode tok/s counts the output of all sessions together; TTFT is the median over the sessions.",
        "",
        *_intrusion_lines(report),
        *_context_lines(report),
        *_comparison_lines(report),
        *_limit_lines(report),
        "",
        "one step of the last workload, on average:",
        *_phase_lines(results[-1].phases),
        *(line for step in report.steps for line in ("", *_operation_lines(step))),
    ]
    return "\n".join(lines)


def heading(model: ModelInfo, options: Sequence[OptionState]) -> list[str]:
    """What was measured, on what and with which options."""
    where = machine()
    differing = [f"{o.name}: {o.effective} instead of {o.requested} ({o.reason})" for o in options if o.reason]
    return [
        f"model    {model.name}, {model.num_parameters / 1e6:.1f} M parameters, {model.weight_bytes / 1e6:.0f} MB, "
        f"quantization {model.quantization}",
        f"machine  {where['processor']}, {where['cores']} cores, {where['system']}, mlx {where['mlx']}",
        "options  " + ", ".join(f"{o.name}={o.effective}" for o in options),
        *(f"         {line}" for line in differing),
    ]


def _intrusion_lines(report: Report) -> list[str]:
    if not report.intrusions:
        return []
    rows = [
        [
            str(each.slowdown) if each.slowdown else "no limit",
            duration(each.alone.median),
            duration(each.beside.median),
            ratio(each.ratio),
            duration(each.longest.median),
            duration(each.ttft.median),
        ]
        for each in report.intrusions
    ]
    head = ["decode_slowdown", "ITL alone", "ITL beside it", "ratio", "longest", "its TTFT"]
    return [
        f"{SESSIONS} sessions are being answered when a prompt of {report.intrusions[0].prompt_tokens} tokens comes:",
        "",
        *columns([head, *rows]),
        "",
    ]


def _context_lines(report: Report) -> list[str]:
    lines: list[str] = []
    if report.lengths:
        rows = [[str(each.context), speed(each.speed), ratio(each.ratio)] for each in report.lengths]
        head = ["context", "decode tok/s", f"of that at {report.lengths[0].context}"]
        lines += ["one session's decode by the length of its context:", "", *columns([head, *rows]), ""]
    if mixed := report.mixed:
        shortest, longest, total = min(mixed.contexts), max(mixed.contexts), sum(mixed.contexts)
        lines += [
            f"a step of {len(mixed.contexts)} sessions with {shortest} to {longest} tokens of context takes "
            f"{duration(mixed.mixed.median)}, and with the same {total} in equal parts",
            f"{duration(mixed.equal.median)}: {ratio(mixed.ratio)} as long.",
            "",
        ]
    if lines:
        lines += ["There the cache was filled with random keys and values, not by reading a text.", ""]
    return lines


def _comparison_lines(report: Report) -> list[str]:
    if not report.comparisons:
        return []
    rows = [
        [
            each.peer,
            str(each.workload.concurrency),
            speed(each.prefill_speed),
            speed(each.decode_speed),
            ratio(each.prefill_ratio),
            ratio(each.decode_ratio),
        ]
        for each in report.comparisons
    ]
    named = dict.fromkeys(f"{each.peer}: {each.version}" for each in report.comparisons)
    return [
        "in turns with others, on the same workload; a ratio is ours by theirs, run by run:",
        "",
        *columns([["peer", "sessions", "its prefill tok/s", "its decode tok/s", "prefill", "decode"], *rows]),
        "",
        *named,
        "",
    ]


def ratio(spread: Spread) -> str:
    """One figure by another, for people."""
    return f"{spread.median:.2f} times ({spread.low:.2f} to {spread.high:.2f})"


def _limit_lines(report: Report) -> list[str]:
    limits = report.limits
    rows = [
        [
            str(result.workload.concurrency),
            f"{each.step_bytes / 1e6:.0f} MB",
            f"{each.read_rate / 1e9:.1f} GB/s ({each.read_share:.0%})",
            f"{each.step_operations / 1e9:.2f} GFLOP",
            f"{each.decode_rate / 1e9:.0f} GFLOP/s ({each.decode_share:.0%})",
            f"{each.prefill_rate / 1e9:.0f} GFLOP/s ({each.prefill_share:.0%})",
        ]
        for result, each in zip(report.results, report.efficiencies, strict=True)
    ]
    return [
        f"this machine reads {limits.read_bandwidth / 1e9:.1f} GB/s and computes {limits.peak / 1e9:.0f} GFLOP/s "
        f"({limits.peak_of}); of that, reached:",
        "",
        *columns([["sessions", "a decode reads", "reading", "and computes", "computing", "prefill computing"], *rows]),
    ]


def _operation_lines(step: StepTimes) -> list[str]:
    rows = [
        [
            each.operation,
            each.implementation,
            str(each.calls) if each.calls else "",
            duration(each.seconds),
            f"{each.seconds / step.seconds:.0%}",
        ]
        for each in step.operations
    ]
    return [
        f"{step.title}: {duration(step.together)} in one go; operation by operation:",
        *columns([["operation", "by", "calls", "time", "share"], *rows]),
    ]


def _row(result: Result) -> list[str]:
    work = result.workload
    return [
        str(work.concurrency),
        str(work.prompt_tokens),
        str(work.gen_tokens),
        speed(result.prefill_speed),
        speed(result.decode_speed),
        *(f"{duration(value.median)}" for value in (result.ttft, result.itl_p50, result.itl_p95)),
    ]


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table whose cells end at the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _phase_lines(phases: PhaseTimes) -> list[str]:
    total = phases.total or 1.0
    return [
        f"  {name:<9}{duration(getattr(phases, name)):>9}  {getattr(phases, name) / total:>4.0%}  {what}"
        for name, what in _PHASES
    ]


def speed(spread: Spread) -> str:
    """Tokens per second, for people."""
    return f"{spread.median:.1f} ({spread.low:.1f} to {spread.high:.1f})"


def duration(seconds: float) -> str:
    """A time for people: seconds from one second on, else milliseconds."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"
