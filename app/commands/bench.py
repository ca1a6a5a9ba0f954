"""`glasschat bench`: measures prefill, decode and concurrent sessions on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from app.commands.options import add_engine, add_model, comma_list, engine_config, positive

if TYPE_CHECKING:
    from inference.bench.drafting import DraftingReport
    from inference.bench.run import Report
    from inference.protocol import EngineConfig


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("bench", help="measure prefill, decode, batches and latencies")
    add_model(parser)
    parser.add_argument("--prompt-tokens", type=positive, default=512, metavar="N", help="of each prompt (default 512)")
    parser.add_argument("--gen-tokens", type=positive, default=128, metavar="N", help="of each answer (default 128)")
    parser.add_argument(
        "--concurrency", type=comma_list, default=(1, 4, 16), metavar="N,N", help="sessions at once (default 1,4,16)"
    )
    parser.add_argument("--runs", type=positive, default=3, metavar="N", help="of each workload (default 3)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random prompts (default 0)")
    parser.add_argument(
        "--compare",
        action="append",
        default=[],
        metavar="PEER",
        help="measure another engine in turns with ours: mlx_lm (if installed) or llama.cpp (if llama-batched-bench is "
        "on the path); repeatable",
    )
    parser.add_argument(
        "--long-prompt",
        type=positive,
        metavar="N",
        help="measure, too, what three sessions notice of a prompt of N tokens that comes while they are answered, "
        "with decode_slowdown 2 and without",
    )
    parser.add_argument(
        "--context",
        type=comma_list,
        default=(),
        metavar="N,N",
        help="measure, too, one session's decode at these lengths of its context, such as 100,8000",
    )
    parser.add_argument(
        "--mixed-context",
        type=_two,
        metavar="N,N",
        help="measure, too, a decode of 16 sessions with contexts from N to N tokens, such as 10,4000, beside one of "
        "as many tokens in equal parts",
    )
    parser.add_argument(
        "--compare-speculation",
        action="store_true",
        help="measure something else: the same questions answered plainly and by each way of drafting, in turns, at "
        "each number of sessions, greedy and with temperature 0.8 (--gen-tokens is then the longest answer)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    # What is measured is how fast prompts are read, not how politely; `--long-prompt` compares both.
    add_engine(parser, decode_slowdown=0, speculation="off")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    config = engine_config(args)
    config = replace(config, max_num_seqs=max(config.max_num_seqs, *args.concurrency))

    report = _compare_speculation(args, config) if args.compare_speculation else _bench(args, config)
    print(json.dumps(report.as_json(), indent=2) if args.json else report.as_table())
    return 0


def _bench(args: argparse.Namespace, config: EngineConfig) -> Report:
    from inference.bench.run import bench

    return bench(
        args.model,
        config,
        prompt_tokens=args.prompt_tokens,
        gen_tokens=args.gen_tokens,
        concurrency=args.concurrency,
        runs=args.runs,
        seed=args.seed,
        peers=args.compare,
        long_prompt=args.long_prompt,
        contexts=args.context,
        mixed=args.mixed_context,
        progress=_tell,
    )


def _compare_speculation(args: argparse.Namespace, config: EngineConfig) -> DraftingReport:
    from inference.bench.drafting import bench_drafting

    return bench_drafting(
        args.model,
        config,
        gen_tokens=args.gen_tokens,
        concurrency=args.concurrency,
        runs=args.runs,
        seed=args.seed,
        progress=_tell,
    )


def _two(text: str) -> tuple[int, int]:
    """Argument type: `10,4000`, the lower number first."""
    numbers = comma_list(text)
    if len(numbers) != 2 or numbers[0] > numbers[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers, the lower one first, such as 10,4000")
    return numbers[0], numbers[1]


def _tell(what: str) -> None:
    print(what, file=sys.stderr)
