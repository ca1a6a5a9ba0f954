"""`--draft`: another model drafts for the one that answers, to the same text; one that can't is refused."""

from pathlib import Path

import pytest

from tests.inference import tiny

ASKED = ("-p", "the cat sat on the mat", "--max-tokens", 12, "--ignore-eos", "--temperature", 0)


@pytest.fixture(scope="module")
def draft(tmp_path_factory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("draft"), num_hidden_layers=1, seed=5)


def option(outcome, name):
    return next(option for option in outcome.json["effective_config"] if option["name"] == name)


@pytest.mark.parametrize("seed_and_heat", [("--seed", 1), ("--seed", 2, "--temperature", 1.2)])
def test_the_answer_is_the_same_with_drafts_and_without(glasschat, model, draft, seed_and_heat):
    def answer(*more):
        return glasschat("run", "--model", model, *ASKED, *seed_and_heat, "--no-adaptive-speculation", "--json", *more)

    plain, drafted, quoted = answer(), answer("--draft", draft), answer("--speculation", "ngram")
    assert plain.json["token_ids"] == drafted.json["token_ids"] == quoted.json["token_ids"]
    assert option(plain, "speculation")["effective"] == "off"
    assert "there is no draft model: start with --draft" in option(plain, "speculation")["reason"]
    assert (option(drafted, "speculation")["effective"], option(drafted, "draft")["effective"]) == ("draft", str(draft))
    assert option(quoted, "speculation")["effective"] == "ngram"


def test_bench_measures_with_drafts_and_says_where_their_time_goes(glasschat, model, draft):
    measured = ("--prompt-tokens", 8, "--gen-tokens", 6, "--concurrency", 2, "--runs", 1)
    outcome = glasschat(
        "bench", "--model", model, "--draft", draft, "--speculation", "draft", "--no-adaptive-speculation", *measured
    )
    assert outcome.code == 0
    assert "speculation=draft" in outcome.out
    assert "tokens for the model to verify" in outcome.out
    result = glasschat(
        "bench",
        "--model",
        model,
        "--draft",
        draft,
        "--speculation",
        "draft",
        "--no-adaptive-speculation",
        *measured,
        "--json",
    ).json["results"][0]
    assert result["phases"]["draft"] > 0
    assert result["decode_speed"]["median"] > 0


@pytest.mark.parametrize("command", [("run", *ASKED), ("bench", "--concurrency", 1, "--runs", 1)])
def test_a_draft_model_that_is_not_there_is_named(glasschat, model, command):
    outcome = glasschat(*command, "--model", model, "--draft", "/nowhere/at/all")
    assert outcome.code == 2
    last = outcome.err.splitlines()[-1]
    assert last.startswith("glasschat: ")
    assert "/nowhere/at/all" in last
    assert "Traceback" not in outcome.err


def test_a_draft_model_that_does_not_fit_is_refused_with_the_reason(glasschat, model, tmp_path):
    other = tiny.checkpoint(tmp_path, num_hidden_layers=1, eos_token_id=7)
    outcome = glasschat("run", "--model", model, *ASKED, "--draft", other)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith(f"glasschat: the draft model {other} can't draft for {model}: it ends its texts")
    assert "give --draft none" in outcome.err


def test_a_wrong_value_is_refused(glasschat, model):
    for flag, value, words in (
        ("--speculation", "always", "must be one of auto, off, draft, ngram"),
        ("--num-speculative-tokens", 0, "at least 1"),
    ):
        outcome = glasschat("run", "--model", model, *ASKED, flag, value)
        assert outcome.code == 2
        assert words in outcome.err


def test_bench_compares_the_ways_of_drafting(glasschat, model, draft):
    measured = ("--compare-speculation", "--concurrency", "1,2", "--gen-tokens", 6, "--runs", 1)
    outcome = glasschat("bench", "--model", model, "--draft", draft, *measured)
    assert outcome.code == 0, outcome.err
    for title in ("1 session, temperature 0:", "2 sessions, temperature 0.8:"):
        assert title in outcome.out
    assert outcome.out.count("draft, always 4") == 4
    told = glasschat("bench", "--model", model, "--draft", draft, *measured, "--json").json
    assert {(row["sessions"], row["temperature"]) for row in told["results"]} == {
        (1, 0.0),
        (1, 0.8),
        (2, 0.0),
        (2, 0.8),
    }
