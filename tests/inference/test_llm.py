"""The library: lists in, completions out, and streams."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

import inference
from inference import LLM, EngineConfig, SamplingParams
from inference.errors import ConfigError, RequestError
from inference.protocol import ChatPrompt, FinishReason, Message, RequestState, TextPrompt, TokenPrompt
from tests.inference import tiny

GREEDY = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)


@pytest.fixture(scope="module")
def llm(checkpoints: Path) -> LLM:
    folder = tiny.checkpoint(checkpoints, tie_word_embeddings=False, max_position_embeddings=256)
    return LLM(str(folder), EngineConfig(block_size=8), num_kv_blocks=100)


@pytest.fixture(autouse=True)
def nothing_left_behind(llm: LLM) -> Iterator[None]:
    yield
    gc.collect()
    while llm.engine.has_work:
        llm._step()
    assert llm.engine._scheduler.blocks.used == 0


def test_prompts_of_every_kind_in_one_batch(llm: LLM) -> None:
    text = "the cat sat"
    ids = llm.tokenizer.encode(text)
    message = Message("user", text)
    completions = llm.generate([text, ids, TextPrompt(text), TokenPrompt(tuple(ids)), ChatPrompt((message,))], GREEDY)
    assert len(completions) == 5
    assert len({c.token_ids for c in completions[:4]}) == 1
    assert {c.prompt_token_ids for c in completions[:4]} == {tuple(ids)}
    assert completions[4].prompt_token_ids == tuple(llm.tokenizer.encode(llm.tokenizer.render([message])))
    for completion in completions:
        assert completion.finish_reason is FinishReason.LENGTH
        assert len(completion.token_ids) == 8
        assert completion.timings.output_tokens == 8


def test_a_lone_prompt_is_a_list_of_one(llm: LLM) -> None:
    for prompt in ("the cat", [1, 2, 3], TokenPrompt((1,))):
        assert len(llm.generate(prompt, GREEDY)) == 1
    assert llm.generate([]) == []


def test_parameters_for_all_or_for_each(llm: LLM) -> None:
    each = [SamplingParams(seed=s, max_tokens=s + 1, logprobs=1) for s in range(3)]
    completions = llm.generate(["a"] * 3, each)
    assert [len(c.token_ids) for c in completions] == [1, 2, 3]
    assert [c.seed for c in completions] == [0, 1, 2]
    assert [len(c.logprobs) for c in completions] == [1, 2, 3]
    assert llm.generate("a", each[2])[0].token_ids == completions[2].token_ids
    drawn = llm.generate("a", SamplingParams(max_tokens=8))[0]
    assert llm.generate("a", SamplingParams(max_tokens=8, seed=drawn.seed))[0].token_ids == drawn.token_ids
    with pytest.raises(RequestError, match="2 prompts, but 3"):
        llm.generate(["a", "b"], each)


@pytest.mark.parametrize("size", [1, 2, 7, 20])
def test_a_queue_of_n_prompts_gets_n_answers_in_order(llm: LLM, size: int) -> None:
    prompts = [[i + 1, 2 * i + 1] for i in range(size)]
    together = llm.generate(prompts, GREEDY)
    assert [c.prompt_token_ids for c in together] == [tuple(p) for p in prompts]
    assert [c.token_ids for c in together[:3]] == [llm.generate([p], GREEDY)[0].token_ids for p in prompts[:3]]


def test_a_prompt_that_is_too_long_fails_alone(llm: LLM) -> None:
    long, good = llm.generate([[1] * 300, [1, 2]], GREEDY)
    assert long.finish_reason is FinishReason.ERROR
    assert "300 tokens" in long.error
    assert good.finish_reason is FinishReason.LENGTH
    bad = llm.generate(TokenPrompt((99999,)))[0]
    assert "99999" in bad.error


def test_a_stream_gives_the_same_as_the_whole(llm: LLM) -> None:
    params = SamplingParams(seed=3, max_tokens=20, logprobs=0)
    whole = llm.generate("the cat", params)[0]
    stream = llm.stream("the cat", params)
    pieces = list(stream)
    assert "".join(piece.text for piece in pieces) == whole.text
    assert tuple(t for piece in pieces for t in piece.token_ids) == whole.token_ids
    assert stream.completion is not None
    assert stream.completion.logprobs == whole.logprobs
    assert asdict(stream.completion)["finish_reason"] == "length"
    with pytest.raises(StopIteration):
        next(stream)


def test_streams_share_the_batch(llm: LLM) -> None:
    expected = llm.generate(["one", "two"], GREEDY)
    first, second = llm.stream("one", GREEDY), llm.stream("two", GREEDY)
    one = [next(first), next(first)]
    two = list(second)
    one += list(first)
    for pieces, completion in ((one, expected[0]), (two, expected[1])):
        assert tuple(t for piece in pieces for t in piece.token_ids) == completion.token_ids


def test_leaving_a_stream_early_stops_its_request(llm: LLM) -> None:
    with llm.stream("the cat", GREEDY) as stream:
        next(stream)
    assert stream.completion is not None
    assert stream.completion.finish_reason is FinishReason.ABORTED
    assert len(stream.completion.token_ids) == 1

    dropped = llm.stream("the cat", SamplingParams(max_tokens=200, ignore_eos=True))
    next(dropped)
    del dropped
    gc.collect()
    llm.generate("another", GREEDY)
    assert not any(row.state is RequestState.RUNNING for row in llm.engine._scheduler.rows())


def test_a_failing_stream_raises_the_sentence(llm: LLM) -> None:
    with pytest.raises(RequestError, match="300 tokens"):
        list(llm.stream([1] * 300))


def test_chat_renders_the_template(llm: LLM) -> None:
    answer = llm.chat([{"role": "system", "content": "be brief"}, Message("user", "hi")], GREEDY)
    messages = (Message("system", "be brief"), Message("user", "hi"))
    assert answer.prompt_token_ids == tuple(llm.tokenizer.encode(llm.tokenizer.render(messages)))


def test_options(llm: LLM) -> None:
    options = {option.name: option for option in llm.options}
    assert (options["block_size"].effective, options["num_kv_blocks"].effective) == ("8", "100")
    with pytest.raises(ConfigError, match="no option 'blok_size'"):
        LLM("demo", blok_size=3)


def test_the_package_exports_lazily() -> None:
    assert inference.SamplingParams is SamplingParams
    with pytest.raises(AttributeError, match="nonsense"):
        _ = inference.nonsense
    program = """
import inference, sys
inference.SamplingParams
print("mlx" in sys.modules)
inference.LLM
print("mlx.core" in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "True"]
