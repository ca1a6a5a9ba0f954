"""What drafting gives, as a table for people and as one JSON object for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from inference.bench.drafting import PLAIN, DraftingReport, Measured
from inference.bench.report import columns, heading, machine, ratio, speed

_HEAD = ("way", "decode tok/s", "by plain", "all by plain", "tokens/decode", "depth", "drafting", "accepted, %")


def as_json(report: DraftingReport) -> dict[str, object]:
    return {
        "machine": machine(),
        "model": asdict(report.model),
        "effective_config": [asdict(option) for option in report.options],
        "runs": report.runs,
        "longest_answer": report.most,
        "results": [asdict(each) for each in report.results],
    }


def as_table(report: DraftingReport) -> str:
    """A table for each number of sessions and temperature, and why the adaptive ways chose as they did."""
    draft = report.model.draft
    lines = [
        *heading(report.model, report.options),
        f"drafts   by {draft}" if draft else "drafts   by no model: this one has none (start with --draft)",
        f"runs     {report.runs}, in turns: median (lowest to highest)",
    ]
    cells = dict.fromkeys((each.sessions, each.temperature) for each in report.results)
    for sessions, temperature in cells:
        rows = [each for each in report.results if (each.sessions, each.temperature) == (sessions, temperature)]
        lines += ["", *_cell(sessions, temperature, rows)]
    return "\n".join(
        [
            *lines,
            "",
            "decode tok/s is of all sessions together while all of them decode; a ratio is by plain decoding, run by",
            "run, the second one of the whole time from the first question to the last answer's end. tokens/decode is",
            "what one request gets from one step, drafting its share of the time, accepted goes by place in a draft.",
        ]
    )


def _cell(sessions: int, temperature: float, results: Sequence[Measured]) -> list[str]:
    rows = [
        [
            each.way.name,
            speed(each.decode_speed),
            "" if each.way == PLAIN else ratio(each.decode_ratio),
            "" if each.way == PLAIN else ratio(each.total_ratio),
            f"{each.tokens_per_decode:.2f}",
            f"{each.depth:.1f}",
            f"{each.draft_share:.0%}",
            " ".join(f"{100 * rate:.0f}" for rate in each.acceptance),
        ]
        for each in results
    ]
    others = [each for each in results if each.other_answers]
    return [
        f"{sessions} session{'s' * (sessions > 1)}, temperature {temperature:g}:",
        "",
        *columns([_HEAD, *rows]),
        "",
        *(f"{each.way.name}: {each.reason}" for each in results if each.way.adaptive and each.reason),
        *(
            f"{each.way.name}: {each.other_answers} of {each.answers} answers are not plain decoding's: rounding "
            "differs with the shape of a batch"
            for each in others
        ),
    ]
