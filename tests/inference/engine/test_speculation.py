"""Drafts change how many steps an answer takes, and nothing else about it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.engine.start import start
from inference.errors import ModelError
from inference.protocol import EngineConfig, FinishReason, SamplingParams
from tests.inference import tiny
from tests.inference.engine.harness import Run, engine, loaded
from tests.inference.engine.test_seeds import PROMPTS, sampled_requests

EOS = tiny.TOKENIZER_SIZE - 1
ALWAYS = {"adaptive_speculation": False, "speculation": "draft"}


def run(made: Any, requests: dict[str, tuple[tuple[int, ...], SamplingParams]]) -> Run:
    driven = Run(made)
    for request_id, (prompt, params) in requests.items():
        driven.submit(request_id, prompt, params)
    return driven.finish()


def greedy(tokens: int) -> SamplingParams:
    return SamplingParams(temperature=0, ignore_eos=True, max_tokens=tokens)


def drafted(driven: Run) -> tuple[int, int]:
    """Tokens that were drafted, and those of them that were accepted."""
    verified = [v for record in driven.records for v in record.verified]
    return sum(v.drafted for v in verified), sum(v.accepted for v in verified)


# --- lossless ---


@st.composite
def any_request(draw: st.DrawFn) -> tuple[tuple[int, ...], SamplingParams]:
    """Filters, penalties, biases, seeds, log-probabilities, stop strings, and ends that are likely to come."""
    prompt, params = draw(sampled_requests())
    return prompt, replace(
        params,
        temperature=draw(st.sampled_from([0.0, 0.3, 1.0])),
        max_tokens=draw(st.integers(1, 24)),
        logit_bias={EOS: draw(st.sampled_from([0.0, 2.0, 3.0])), 7: 1.5, 330: draw(st.sampled_from([-1.0, 3.0]))},
        frequency_penalty=draw(st.sampled_from([0.0, 0.5])),
        stop=draw(st.sampled_from([(), ("a",), ("the", " c")])),
        logprobs=draw(st.sampled_from([None, 0, 2])),
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(any_request(), min_size=1, max_size=6),
    st.sampled_from(["draft", "ngram"]),
    st.integers(1, 7),
    st.integers(0, 20),
    st.integers(1, 40),
)
def test_every_request_ends_as_it_would_without_drafts(
    folder: Path, draft: Path, requests: list[Any], method: str, depth: int, spare: int, budget: int
) -> None:
    everyone = {str(i): request for i, request in enumerate(requests)}
    plain = run(engine(folder), everyone)
    options = {"num_kv_blocks": 16 + spare, "max_num_batched_tokens": budget, "num_speculative_tokens": depth}
    guessed = run(engine(folder, draft, **(ALWAYS | options | {"speculation": method})), everyone)
    for request_id, expected in plain.outcomes.items():
        found = guessed.outcomes[request_id]
        assert found.token_ids == expected.token_ids
        assert found.text == expected.text
        assert found.reason == expected.reason
        assert [p.token_id for p in found.logprobs] == [p.token_id for p in expected.logprobs]
        ours, theirs = ([p.logprob for p in o.logprobs] for o in (found, expected))
        assert np.allclose(ours, theirs, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_interruptions_and_switches_in_the_middle_change_no_token(
    folder: Path, draft: Path, data: st.DataObject
) -> None:
    """Drawn at any temperature: requests that are aborted got the beginning of what they would have got."""
    requests = {str(i): r for i, r in enumerate(data.draw(st.lists(any_request(), min_size=2, max_size=6)))}
    plain = run(engine(folder), requests)
    driven = Run(engine(folder, draft, num_kv_blocks=14 + data.draw(st.integers(0, 12)), **ALWAYS))
    at: dict[int, list[Any]] = {}
    steps = st.integers(1, 20)
    for request_id in data.draw(st.lists(st.sampled_from(sorted(requests)), max_size=2, unique=True)):
        at.setdefault(data.draw(steps), []).append(lambda r=request_id: driven.abort(r))
    for method in data.draw(st.lists(st.sampled_from(["off", "draft", "ngram"]), max_size=3)):
        at.setdefault(data.draw(steps), []).append(lambda m=method: driven.configure(speculation=m))
    for request_id, (prompt, params) in requests.items():
        driven.submit(request_id, prompt, params)
    driven.finish(at)
    for request_id, expected in plain.outcomes.items():
        found = driven.outcomes[request_id]
        if found.reason is FinishReason.ABORTED:
            assert found.token_ids == expected.token_ids[: len(found.token_ids)]
        else:
            assert (found.token_ids, found.text, found.reason) == (expected.token_ids, expected.text, expected.reason)


def test_a_request_that_has_to_go_while_drafts_are_made_for_it_comes_back_to_the_same_words(folder: Path) -> None:
    requests = {str(i): (PROMPTS[2], replace(greedy(40), temperature=1.0, seed=i)) for i in range(4)}
    plain = run(engine(folder), requests)
    driven = run(engine(folder, folder, num_kv_blocks=26, **ALWAYS), requests)
    had_drafts: set[str] = set()
    gone: set[str] = set()
    for record in driven.records:
        gone |= had_drafts & set(record.preempted)
        had_drafts |= {v.request_id for v in record.verified}
    assert gone, "the pool has room for two of them at their end"
    assert {v.request_id for r in driven.records[-20:] for v in r.verified} & gone, "and drafts are made for it again"
    assert [o.token_ids for o in driven.outcomes.values()] == [o.token_ids for o in plain.outcomes.values()]


@pytest.mark.parametrize("kernels", ["native", "mlx", "reference"])
@pytest.mark.parametrize("kept", ["float32", "int8"])
def test_a_model_that_drafts_for_itself_is_always_right(folder: Path, kernels: str, kept: str) -> None:
    """So is one that draws: it draws with the same numbers. And the steps are fewer as promised."""
    options = ALWAYS | {"num_speculative_tokens": 3, "kernels": kernels, "kv_cache_dtype": kept}
    if kept == "int8":
        folder = tiny.checkpoint(folder.parent, tie_word_embeddings=False, head_dim=32)
    requests = {"greedy": (PROMPTS[2], greedy(21)), "drawn": (PROMPTS[1], replace(greedy(21), temperature=1.0, seed=3))}
    driven = run(engine(folder, folder, **(options | {"kv_cache_dtype": "float32"})), requests)
    made, right = drafted(driven)
    assert made == right == 2 * 15
    assert len(driven.records) == 1 + 5
    if kept == "int8":  # its own cache is exact, so what it guesses from is not quite what the other reads
        assert run(engine(folder, folder, **options), requests).outcomes["drawn"].reason is FinishReason.LENGTH


def test_drafts_may_begin_and_end_at_any_step_and_the_drafter_catches_up(folder: Path, draft: Path) -> None:
    expected = run(engine(folder), {"a": (PROMPTS[3], greedy(60))})
    driven = Run(engine(folder, draft, adaptive_speculation=False, speculation="off"))
    driven.submit("a", PROMPTS[3], greedy(60))
    for change in (*(["off"] * 9), "draft", "ngram", "off", "draft", "draft", "off", "draft"):
        driven.configure(speculation=change)
        driven.step()
    driven.finish()
    assert driven.outcomes["a"].token_ids == expected.outcomes["a"].token_ids
    made, right = drafted(driven)
    assert right > 0.2 * made > 0


def test_a_shared_prefix_is_read_once_by_the_drafter_too(folder: Path, draft: Path) -> None:
    """Its keys and values are in the same blocks: a request that finds a prefix finds both."""
    driven = Run(engine(folder, draft, num_kv_blocks=128, **ALWAYS))
    drafter = driven.engine.speculator.drafter
    assert drafter is not None
    read: list[int] = []
    forward = drafter._forward
    drafter._forward = lambda parts, ends, texts: read.append(sum(map(len, parts))) or forward(parts, ends, texts)  # type: ignore[method-assign,func-returns-value]
    driven.submit("a", PROMPTS[3], greedy(4))
    driven.finish()
    first = read[0]
    read.clear()
    driven.submit("b", PROMPTS[3], greedy(4))
    driven.finish()
    assert first == len(PROMPTS[3])
    assert read[0] <= 4  # of 30 tokens, 28 are in seven whole blocks


def test_blocks_that_others_filled_while_nobody_drafted_are_not_taken_for_read(folder: Path) -> None:
    """A model that drafts for itself would be wrong, if it believed in keys that belong to another text."""
    driven = Run(engine(folder, folder, num_kv_blocks=24, **ALWAYS))
    driven.submit("a", PROMPTS[3], greedy(8))
    driven.finish()
    driven.configure(speculation="off")
    for i in range(6):  # fill every block anew
        driven.submit(f"other{i}", (*PROMPTS[2], i, i, i, i), greedy(8))
    driven.submit("b", (*PROMPTS[3][::-1], 5), greedy(2))
    driven.finish()
    driven.configure(speculation="draft")
    driven.submit("c", (*PROMPTS[3][::-1], 5, 6), greedy(12))
    driven.finish()
    made, right = drafted(driven)
    assert made == right


# --- within the limits of a step ---


def test_no_request_gets_more_tokens_than_it_asked_for(folder: Path) -> None:
    for tokens in range(1, 8):
        driven = run(engine(folder, folder, num_speculative_tokens=5, **ALWAYS), {"a": (PROMPTS[1], greedy(tokens))})
        assert len(driven.outcomes["a"].token_ids) == tokens
        assert sum(record.sampled_tokens for record in driven.records) == tokens


def test_an_end_of_text_within_a_draft_ends_the_request_there(folder: Path) -> None:
    params = replace(greedy(30), ignore_eos=False, logit_bias={EOS: 1.2})
    plain = run(engine(folder), {str(i): (p, params) for i, p in enumerate(PROMPTS)})
    driven = run(engine(folder, folder, **ALWAYS), {str(i): (p, params) for i, p in enumerate(PROMPTS)})
    ends = [o.token_ids for o in driven.outcomes.values() if o.reason is FinishReason.STOP]
    assert ends, "the bias makes some of them end"
    assert all(EOS not in ids[:-1] for ids in ends)
    assert [o.token_ids for o in driven.outcomes.values()] == [o.token_ids for o in plain.outcomes.values()]
    cut = [v for record in driven.records for v in record.verified if v.tokens == v.accepted]
    assert cut, "one of them ends with a token that was drafted"
    assert all(v.judged == v.decided == v.accepted for v in cut), "what was drafted behind the end is no mistake"
    rest = [v for record in driven.records for v in record.verified if v not in cut]
    assert all(v.judged == min(v.accepted + 1, v.drafted) and v.decided == v.drafted for v in rest)


def test_each_delta_says_whether_its_token_was_drafted(folder: Path, draft: Path) -> None:
    driven = Run(engine(folder, draft, **ALWAYS))
    marks: list[bool] = []
    take = driven.take
    driven.take = lambda events: (marks.extend(e.drafted for e in events if hasattr(e, "drafted")), take(events))[1]  # type: ignore[method-assign]
    driven.submit("a", PROMPTS[2], greedy(40))
    driven.finish()
    made, right = drafted(driven)
    assert len(marks) == 40
    assert sum(marks) == right
    assert 0 < right < made


# --- choosing how far ahead ---


def test_a_draft_that_is_never_right_is_given_up_with_the_reason(folder: Path) -> None:
    """The other way round too: what is always right is kept. Both by times that are made up."""
    other = tiny.checkpoint(folder.parent, tie_word_embeddings=False, seed=9)
    for drafting, kept in ((other, False), (folder, True)):
        driven = Run(engine(folder, drafting, num_speculative_tokens=4, speculation="draft"))
        driven.submit("a", PROMPTS[1], greedy(200))
        observe = driven.engine.speculator.observe

        def with_made_up_times(record: Any, observe: Any = observe) -> None:
            tokens = sum(s.num_tokens for s in record.scheduled)
            phases = replace(
                record.phases, schedule=0, build=0, sample=0, output=0, draft=1e-3, compute=0.02 + 0.002 * tokens
            )
            observe(replace(record, phases=phases))

        driven.engine.speculator.observe = with_made_up_times  # type: ignore[method-assign]
        driven.finish()
        last = [
            r.speculation for r in driven.records[-20:] if r.speculation and "looks whether" not in r.speculation.reason
        ]
        assert all((s.depth == 4) == kept for s in last)
        assert all((s.depth == 0) != kept for s in last)
        assert all(("it would cost more than it gives" in s.reason) != kept for s in last)


def test_without_a_draft_model_the_option_says_what_to_do(folder: Path, draft: Path) -> None:
    def told(made: Any) -> tuple[str, str]:
        state = next(o for o in made.options if o.name == "speculation")
        return state.effective, state.reason

    assert told(engine(folder)) == ("off", "there is no draft model: start with --draft, or choose ngram")
    assert told(engine(folder, draft))[0] == "draft"
    assert told(engine(folder, draft, speculation="off")) == ("off", "")
    assert told(engine(folder, speculation="ngram")) == ("ngram", "")
    assert told(engine(folder, draft, kv_layout="none"))[0] == "off"


def test_a_draft_model_that_fails_is_switched_off_with_the_reason_and_no_request_is_lost(folder: Path) -> None:
    """And is tried again when it is chosen again."""
    expected = run(engine(folder), {"a": (PROMPTS[1], greedy(30))}).outcomes["a"].token_ids
    driven = Run(engine(folder, folder, **ALWAYS))
    driven.submit("a", PROMPTS[1], greedy(30))
    for _ in range(3):
        driven.step()
    drafter = driven.engine.speculator.drafter
    assert drafter is not None
    forward, drafter._forward = drafter._forward, lambda *_: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    driven.step()
    (told,) = driven.configured[-1:]
    state = next(o for o in told.options if o.name == "speculation")
    assert state.effective == "off"
    assert (
        state.reason == "the draft model failed (ZeroDivisionError: division by zero); choosing it again tries it again"
    )
    driven.step()
    assert not driven.records[-1].verified
    drafter._forward = forward  # type: ignore[method-assign]
    driven.configure(speculation="draft")
    driven.finish()
    assert driven.outcomes["a"].token_ids == expected
    assert driven.records[-1].config.speculation == "draft"
    assert sum(v.accepted for r in driven.records[-4:] for v in r.verified) > 0


# --- who may draft ---


def test_a_model_with_other_tokens_or_another_end_is_refused_with_the_reason(folder: Path, tmp_path: Path) -> None:
    fewer = tiny.checkpoint(tmp_path, tie_word_embeddings=False, vocab_size=310)
    assert start(str(folder), EngineConfig(num_kv_blocks=16, draft=str(fewer))).model_info.draft == str(fewer)

    other_end = tiny.checkpoint(tmp_path, tie_word_embeddings=False, eos_token_id=5)
    with pytest.raises(ModelError, match=r"can't draft for .*: it ends its texts with token 5, 297, 299"):
        start(str(folder), EngineConfig(num_kv_blocks=16, draft=str(other_end)))

    more = tiny.perturbed(folder, 0.2)
    state = json.loads((more / "tokenizer.json").read_text())
    extra = {**state["added_tokens"][-1], "id": tiny.TOKENIZER_SIZE, "content": "<extra>"}
    (more / "tokenizer.json").write_text(json.dumps(state | {"added_tokens": [*state["added_tokens"], extra]}))
    with pytest.raises(ModelError, match=r"can't draft for .*: it has 301 tokens, and .* has 300"):
        start(str(folder), EngineConfig(num_kv_blocks=16, draft=str(more)))

    other_tokens = tiny.perturbed(folder, 0.3)
    text = (other_tokens / "tokenizer.json").read_text()
    (other_tokens / "tokenizer.json").write_text(text.replace('"<|im_start|>"', '"<|begin|>"'))
    with pytest.raises(ModelError, match=r"it has '<\|begin\|>' for token 298, where .* has '<\|im_start\|>'"):
        start(str(folder), EngineConfig(num_kv_blocks=16, draft=str(other_tokens)))


def test_a_draft_model_with_fewer_rows_than_the_large_one_never_drafts_what_it_lacks(folder: Path) -> None:
    fewer = tiny.checkpoint(folder.parent, tie_word_embeddings=False, vocab_size=310)
    params = replace(greedy(12), logit_bias={320: 50.0})
    driven = run(engine(folder, fewer, **ALWAYS), {"a": (PROMPTS[1], params)})
    assert driven.outcomes["a"].token_ids == [320] * 12
    assert loaded(fewer).info.vocab_size == 310
