"""Answers that begin with a thought, from the engine on: what their text is, and what the next prompt finds again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inference import LLM, EngineConfig, SamplingParams
from inference.protocol import ChatPrompt, Message, TextPrompt
from tests.inference import tiny

BLOCK = 4
OPENS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
"""A template that opens a thought, as the newer ones of DeepSeek-R1 do, and keeps those of earlier answers."""
QUESTION = Message("user", "the cat sat on the mat")
WHOLE = "<think>cat: where</think>"


def always(llm: LLM, text: str, count: int = 12) -> SamplingParams:
    """Parameters with which any model writes one token again and again."""
    (token,) = llm.tokenizer.encode(text)
    return SamplingParams(temperature=0, max_tokens=count, logit_bias={token: 100.0})


@pytest.fixture(scope="module")
def opening(checkpoints: Path) -> LLM:
    return LLM(str(tiny.checkpoint(checkpoints, chat_template=OPENS)), EngineConfig(block_size=BLOCK, num_kv_blocks=64))


@pytest.fixture(scope="module")
def writing(checkpoints: Path) -> LLM:
    """A model that has a whole thought as one token."""
    folder = tiny.checkpoint(checkpoints, seed=7)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["added_tokens_decoder"] = {str(tiny.TOKENIZER_SIZE): {"content": WHOLE, "special": False}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return LLM(str(folder), EngineConfig(block_size=BLOCK, num_kv_blocks=64))


def test_a_thought_that_the_template_opened_is_part_of_the_text_and_of_no_token(opening: LLM) -> None:
    with opening.stream(ChatPrompt((QUESTION,)), always(opening, " cat")) as stream:
        deltas = list(stream)
    found = stream.completion
    assert found is not None
    assert (deltas[0].text, deltas[0].token_ids) == ("<think>\n", ())
    assert found.text == "<think>\n" + opening.tokenizer.decode(found.token_ids)
    assert len(found.token_ids) == found.timings.output_tokens == 12
    assert found.prompt_token_ids == tuple(opening.tokenizer.encode(opening.tokenizer.render([QUESTION])))
    assert (found.thought, found.answer) == (" ".join(["cat"] * 12), "")


def test_text_that_ends_so_by_itself_is_left_as_it_is(opening: LLM) -> None:
    (found,) = opening.generate([TextPrompt("say <think>\n")], always(opening, " cat"))
    assert found.text == opening.tokenizer.decode(found.token_ids)
    (found,) = opening.generate([list(found.prompt_token_ids)], always(opening, " cat"))
    assert found.text == opening.tokenizer.decode(found.token_ids)


def test_it_is_told_once_however_often_the_request_is_preempted(opening: LLM) -> None:
    params = always(opening, " cat")
    stream = opening.stream(ChatPrompt((QUESTION,)), params)
    for _ in range(3):
        opening._step()
    opening.engine.configure({"kv_layout": "none"})
    opening.engine.configure({"kv_layout": "paged"})
    assert "".join(delta.text for delta in stream).count("<think>") == 1


def test_an_answer_that_ends_before_its_first_token_says_nothing(opening: LLM) -> None:
    stream = opening.stream(ChatPrompt((QUESTION,)), always(opening, " cat"))
    stream.close()
    assert stream.completion is not None
    assert stream.completion.text == ""


@pytest.mark.parametrize("form", ["opening", "writing"])
def test_the_next_prompt_finds_the_thought_and_the_answer_in_the_cache(
    form: str, request: pytest.FixtureRequest
) -> None:
    llm: LLM = request.getfixturevalue(form)
    llm.engine.forget_prefixes()
    first = llm.chat([QUESTION], always(llm, " cat" if form == "opening" else WHOLE))
    assert first.thought
    second = llm.chat([QUESTION, Message("assistant", first.text), Message("user", "and then")], always(llm, " cat"))
    before = (*first.prompt_token_ids, *first.token_ids)
    assert second.prompt_token_ids[: len(before)] == before
    # Of the last token alone nothing was kept: it was only sampled.
    assert second.timings.cached_tokens == (len(before) - 1) // BLOCK * BLOCK


def test_what_was_thought_and_what_was_answered(writing: LLM) -> None:
    found = writing.chat([QUESTION], always(writing, WHOLE, 2))
    assert found.text == WHOLE * 2
    assert (found.thought, found.answer) == ("cat: where", WHOLE)
