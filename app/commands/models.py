"""`glasschat models`: list the models at hand, download one, inspect one."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.models import Summary


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("models", help="list local models, download one, inspect one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(main=_list, json=False)
    actions = parser.add_subparsers(metavar="ACTION", title="actions (without one, the local models are listed)")
    for name, action, about in (
        ("list", _list, "models that can be used without a network"),
        ("inspect", _inspect, "shape, size and KV bytes per token of one model"),
        ("download", _download, "fetch a model from the hub, such as Qwen/Qwen2.5-0.5B-Instruct"),
    ):
        sub = actions.add_parser(name, help=about)
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
        if action is not _list:
            sub.add_argument("model", metavar="M", help="anything that --model takes")
        sub.set_defaults(main=action)


def _list(args: argparse.Namespace) -> int:
    from inference.models import local

    found = local()
    if args.json:
        print(json.dumps([_or_error(model) for model in found], indent=2))
        return 0
    if not found:
        print("no models here: download one with `glasschat models download Qwen/Qwen2.5-0.5B-Instruct`")
        return 0
    rows = [["model", "parameters", "on disk", "quantization", "context", "KV bytes/token"]]
    for model in found:
        if isinstance(model, Exception):
            print(f"glasschat: {model}", file=sys.stderr)
            continue
        rows.append(
            [
                model.ref,
                _millions(model.num_parameters),
                _megabytes(model.disk_bytes),
                model.quantization,
                str(model.context_length),
                str(model.kv_bytes_per_token),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells))
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from inference.models import inspect

    _show(inspect(args.model), as_json=args.json)
    return 0


def _download(args: argparse.Namespace) -> int:
    from inference.models import download

    model = download(args.model, _progress)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    _show(model, as_json=args.json)
    return 0


def _progress(stage: str) -> None:
    """One line on stderr: overwritten on a terminal, a line for each stage elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{stage}", end="", file=sys.stderr, flush=True)
    else:
        print(stage, file=sys.stderr, flush=True)


def _show(model: Summary, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(model.as_dict(), indent=2))
        return
    heads = f"{model.num_attention_heads} query, {model.num_key_value_heads} key/value, {model.head_size} wide"
    for name, value in (
        ("model", model.ref),
        ("path", model.path),
        ("on disk", _megabytes(model.disk_bytes)),
        ("parameters", _millions(model.num_parameters)),
        ("weights", f"{model.dtype}, quantization {model.quantization}"),
        ("context", f"{model.context_length} tokens"),
        ("layers", str(model.num_layers)),
        ("hidden size", f"{model.hidden_size}, MLP {model.intermediate_size}"),
        ("heads", heads),
        ("vocabulary", f"{model.vocab_size}, {'tied' if model.tied_embeddings else 'untied'} head"),
        ("KV cache", f"{model.kv_bytes_per_token} bytes per token in {model.dtype}"),
    ):
        print(f"{name:<12}{value}")


def _or_error(model: Summary | Exception) -> dict[str, object]:
    return {"error": str(model)} if isinstance(model, Exception) else model.as_dict()


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
