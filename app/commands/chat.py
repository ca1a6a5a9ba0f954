"""`glasschat chat`: the terminal application."""

from __future__ import annotations

import argparse
import sys

from app.commands.options import add_engine, add_model, engine_config
from inference.errors import ConfigError


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("chat", help="the terminal application (default)")
    parser.add_argument("sessions", nargs="*", metavar="SESSION", help="open or create sessions with these names")
    add_model(parser)
    add_engine(parser)
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    config = engine_config(args)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigError("chat needs a terminal to draw on: use `glasschat run` in pipes and scripts")
    from app.terminal import leave_with_terminal

    leave_with_terminal()
    from app.main import run_app  # Textual takes a moment to import; `run` and `--help` should not wait for it.

    return run_app(args.model, config, args.sessions)
