"""`glasschat run --tools`: one question, answered in rounds of tool calls, without a screen.

The answer goes to standard output, and what the tools do to standard error. Tools that read run at once. Nobody can be
asked here, so others run only if `--yes` named them, and are refused otherwise, which the model is told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.commands.printing import Printer
from inference.errors import ConfigError, RequestError
from inference.protocol import ChatPrompt, Message, SamplingParams

if TYPE_CHECKING:
    from inference.llm import LLM, Completion
    from inference.tools import Context, Preview, Receipt, Toolbox, ToolSettings, Verdict
    from inference.tools.markup import Piece

SHOWN_RESULT = 200
"""Characters of a result that standard error gets."""
ADDED_BY = ("workspace", "yes", "tools_file")


def add_tools(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("tools")
    group.add_argument("--tools", action="store_true", help="let the model call tools: calculator, clock and others")
    group.add_argument("--workspace", metavar="DIR", help="with --tools: the directory whose files tools may use")
    group.add_argument(
        "--yes",
        metavar="NAME",
        action="append",
        default=[],
        help="with --tools: let the tool NAME change or run something (edit_file, create_file, run_command or one of "
        "your own); without it, such calls are refused; repeatable",
    )
    group.add_argument("--tools-file", metavar="FILE", help="with --tools: a TOML file that names further tools")


def check_tools(args: argparse.Namespace) -> None:
    """Raises RequestError for options that mean nothing together."""
    if not args.tools and (given := [name for name in ADDED_BY if getattr(args, name)]):
        raise RequestError(f"--{given[0].replace('_', '-')} does nothing without --tools: add it")
    if args.tools and args.raw:
        raise RequestError("--tools needs the chat template, which --raw leaves out: use one of the two")


def answer(llm: LLM, messages: Sequence[Message], params: SamplingParams, args: argparse.Namespace) -> dict[str, Any]:
    """Ask and answer calls until there is an answer in words, which is printed as it comes unless `--json` is set.

    What `--json` prints beside the last completion: its text without markup, its thought, how it ended, and each call.
    """
    return asyncio.run(_with_servers(llm, messages, params, args))


async def _with_servers(
    llm: LLM, messages: Sequence[Message], params: SamplingParams, args: argparse.Namespace
) -> dict[str, Any]:
    from inference.tools import Context, McpServers, ToolSettings, Workspace, load_toolbox, read_settings
    from inference.tools.builtin.engine_state import describe_step

    settings = read_settings(Path(args.tools_file)) if args.tools_file else ToolSettings()
    directory = args.workspace or settings.workspace
    context = Context(Workspace(directory) if directory else None, engine_state=lambda: describe_step(llm.last_step))
    servers = McpServers(settings.mcp, directory=context.workspace.root if context.workspace else None)
    try:
        offered, problems = await servers.start()
        toolbox, further = load_toolbox(settings, context, offered)
        for problem in (*problems, *further):
            _note(problem)
        for name in args.yes:
            if toolbox.get(name) is None:
                raise ConfigError(f"--yes {name} names no tool; the tools are {', '.join(toolbox.names)}")
        return await _rounds(llm, messages, params, toolbox, context, settings, args)
    finally:
        await servers.close()


async def _rounds(
    llm: LLM,
    messages: Sequence[Message],
    params: SamplingParams,
    toolbox: Toolbox,
    context: Context,
    settings: ToolSettings,
    args: argparse.Namespace,
) -> dict[str, Any]:
    from inference.tools import Decision, Outcome, Phase, Rounds, Verdict, serve, visible

    allowed = {tool.name for name in args.yes if (tool := toolbox.get(name)) is not None}

    async def ask(receipt: Receipt, preview: Preview) -> Verdict:
        for warning in preview.warnings:
            _note(f"warning: {warning}")
        if receipt.tool in allowed:
            _note(preview.text)
            return Verdict(Decision.ONCE)
        return Verdict(Decision.NO, f"nobody can be asked here, and --yes {receipt.tool} was not given")

    async def keep(receipt: Receipt) -> None:
        if receipt.state.finished:
            arguments = ", ".join(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in receipt.arguments.items())
            result = receipt.result if len(receipt.result) <= SHOWN_RESULT else f"{receipt.result[:SHOWN_RESULT]} …"
            _note(visible(f"{receipt.tool or 'a call'}({arguments}) {receipt.state}: {result}"))

    rounds = Rounds(toolbox, max_rounds=settings.max_rounds)
    while True:
        prompt = ChatPrompt((*messages, *rounds.messages()), toolbox.schemas)
        completion = await _stream(llm, prompt, params, quiet=args.json)
        shown = rounds.answered(f"answer {rounds.rounds}", completion.text)
        await serve(rounds, context, ask, keep)
        if rounds.phase is Phase.OVER:
            break
    if rounds.outcome is Outcome.LIMIT:
        _note(f"stopped: the model still called tools after {settings.max_rounds} rounds")
    return {
        "completion": completion,
        "text": shown.text,
        "thought": shown.thought or None,
        "outcome": rounds.outcome,
        "calls": [asdict(receipt) for receipt in rounds.receipts.values()],
    }


async def _stream(llm: LLM, prompt: ChatPrompt, params: SamplingParams, *, quiet: bool) -> Completion:
    """One answer, printed without markup."""
    from inference.tools import AnswerParser, MadeUp
    from inference.tools.markup import MADE_UP

    parser, printer = AnswerParser(), None if quiet else Printer()
    with llm.stream(prompt, params) as stream:
        for delta in stream:
            await asyncio.sleep(0)  # where Ctrl+C gets in
            pieces = parser.feed(delta.text)
            _show(pieces, printer)
            if any(isinstance(piece, MadeUp) for piece in pieces):
                _note(MADE_UP)
                break
    _show(parser.finish(), printer)
    if printer is not None:
        printer.end()
    assert stream.completion is not None
    return stream.completion


def _show(pieces: Sequence[Piece], printer: Printer | None) -> None:
    from inference.tools import Text, Thought

    if printer is None:
        return
    for piece in pieces:
        if isinstance(piece, Thought):
            printer.thought(piece.text)
        elif isinstance(piece, Text):
            printer.words(piece.text if printer.began else piece.text.lstrip())


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
