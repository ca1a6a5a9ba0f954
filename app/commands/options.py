"""Command-line flags made from the fields of `EngineConfig` and `SamplingParams`, so that none is forgotten."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, get_type_hints

from inference.errors import ConfigError
from inference.protocol import EngineConfig, SamplingParams, in_words

DEFAULT_MODEL = "demo"


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="M",
        help="a directory in Hugging Face or MLX format, a hub id such as Qwen/Qwen2.5-0.5B-Instruct, demo (the "
        "default), demo:0.5b, :1.5b (the same made as large, for measuring drafts; also :4bit, :8bit, as in "
        "demo:0.5b:4bit), or synthetic:0.5b, :1.5b, :7b (random weights, for measuring)",
    )


def add_engine(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """One flag for each field of `EngineConfig`; `engine_config` reads them back. `defaults` are this command's own."""
    group = parser.add_argument_group("engine options")
    types = get_type_hints(EngineConfig)
    for option in fields(EngineConfig):
        flag = "--" + option.name.replace("_", "-")
        default = defaults.get(option.name, option.default)
        about = f"{option.metadata['help']} (default {in_words(default)})".replace("%", "%%")
        if types[option.name] is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=about)
        else:
            kind = types[option.name]
            group.add_argument(flag, type=kind, default=default, metavar=_metavar(kind), help=about)


def engine_config(args: argparse.Namespace) -> EngineConfig:
    return EngineConfig(**{option.name: getattr(args, option.name) for option in fields(EngineConfig)})


def parse(name: str, text: str) -> Any:
    """The value that the text stands for. Raises ConfigError if it stands for none."""
    default = getattr(EngineConfig(), name)
    text = text.strip()
    value: Any = text
    if isinstance(default, bool):
        if text.lower() not in ("on", "off"):
            raise ConfigError(f"{name} must be on or off")
        value = text.lower() == "on"
    elif isinstance(default, int):
        try:
            value = int(text)
        except ValueError:
            raise ConfigError(f"{name} must be a whole number") from None
    EngineConfig(**{name: value})
    return value


def parse_changes(given: Sequence[str], example: str) -> dict[str, Any]:
    """The values of `--change OPTION=VALUE`. Raises ConfigError for what is no option, or none of its values."""
    known = {option.name for option in fields(EngineConfig)}
    found: dict[str, Any] = {}
    for each in given:
        name, equals, text = each.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in known:
            raise ConfigError(f"--change takes OPTION=VALUE such as {example}, not {each!r}")
        found[name] = parse(name, text)
    return found


def add_sampling(parser: argparse.ArgumentParser, *, temperature: float) -> None:
    """The flags of `SamplingParams`. `temperature` is this command's default."""
    group = parser.add_argument_group("sampling")

    def number(flag: str, default: float, about: str) -> None:
        group.add_argument(flag, type=float, default=default, metavar="X", help=about)

    def count(flag: str, default: int | None, about: str) -> None:
        group.add_argument(flag, type=int, default=default, metavar="N", help=about)

    number("--temperature", temperature, f"0 is greedy (default {temperature})")
    count("--top-k", 0, "keep the N most probable tokens; 0 keeps all")
    number("--top-p", 1.0, "keep the fewest tokens whose probabilities reach X")
    number("--min-p", 0.0, "keep tokens at least X times as probable as the best")
    number("--repetition-penalty", 1.0, "above 1: make seen tokens less likely")
    number("--presence-penalty", 0.0, "subtracted from tokens already in the output")
    number("--frequency-penalty", 0.0, "the same, for each time a token is there")
    group.add_argument(
        "--logit-bias", type=_bias, action="append", default=[], metavar="ID=X", help="add X to a token id; repeatable"
    )
    count("--seed", None, "the same seed gives the same answer")
    group.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text; repeatable")
    count("--max-tokens", None, "longest answer (default: until the context is full)")
    group.add_argument("--ignore-eos", action="store_true", help="go on after an end-of-text token")
    count("--logprobs", None, "report log-probabilities and N alternatives")


def sampling_params(args: argparse.Namespace) -> SamplingParams:
    values: dict[str, Any] = {option.name: getattr(args, option.name) for option in fields(SamplingParams)}
    values["stop"] = tuple(values["stop"])
    values["logit_bias"] = dict(values["logit_bias"])
    return SamplingParams(**values)


def comma_list(text: str) -> tuple[int, ...]:
    """Argument type: `1,4,16` as positive numbers."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 1,4,16") from None
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} holds a number below 1")
    return numbers


def positive(text: str) -> int:
    """Argument type: a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _bias(text: str) -> tuple[int, float]:
    token, _, value = text.partition("=")
    try:
        return int(token), float(value)
    except ValueError:
        raise ConfigError(f"--logit-bias takes ID=X such as 42=-5, not {text!r}") from None


def _metavar(kind: type) -> str:
    return {int: "N", str: "NAME"}.get(kind, "X")
