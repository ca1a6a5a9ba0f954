"""A benchmark's results as a table for people and as one JSON object for programs."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version

from inference.bench.measure import Result, Spread
from inference.machine import core_count, processor_name
from inference.protocol import ModelInfo, OptionState, PhaseTimes

_PHASES = (
    ("schedule", "who gets how many tokens"),
    ("build", "arrays for the batch"),
    ("compute", "the model"),
    ("sample", "choosing tokens"),
    ("output", "text and events"),
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


def as_json(
    model: ModelInfo, options: Sequence[OptionState], runs: int, results: Sequence[Result]
) -> dict[str, object]:
    return {
        "machine": machine(),
        "model": asdict(model),
        "effective_config": [asdict(option) for option in options],
        "runs": runs,
        "results": [result.as_dict() for result in results],
    }


def as_table(model: ModelInfo, options: Sequence[OptionState], runs: int, results: Sequence[Result]) -> str:
    """The results with their spread, what they were measured on, and where a step's time went."""
    where = machine()
    differing = [f"{o.name}: {o.effective} instead of {o.requested} ({o.reason})" for o in options if o.reason]
    lines = [
        f"model    {model.name}, {model.num_parameters / 1e6:.1f} M parameters, {model.weight_bytes / 1e6:.0f} MB, "
        f"quantization {model.quantization}",
        f"machine  {where['processor']}, {where['cores']} cores, {where['system']}, mlx {where['mlx']}",
        "options  " + ", ".join(f"{o.name}={o.effective}" for o in options),
        *(f"         {line}" for line in differing),
        f"runs     {runs} after one to warm up: median (lowest to highest)",
        "",
        *_columns(
            [
                ["sessions", "prompt", "output", "prefill tok/s", "decode tok/s", "TTFT", "ITL p50", "ITL p95"],
                *(_row(result) for result in results),
            ]
        ),
        "",
        "decode tok/s counts the output of all sessions together; TTFT is the median over the sessions.",
        "",
        "one step of the last workload, on average:",
        *_phase_lines(results[-1].phases),
    ]
    return "\n".join(lines)


def _row(result: Result) -> list[str]:
    work = result.workload
    return [
        str(work.concurrency),
        str(work.prompt_tokens),
        str(work.gen_tokens),
        _speed(result.prefill_speed),
        _speed(result.decode_speed),
        *(f"{_duration(value.median)}" for value in (result.ttft, result.itl_p50, result.itl_p95)),
    ]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _phase_lines(phases: PhaseTimes) -> list[str]:
    total = phases.total or 1.0
    return [
        f"  {name:<9}{_duration(getattr(phases, name)):>9}  {getattr(phases, name) / total:>4.0%}  {what}"
        for name, what in _PHASES
    ]


def _speed(spread: Spread) -> str:
    return f"{spread.median:.1f} ({spread.low:.1f} to {spread.high:.1f})"


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"
