"""`glasschat run`: one answer to stdout, for pipes and scripts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from app.commands.options import add_engine, add_model, add_sampling, engine_config, sampling_params
from app.commands.printing import Printer
from app.commands.rounds import add_tools, answer, check_tools
from inference.errors import RequestError
from inference.protocol import ChatPrompt, Delta, Message, Prompt, SamplingParams, TextPrompt

if TYPE_CHECKING:
    from inference.llm import LLM, Completion

NO_ANSWER = "glasschat: it ended within its thought, which --json shows; a larger --max-tokens may let it answer"


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("run", help="one answer to stdout")
    add_model(parser)
    parser.add_argument("-p", "--prompt", metavar="TEXT", help="what to ask; without it, standard input is read")
    parser.add_argument("--system", metavar="TEXT", help="a system prompt to go before it")
    parser.add_argument("--raw", action="store_true", help="continue the prompt as it is, without a chat template")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object when the answer is complete, with its thought if any"
    )
    add_sampling(parser, temperature=0.0)
    add_tools(parser)
    add_engine(parser)
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    check_tools(args)
    prompt = _prompt(args)
    params, config = sampling_params(args), engine_config(args)

    from inference.llm import LLM

    llm = LLM(args.model, config)
    if args.tools and isinstance(prompt, ChatPrompt):
        return _with_tools(llm, prompt, params, args)
    if args.json:
        completion = llm.generate([prompt], params)[0]
        print(json.dumps(_describe(llm, completion, raw=args.raw), ensure_ascii=False, indent=2))
    else:
        _print(llm.stream(prompt, params), raw=args.raw)
    return 0


def _print(stream: Iterable[Delta], *, raw: bool) -> None:
    """An answer as it comes; text that continues a raw prompt is no answer, and has no thought."""
    from inference.tools import ThoughtReader

    printer, reader, thinks = Printer(), ThoughtReader(), False

    def show(thought: str, words: str) -> None:
        nonlocal thinks
        thinks = thinks or bool(thought)
        printer.thought(thought)
        printer.words(words)

    for delta in stream:
        show(*(("", delta.text) if raw else reader.feed(delta.text)))
    show(*reader.finish())
    printer.end()
    if thinks and not printer.began:
        print(NO_ANSWER, file=sys.stderr)


def _with_tools(llm: LLM, prompt: ChatPrompt, params: SamplingParams, args: argparse.Namespace) -> int:
    found = answer(llm, prompt.messages, params, args)
    if args.json:
        described = _describe(llm, found.pop("completion"), raw=False) | found
        print(json.dumps(described, ensure_ascii=False, indent=2))
    return 0 if found["outcome"] == "answered" else 1


def _prompt(args: argparse.Namespace) -> Prompt:
    text = args.prompt
    if text is None:
        if sys.stdin.isatty():
            raise RequestError("nothing to answer: give a prompt with -p, or pipe it into standard input")
        text = sys.stdin.read()
    if not text.strip():
        raise RequestError("the prompt is empty: give it at least one character")
    if args.raw:
        if args.system:
            raise RequestError("--system needs the chat template, which --raw leaves out: use one of the two")
        return TextPrompt(text)
    messages = [Message("system", args.system)] if args.system else []
    return ChatPrompt((*messages, Message("user", text)))


def _describe(llm: LLM, completion: Completion, *, raw: bool) -> dict[str, Any]:
    from dataclasses import asdict

    told = (completion.text, None) if raw else (completion.answer, completion.thought or None)
    described: dict[str, Any] = dict(zip(("text", "thought"), told, strict=True))
    described |= {name: value for name, value in asdict(completion).items() if name != "text"}
    described["timings"]["tokens_per_second"] = completion.timings.tokens_per_second
    described["effective_config"] = [asdict(option) for option in llm.options]
    return described
