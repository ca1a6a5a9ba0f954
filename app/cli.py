"""The `glasschat` command: finds the subcommand, and turns foreseeable errors into one sentence and exit code 2."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from app.commands import accuracy, bench, chat, doctor, models, recordings, run
from inference.errors import GlasschatError

COMMANDS = (chat, run, bench, accuracy, recordings, models, doctor)

INTERRUPTED = 130
"""The shell's exit code for Ctrl+C."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="glasschat",
        description="Chat with a local model in several sessions at once, and see through the engine that answers.",
        epilog="Without a command, `chat` is meant. `glasschat COMMAND --help` lists a command's options.",
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(subparsers)
    for subparser in subparsers.choices.values():
        subparser.set_defaults(parser=subparser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 1 for a failed check, 2 for bad input, 130 for Ctrl+C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments.insert(0, "chat")
    try:
        args, unknown = build_parser().parse_known_args(arguments)
        if unknown:
            args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")  # with the usage of the right command
        return int(args.main(args))
    except GlasschatError as error:
        print(f"glasschat: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough (`| head`). Python would complain again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
