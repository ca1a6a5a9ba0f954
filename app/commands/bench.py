"""`glasschat bench`: measures prefill, decode and concurrent sessions on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace

from app.commands.options import add_engine, add_model, comma_list, engine_config, positive


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
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    # What is measured is how fast prompts are read, not how politely; `--long-prompt` compares both.
    add_engine(parser, decode_slowdown=0)
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    config = engine_config(args)
    config = replace(config, max_num_seqs=max(config.max_num_seqs, *args.concurrency))

    from inference.bench.run import bench

    report = bench(
        args.model,
        config,
        prompt_tokens=args.prompt_tokens,
        gen_tokens=args.gen_tokens,
        concurrency=args.concurrency,
        runs=args.runs,
        seed=args.seed,
        peers=args.compare,
        long_prompt=args.long_prompt,
        progress=lambda what: print(what, file=sys.stderr),
    )
    print(json.dumps(report.as_json(), indent=2) if args.json else report.as_table())
    return 0
