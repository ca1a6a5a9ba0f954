"""The loop of the engine's process: what it takes in between two steps."""

from __future__ import annotations

import queue
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from inference.engine.process import serve
from inference.protocol import (
    ChatPrompt,
    Command,
    CountMessages,
    CountTokens,
    Event,
    Finished,
    Message,
    MessageCounts,
    Shutdown,
    StepRecord,
    Submit,
    TextPrompt,
    TokenCount,
    TokenPrompt,
)
from tests.inference import tiny
from tests.inference.engine.harness import GREEDY, engine, loaded

LONG = ChatPrompt((Message("user", "the cat"), Message("assistant", ""), Message("tool", "sat <|im_end|> on")))


@pytest.fixture(scope="module")
def folder(checkpoints: Path) -> Path:
    return tiny.checkpoint(checkpoints)


def served(folder: Path, commands: list[Command], ends: Callable[[Event], bool]) -> list[Event]:
    """All that is answered until an event ends it."""
    inbox: queue.SimpleQueue[Command] = queue.SimpleQueue()
    for command in commands:
        inbox.put(command)
    said: list[Event] = []

    def send(events: list[Event]) -> None:
        said.extend(events)
        if any(ends(event) for event in events):
            inbox.put(Shutdown())

    outbox, pulse = SimpleNamespace(send=send), SimpleNamespace(step=0, step_began=None)
    serve(engine(folder), inbox, outbox, pulse)  # type: ignore[arg-type]
    return said


def test_between_two_steps_at_most_one_prompt_is_counted(folder: Path) -> None:
    counting: list[Command] = [CountTokens(f"{n}", TextPrompt("the cat")) for n in range(6)]
    counting += [CountMessages(f"{n}", LONG) for n in range(6, 12)]
    prompt = Submit("a", "s", TokenPrompt((1, 2, 3)), GREEDY)
    said = served(folder, [*counting[:9], prompt, *counting[9:]], lambda event: isinstance(event, Finished))
    places = [place for place, event in enumerate(said) if isinstance(event, TokenCount | MessageCounts)]
    steps = [place for place, event in enumerate(said) if isinstance(event, StepRecord)]
    assert [said[place].query_id for place in places] == [f"{n}" for n in range(12)]  # type: ignore[union-attr]
    assert all(any(a < step < b for step in steps) for a, b in pairwise(places))


def test_an_idle_engine_counts_all_at_once(folder: Path) -> None:
    counting: list[Command] = [CountTokens(f"{n}", TextPrompt("the cat")) for n in range(5)]
    said = served(folder, counting, lambda event: isinstance(event, TokenCount) and event.query_id == "4")
    assert [type(event) for event in said] == [TokenCount] * 5


def test_a_chat_is_counted_as_a_whole_and_by_message(folder: Path) -> None:
    tokenizer = loaded(folder).tokenizer
    [count] = engine(folder).count_messages(CountMessages("q", LONG))
    assert isinstance(count, MessageCounts)
    assert count.num_tokens == len(tokenizer.encode(tokenizer.render(LONG.messages)))
    assert count.bare == len(tokenizer.encode(tokenizer.render([Message("user", "")])))
    assert count.contents == tuple(len(tokenizer.encode(message.content)) for message in LONG.messages)
    assert (count.query_id, count.error) == ("q", "")
    [count] = engine(folder).count_messages(CountMessages("q", ChatPrompt((Message("user", None),))))  # type: ignore[arg-type]
    assert isinstance(count, MessageCounts)
    assert count.error
