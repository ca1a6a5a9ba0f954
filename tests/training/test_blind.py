"""Evaluation items are asked turn by turn, with or without something that was talked about before."""

from __future__ import annotations

import math

import blind
from arithmetic import value_of
from chat_format import assistant, user

ITEMS = [
    blind.BlindItem("1", "follow", ["what is rope?", "and why?"], {"refusal": True}),
    blind.BlindItem("2", "named", ["what is a block?"], {"refusal": True}),
]


def asked_with(before: list[list[dict[str, str]]]) -> list[blind.Asked]:
    count = iter(range(100))
    return blind.ask(ITEMS, lambda prompts: [f"answer {next(count)}" for _ in prompts], before)


def test_earlier_answers_are_in_the_prompts_of_later_turns() -> None:
    follow, named = asked_with([])
    assert "answer 0" in follow.prompt
    assert "and why?" in follow.prompt
    assert named.prompt.startswith("<|im_start|>user\nwhat is a block?")
    assert (named.answer, follow.answer) == ("answer 1", "answer 2")


def test_what_was_talked_about_before_stands_before_the_first_turn_and_is_not_changed() -> None:
    talk = [user("hello"), assistant("hi")]
    for one in asked_with([talk, talk]):
        assert one.prompt.startswith("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nhi<|im_end|>")
        assert one.prompt.count("hello") == 1
    assert len(talk) == 2


def test_every_calculation_that_is_asked_for_has_a_value() -> None:
    items = blind.load(blind.CALCULATIONS_FILE)
    assert all(math.isfinite(value_of(item.expect["call"]["arguments"]["expression"])) for item in items)
    assert len({item.last_question for item in items}) == len({item.identifier for item in items}) == len(items)
