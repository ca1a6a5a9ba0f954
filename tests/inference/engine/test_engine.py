"""What the engine does with one request: how it begins, what it says, and how it ends."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.protocol import (
    ChatPrompt,
    CountTokens,
    Finished,
    FinishReason,
    Message,
    Prompt,
    RequestState,
    SamplingParams,
    Submit,
    TextPrompt,
    TokenPrompt,
)
from tests.inference import tiny
from tests.inference.engine.harness import GREEDY, Outcome, Run, engine, loaded, reference_tokens

PROMPT = (17, 250, 3, 99, 41)


def greedy(**changes: Any) -> SamplingParams:
    return SamplingParams(**({"temperature": 0, "ignore_eos": True, "max_tokens": 12} | changes))


def answer(folder: Path, params: SamplingParams, prompt: tuple[int, ...] = PROMPT, **options: Any) -> Outcome:
    run = Run(engine(folder, **options))
    run.submit("a", prompt, params)
    return run.finish().outcomes["a"]


def spelled(folder: Path, token_ids: tuple[int, ...]) -> str:
    return loaded(folder).tokenizer.decode(token_ids, skip_special_tokens=True)


# --- ends ---


def test_an_answer_ends_at_max_tokens(folder: Path) -> None:
    for count in (1, 2, 7):
        outcome = answer(folder, greedy(max_tokens=count))
        assert outcome.reason is FinishReason.LENGTH
        assert tuple(outcome.token_ids) == reference_tokens(folder, PROMPT, count)


def test_without_max_tokens_it_ends_when_the_context_or_the_pool_is_full(folder: Path) -> None:
    full_context = answer(folder, greedy(max_tokens=None), max_model_len=30, num_kv_blocks=64)
    assert len(PROMPT) + len(full_context.token_ids) == 30
    # The last token is sampled but never computed, so it needs no room.
    full_pool = answer(folder, greedy(max_tokens=None), num_kv_blocks=5, block_size=4)
    assert len(PROMPT) + len(full_pool.token_ids) == 21
    assert full_context.reason is full_pool.reason is FinishReason.LENGTH


@pytest.mark.parametrize("position", [0, 1, 5])
def test_any_end_of_text_token_ends_it(checkpoints: Path, folder: Path, position: int) -> None:
    """The checkpoint's end-of-text ids are put where greedy decoding comes by, at the very first token too."""
    expected = reference_tokens(folder, PROMPT, 12)
    end = expected[position]
    ending = tiny.checkpoint(checkpoints, tie_word_embeddings=False, max_position_embeddings=256, eos_token_id=[end, 5])
    first = expected.index(end)
    outcome = answer(ending, greedy(ignore_eos=False))
    assert outcome.reason is FinishReason.STOP
    assert tuple(outcome.token_ids) == expected[: first + 1]
    ignored = answer(ending, greedy())
    assert ignored.reason is FinishReason.LENGTH
    assert tuple(ignored.token_ids) == expected


def test_special_tokens_are_no_text(folder: Path) -> None:
    end = max(loaded(folder).tokenizer.special_ids)
    assert end in loaded(folder).eos_ids
    outcome = answer(folder, greedy(logit_bias={end: 100}, ignore_eos=False))
    assert (outcome.text, outcome.token_ids, outcome.reason) == ("", [end], FinishReason.STOP)
    ignored = answer(folder, greedy(logit_bias={end: 100}, max_tokens=3))
    assert (ignored.text, ignored.token_ids, ignored.reason) == ("", [end] * 3, FinishReason.LENGTH)


def test_the_text_is_the_tokens_text(folder: Path) -> None:
    outcome = answer(folder, greedy(max_tokens=40))
    whole = spelled(folder, tuple(outcome.token_ids))
    assert whole.startswith(outcome.text)
    assert len(whole) - len(outcome.text) <= 1  # an unfinished character at the end is left out


@settings(max_examples=40)
@given(st.data())
def test_a_stop_string_ends_the_text_before_it(folder: Path, data: st.DataObject) -> None:
    text = answer(folder, greedy(max_tokens=40)).text
    start = data.draw(st.integers(0, len(text) - 1))
    stop = text[start : start + data.draw(st.integers(1, 6))]
    outcome = answer(folder, greedy(max_tokens=40, stop=(stop, "never comes")))
    assert outcome.reason is FinishReason.STOP
    assert outcome.text == text[: text.index(stop)]


def test_text_held_back_for_a_stop_string_comes_out_at_every_other_end(folder: Path) -> None:
    plain = answer(folder, greedy())
    held = answer(folder, greedy(stop=(plain.text[-2:] + "!",)))
    assert held.text == plain.text
    run = Run(engine(folder))
    run.submit("a", PROMPT, greedy(stop=(plain.text + "!",)))
    for _ in range(4):
        run.step()
    assert run.outcomes["a"].text == ""
    run.abort("a")
    assert plain.text.startswith(run.outcomes["a"].text)
    assert run.outcomes["a"].text != ""


# --- sampling parameters ---


def test_log_probabilities_come_with_each_token(folder: Path) -> None:
    outcome = answer(folder, greedy(logprobs=3))
    assert [entry.token_id for entry in outcome.logprobs] == outcome.token_ids
    for entry in outcome.logprobs:
        assert entry.top[0] == (entry.token_id, pytest.approx(entry.logprob))
        assert [value for _, value in entry.top] == sorted((value for _, value in entry.top), reverse=True)
        assert sum(math.exp(value) for _, value in entry.top) <= 1 + 1e-5


def test_logit_bias_decides_and_out_of_range_is_refused(folder: Path) -> None:
    assert answer(folder, greedy(logit_bias={7: 100})).token_ids == [7] * 12
    refused = answer(folder, greedy(logit_bias={331: 1}))
    assert refused.reason is FinishReason.ERROR
    assert refused.finished is not None
    assert refused.finished.message == "logit_bias has token id 331, but this model's lie between 0 and 330"


def test_penalties_follow_the_output_across_preemptions(folder: Path) -> None:
    """A recomputed request must not forget, nor count twice, what it had put out."""
    params = greedy(frequency_penalty=1.5, repetition_penalty=1.3, max_tokens=20)
    alone = answer(folder, params)
    run = Run(engine(folder, num_kv_blocks=8))
    for name in "abc":
        run.submit(name, PROMPT, params)
    run.finish()
    assert any(record.preempted for record in run.records)
    assert [run.outcomes[name].token_ids for name in "abc"] == [alone.token_ids] * 3
    assert alone.token_ids != answer(folder, greedy(max_tokens=20)).token_ids


# --- refusals ---


@pytest.mark.parametrize(
    ("prompt", "options", "sentence"),
    [
        (TokenPrompt(()), {}, "the prompt is empty: give it at least one token"),
        (TokenPrompt((331,)), {}, "the prompt has token id 331, but this model's lie between 0 and 330"),
        (
            TokenPrompt((1,) * 300),
            {"num_kv_blocks": 100},
            "the prompt has 300 tokens, but with at least one token of answer only 256 fit the context: shorten it or "
            "start a new session",
        ),
        (
            TokenPrompt((1,) * 50),
            {"num_kv_blocks": 10},
            "the prompt has 50 tokens, but the KV pool of 10 blocks of 4 tokens never holds more than 40: shorten it "
            "or raise num_kv_blocks",
        ),
    ],
)
def test_a_request_that_can_never_be_served_is_refused_alone(
    folder: Path, prompt: Prompt, options: dict[str, Any], sentence: str
) -> None:
    run = Run(engine(folder, **options))
    run.submit("good", PROMPT, greedy())
    run.step()
    [finished] = run.engine.submit(Submit("bad", "s", prompt, GREEDY))
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.message) == (FinishReason.ERROR, sentence)
    run.finish()
    assert tuple(run.outcomes["good"].token_ids) == reference_tokens(folder, PROMPT, 12)


def test_a_request_id_can_not_be_used_twice_at_once(folder: Path) -> None:
    run = Run(engine(folder))
    run.submit("a", PROMPT, greedy(max_tokens=2))
    with pytest.raises(ValueError, match="'a'"):
        run.engine.submit(Submit("a", "s", TokenPrompt(PROMPT), GREEDY))
    run.finish()
    run.outcomes.clear()
    run.submit("a", PROMPT, greedy(max_tokens=2))
    run.finish()


def test_prompts_are_text_messages_or_tokens(folder: Path) -> None:
    tokenizer = loaded(folder).tokenizer
    message = Message("user", "the cat")
    run = Run(engine(folder))
    lengths = {
        TextPrompt("the cat sat"): len(tokenizer.encode("the cat sat")),
        ChatPrompt((message,)): len(tokenizer.encode(tokenizer.render([message]))),
        TokenPrompt(PROMPT): len(PROMPT),
    }
    for prompt, length in lengths.items():
        [count] = run.engine.count_tokens(CountTokens("q", prompt))
        assert (count.query_id, count.num_tokens, count.error) == ("q", length, "")
        [started] = run.engine.submit(Submit(str(length), "s", prompt, GREEDY))
        assert started.prompt_tokens == length
    [count] = run.engine.count_tokens(CountTokens("q", TokenPrompt((-1,))))
    assert (count.num_tokens, count.error) == (0, "the prompt has token id -1, but this model's lie between 0 and 330")


# --- aborts ---


def test_an_abort_frees_the_blocks_before_the_next_step(folder: Path) -> None:
    run = Run(engine(folder, max_num_seqs=2))
    for name in "abc":
        run.submit(name, PROMPT, greedy(max_tokens=30))
    before = run.step()
    held = {row.request_id: row.blocks for row in before.requests}
    assert held["a"] > 0
    assert {row.request_id: row.state for row in before.requests}["c"] is RequestState.WAITING
    run.abort("a")
    run.abort("a")
    run.abort("unknown")
    assert run.outcomes["a"].reason is FinishReason.ABORTED
    after = run.step()
    assert ("a", FinishReason.ABORTED) in after.finished
    assert "a" not in {row.request_id for row in after.requests}
    run.abort("b")
    run.abort("c")
    last = run.step()  # nothing is left to compute, but the record tells that the pool is free
    assert last.scheduled == ()
    assert last.blocks.used == 0
    assert not run.engine.has_work


def test_an_abort_of_a_waiting_request(folder: Path) -> None:
    run = Run(engine(folder, max_num_seqs=1))
    run.submit("a", PROMPT, greedy())
    run.submit("b", PROMPT, greedy())
    run.step()
    run.abort("b")
    run.finish()
    assert run.outcomes["b"].token_ids == []
    assert run.outcomes["b"].reason is FinishReason.ABORTED
    assert run.outcomes["a"].reason is FinishReason.LENGTH


# --- records and timings ---


def test_the_next_turn_of_a_chat_computes_only_what_is_new(folder: Path) -> None:
    run = Run(engine(folder))
    first = tuple(range(10, 31))
    answer = run.submit("first", first, greedy(max_tokens=8))
    run.finish()
    second = (*first, *answer.token_ids, 5, 6, 7)
    run.submit("second", second, greedy(max_tokens=8))
    run.finish()
    # 28 of the 29 tokens of the first turn were computed, the last one was only sampled: seven blocks of four.
    timings = [run.outcomes[name].finished.timings for name in ("first", "second")]
    assert [t.cached_tokens for t in timings] == [0, 28]
    lookups = [lookup for record in run.records for lookup in record.lookups]
    assert [(lookup.request_id, lookup.tokens, lookup.cached_tokens) for lookup in lookups] == [
        ("first", 21, 0),
        ("second", 32, 28),
    ]
    assert sum(record.prefill_tokens for record in run.records) == 21 + 4
    assert run.outcomes["second"].token_ids == list(reference_tokens(folder, second, 8))


def test_a_miss_is_explained_by_the_first_token_that_differs(folder: Path) -> None:
    run = Run(engine(folder, block_size=4))

    def why(session: str = "session of b") -> str:
        (event,) = run.engine.explain_prefix(session)
        return event.text

    assert why() == "session of b has sent nothing yet"
    words = loaded(folder).tokenizer.encode("the cat sat on the mat and then the other cat sat there")
    other = [*words[:9], words[0], *words[10:]]
    run.submit("a", words, greedy(max_tokens=2))
    run.finish()
    assert "No earlier request begins with the same token" in why("session of a")
    run.submit("b", other, greedy(max_tokens=2))
    run.finish()
    text = why()
    common = next(i for i, (x, y) in enumerate(zip(words, other, strict=True)) if x != y)
    assert text.startswith(f"{common // 4 * 4} of {len(other)} prompt tokens were cached")
    assert f"The first {common} tokens are those of session of a" in text
    for prompt in (words, other):
        assert f"[{loaded(folder).tokenizer.decode(prompt[common : common + 1]).strip()}" in text.replace("[ ", "[")
    run.submit("b again", other, greedy(max_tokens=2))
    run.finish()
    assert "all whole blocks were found" in why("session of b again")
    run.engine._scheduler.forget_prefixes()
    run.submit("c", other, greedy(max_tokens=2))
    run.finish()
    assert "had been handed out again" in why("session of c")
    run.configure(enable_prefix_caching=False)
    assert "is off" in why()


def test_what_was_computed_otherwise_is_not_reused(folder: Path) -> None:
    """Rounded activations, another type of cache and a failed step all leave nothing to come back to."""
    run = Run(engine(folder))
    for change in ({"activations": "bfloat16"}, {"activations": "exact"}, {"kv_cache_dtype": "bfloat16"}):
        run.submit(f"before {change}", tuple(range(9)), greedy(max_tokens=8))
        run.finish()
        assert run.records[-1].blocks.cached > 0
        run.configure(**change)
        run.submit(f"after {change}", tuple(range(9)), greedy(max_tokens=8))
        run.finish()
        assert run.outcomes[f"after {change}"].finished.timings.cached_tokens == 0
    run.configure(enable_prefix_caching=False)
    run.submit("without", tuple(range(9)), greedy(max_tokens=8))
    run.finish()
    assert run.records[-1].blocks.cached == 0
    assert run.outcomes["without"].finished.timings.cached_tokens == 0


def test_a_record_tells_what_the_step_did(folder: Path) -> None:
    run = Run(engine(folder, max_num_batched_tokens=6))
    run.submit("a", PROMPT, greedy(max_tokens=3))
    run.submit("b", PROMPT, greedy(max_tokens=3))
    run.finish()
    first, second = run.records[:2]
    assert [(s.request_id, s.num_tokens, s.is_prefill, s.samples) for s in first.scheduled] == [
        ("a", 5, True, True),
        ("b", 1, True, False),
    ]
    assert (first.prefill_tokens, first.decode_tokens, first.sampled_tokens) == (6, 0, 1)
    assert (second.prefill_tokens, second.decode_tokens, second.sampled_tokens) == (4, 1, 2)
    assert first.scheduled[0].session == "session of a"
    assert [r.step for r in run.records] == list(range(1, len(run.records) + 1))
    for earlier, later in zip(run.records, run.records[1:], strict=False):
        assert 0 < later.phases.total <= later.time - earlier.time + 1e-3
    phases = first.phases
    assert min(phases.schedule, phases.build, phases.compute, phases.sample, phases.output) > 0


def test_timings_add_up(folder: Path) -> None:
    run = Run(engine(folder, max_num_seqs=1))
    run.submit("a", PROMPT, greedy(max_tokens=4))
    run.submit("b", PROMPT, greedy(max_tokens=4))
    run.finish()
    a, b = (run.outcomes[name].finished.timings for name in "ab")  # type: ignore[union-attr]
    for timings in (a, b):
        assert 0 <= timings.queued <= timings.ttft <= timings.total
        assert (timings.prompt_tokens, timings.output_tokens) == (len(PROMPT), 4)
        assert timings.tokens_per_second > 0
    assert b.queued >= a.total * 0.5  # it waited for the other to end


def test_the_engine_says_when_it_is_ready(folder: Path) -> None:
    ready = engine(folder, num_kv_blocks=9).ready()
    assert (ready.num_kv_blocks, ready.max_model_len) == (9, 37)
    assert ready.model.vocab_size == 331
    assert {option.name for option in ready.options} >= {"kernels", "dtype", "num_kv_blocks"}


def test_a_record_survives_the_way_to_the_app(folder: Path) -> None:
    run = Run(engine(folder))
    run.submit("a", PROMPT, greedy(max_tokens=2))
    record = run.step()
    assert pickle.loads(pickle.dumps(record)) == record
