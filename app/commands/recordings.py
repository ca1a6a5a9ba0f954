"""`glasschat replay`, `what-if` and `trace`: what can be done with a recording of an engine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.commands.options import parse_changes, positive

if TYPE_CHECKING:
    from inference.bench.recordings import WhatIf


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    again = subparsers.add_parser("replay", help="repeat a recording's decisions, or find the first that differs")
    again.add_argument("file", type=Path, help="a recording")
    again.add_argument("--model", metavar="M", help="compute it as well, by this model, and compare the tokens")
    again.set_defaults(main=_replay)

    other = subparsers.add_parser("what-if", help="a recording's requests, or made-up ones, under other options")
    other.add_argument("file", type=Path, help="a recording, which also says how long a step takes")
    other.add_argument("--change", action="append", default=[], metavar="OPTION=VALUE", help="what differs; repeatable")
    other.add_argument("--requests", type=positive, metavar="N", help="N made-up requests instead of the recorded ones")
    other.add_argument("--concurrent", type=positive, default=16, metavar="N", help="of them at once (default 16)")
    other.add_argument("--prompt-tokens", type=positive, default=256, metavar="N", help="of each, about (default 256)")
    other.add_argument("--gen-tokens", type=positive, default=64, metavar="N", help="of each, about (default 64)")
    other.add_argument("--json", action="store_true", help="print one JSON object")
    other.set_defaults(main=_what_if)

    export = subparsers.add_parser("trace", help="turn a recording into a trace that ui.perfetto.dev opens")
    export.add_argument("file", type=Path, help="a recording")
    export.add_argument("-o", "--output", type=Path, help="(default: the recording's name with .trace.json)")
    export.set_defaults(main=_trace)


def _replay(args: argparse.Namespace) -> int:
    from inference.bench.recordings import replayed

    outcome = replayed(args.file)
    if outcome.difference:
        print(f"{outcome.steps} steps decided alike, then: {outcome.difference}")
        return 1
    print(f"all {outcome.steps} steps decided alike")
    if args.model is None:
        return 0
    from inference.bench.recompute import recompute

    print(f"computing them by {args.model}", file=sys.stderr)
    found = recompute(args.model, args.file)
    if found.difference:
        print(f"{found.tokens} tokens are the same, then: {found.difference}")
        return 1
    print(f"all {found.tokens} tokens are the same")
    return 0


def _what_if(args: argparse.Namespace) -> int:
    from inference.bench.recordings import MadeUp, under

    load = MadeUp(args.requests, args.concurrent, args.prompt_tokens, args.gen_tokens) if args.requests else None
    found = under(args.file, parse_changes(args.change, "max_num_batched_tokens=64"), load)
    if args.json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        _print(found)
    return 0


def _print(found: WhatIf) -> None:
    from inference.bench.report import duration

    step, prefill, decode, keys = (1000 * part for part in found.step_time.parts)
    print(
        f"a step takes {step:.2f} ms, {prefill:.3f} ms for each prefill token, {decode:.3f} ms for each decode, and "
        f"{keys:.3f} ms for each 1000 keys looked at"
    )

    def times(pair: tuple[float, float]) -> str:
        return " / ".join(map(duration, pair))

    rows: dict[str, Callable[[Any], str]] = {
        "seconds": lambda o: f"{o.seconds:.2f}",
        "steps": lambda o: str(o.steps),
        "requests": lambda o: f"{o.requests}" + (f" ({o.refused} refused)" if o.refused else ""),
        "output tokens": lambda o: str(o.output_tokens),
        "output tok/s": lambda o: f"{o.tokens_per_second:.1f}",
        "TTFT p50 / p95": lambda o: times(o.ttft),
        "ITL p50 / p95": lambda o: times(o.itl),
        "prefill tokens": lambda o: str(o.prefill_tokens),
        "preemptions": lambda o: str(o.preemptions),
    }
    print(" " * 16 + "".join(f"{name:>22}" for name, _ in found.outcomes))
    for name, cell in rows.items():
        print(f"{name:<16}" + "".join(f"{cell(outcome):>22}" for _, outcome in found.outcomes))
    if found.error is not None:
        print(f"the prediction for what was recorded is off by {found.error:.1%} of its time")


def _trace(args: argparse.Namespace) -> int:
    from inference.bench.recordings import write_trace

    output = args.output or args.file.with_suffix(".trace.json")
    events = write_trace(args.file, output)
    print(f"{output}: {events} events; open it at ui.perfetto.dev")
    return 0
