"""Conversations as they are drawn: long talks, what stands before a question, and what is copied from one."""

from __future__ import annotations

import itertools
import random
import re

from chat_format import NOT_MADE, Conversation, assistant, copied, user
from conversations import ConversationSampler
from recipes import AGAIN
from tokenizer import ConversationEncoder, Veil, digit_tokens
from tokenizers import Tokenizer

import app.tools.messages

RESULT = re.compile(r"\br\b")
"""How a recipe writes the result before."""


def test_a_long_talk_fills_the_context_and_every_answer_in_it_begins_with_a_thought(
    sampler: ConversationSampler, tokenizer: Tokenizer
) -> None:
    rng, encoder = random.Random(1), ConversationEncoder(tokenizer)
    lengths = []
    for _ in range(40):
        example = encoder.encode(sampler.talk(rng), rng)
        lengths.append(len(example.ids))
        for start in example.starts:
            assert tokenizer.id_to_token(example.ids[start + 1]).startswith("<think>")
    lengths.sort()
    assert lengths[0] > 200
    assert lengths[len(lengths) // 2] > 1000
    assert lengths[-1] > 1800


def test_a_calculation_may_follow_another_that_it_has_nothing_to_do_with(sampler: ConversationSampler) -> None:
    rng, independent, alone = random.Random(2), 0, 0
    for _ in range(600):
        messages = sampler.drill(rng, {"calculator": 1.0}).messages
        *before, last = [message["about"] for message in messages if message.get("tool_calls")]
        leans = last == AGAIN or RESULT.search(last.partition(": ")[2])
        independent += not leans and any(about.startswith("calculator") for about in before)
        alone += not before
    assert independent > 15
    assert alone > 300


def test_answers_are_also_recited_after_calls_that_were_not_made(sampler: ConversationSampler) -> None:
    """As in a tab whose tools are off: the next question is about something else."""
    rng, in_vain, answered = random.Random(5), 0, 0
    for _ in range(400):
        for before, message in itertools.pairwise(sampler.recital(rng).messages):
            if before["role"] == "tool":
                in_vain += message["role"] == "user"
                answered += message["role"] == "assistant"
    assert in_vain > 60
    assert answered > 20


def test_a_call_has_a_result_when_something_else_is_asked_as_in_the_app(sampler: ConversationSampler) -> None:
    assert NOT_MADE == app.tools.messages.NOT_MADE
    rng = random.Random(7)
    for draw in (sampler.conversation, sampler.drill, sampler.recital):
        for _ in range(300):
            for before, message in itertools.pairwise(draw(rng).messages):
                assert not (before.get("tool_calls") and message["role"] == "user")
                if before["role"] == "tool" and message["role"] == "user":
                    assert before["content"] == NOT_MADE


def test_what_is_copied_is_read_as_it_stands_while_other_questions_are_veiled(tokenizer: Tokenizer) -> None:
    encoder, rng = ConversationEncoder(tokenizer), random.Random(3)
    encoder.veil = Veil(questions=1.0, tokens=1.0)
    said, asked = "find zebra crossing in the notes", "what is a block of the cache?"
    conversation = Conversation(
        [*copied([user(said), assistant("zebra crossing", "repeat")]), user(asked), assistant("a piece", "block")]
    )
    assert conversation.copies
    text = tokenizer.decode(encoder.encode(conversation, rng).ids)
    assert said in text
    assert asked not in text
    assert said not in tokenizer.decode(encoder.encode(conversation, rng, copied_as_is=False).ids)


def test_numbers_are_never_veiled(tokenizer: Tokenizer) -> None:
    encoder, rng = ConversationEncoder(tokenizer), random.Random(4)
    encoder.veil = Veil(questions=1.0, tokens=1.0)
    ids = encoder.encode(Conversation([user("add 4096 to 37"), assistant("4133", "calculator: result")]), rng).ids
    digits = set(digit_tokens(tokenizer))
    assert tokenizer.decode([token for token in ids if token in digits]) == "4096374133"
