"""`glasschat accuracy`: what a change of options does to a model's predictions."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from app.commands.options import add_engine, add_model, engine_config, parse_changes, positive
from inference.errors import ConfigError

OPTIONS = ("activations", "kernels", "dtype", "kv_cache_dtype")
"""Those that have an effect on the numbers that a model computes."""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("accuracy", help="compare a model's predictions under two configurations")
    add_model(parser)
    parser.add_argument(
        "--change",
        action="append",
        metavar="OPTION=VALUE",
        help=f"what differs in the second configuration, one of {', '.join(OPTIONS)}; repeatable "
        "(default activations=int8)",
    )
    parser.add_argument("--text", type=Path, metavar="FILE", help="the text to predict (default: a passage of our own)")
    parser.add_argument("--tokens", type=positive, default=256, metavar="N", help="of the text (default 256)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_engine(parser)
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    config = engine_config(args)
    changes = _changes(args.change or ["activations=int8"])
    changed = replace(config, **changes)

    from inference.bench.accuracy import PASSAGE, compare

    text = _read(args.text or PASSAGE)
    found = compare(
        args.model,
        config,
        changed,
        text,
        limit=args.tokens,
        progress=lambda what: print(what, file=sys.stderr),
    )
    if args.json:
        print(json.dumps({"changes": changes, **asdict(found)}, indent=2))
        return 0
    change = ", ".join(f"{name} {getattr(config, name)} → {value}" for name, value in changes.items())
    print(f"model       {args.model}")
    print(f"change      {change}")
    print(f"predictions {found.tokens}")
    print(f"perplexity  {found.perplexity:.4f} → {found.changed_perplexity:.4f}")
    print(f"log-prob    differs by {found.mean:.2e} on average, 95 % by less than {found.p95:.2e}, {found.largest:.2e}")
    print("            at most (nats, of the text's own tokens)")
    print(f"divergence  {found.divergence:.2e} nats for each prediction (Kullback-Leibler)")
    print(f"same choice {found.same_choice:.1%} of the most probable tokens")
    if not found.largest:
        print("            nothing differs: the change has no effect here (int8 is for quantized matrices alone)")
    return 0


def _changes(asked: list[str]) -> dict[str, Any]:
    found = parse_changes(asked, "activations=int8")
    for name in found:
        if name not in OPTIONS:
            raise ConfigError(f"--change {name} has no effect on a model's numbers; {', '.join(OPTIONS)} may have")
    return found


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} can't be read as a text: {error}") from None
