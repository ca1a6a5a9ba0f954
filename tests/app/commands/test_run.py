"""`glasschat run`: an answer to stdout, or one JSON object, or one sentence and exit code 2."""

import subprocess
import sys

import pytest


def test_prints_the_answer_and_nothing_else(glasschat, model):
    outcome = glasschat("run", "--model", model, "-p", "the cat", "--max-tokens", 8)
    assert outcome.code == 0
    assert outcome.out.endswith("\n")
    assert outcome.err == ""


def test_json_holds_what_a_script_needs(glasschat, model):
    outcome = glasschat("run", "--model", model, "-p", "the cat", "--max-tokens", 5, "--ignore-eos", "--json")
    answer = outcome.json
    assert len(answer["token_ids"]) == 5
    assert answer["finish_reason"] == "length"
    assert answer["prompt_token_ids"]
    assert answer["timings"]["output_tokens"] == 5
    assert {option["name"] for option in answer["effective_config"]} >= {"max_num_seqs", "kernels", "dtype"}


def test_streamed_text_and_json_text_are_the_same(glasschat, model):
    asked = ("run", "--model", model, "-p", "the cat sat", "--max-tokens", 12)
    streamed, whole = glasschat(*asked), glasschat(*asked, "--json")
    assert streamed.out.rstrip("\n") == whole.json["text"].rstrip("\n")


def test_the_prompt_may_come_through_a_pipe(glasschat, model):
    asked = ("run", "--model", model, "--max-tokens", 4)
    assert glasschat(*asked, stdin="the cat").out == glasschat(*asked, "-p", "the cat").out


def test_raw_leaves_out_the_chat_template(glasschat, model):
    asked = ("run", "--model", model, "-p", "cat", "--max-tokens", 1, "--json")
    assert len(glasschat(*asked, "--raw").json["prompt_token_ids"]) < len(glasschat(*asked).json["prompt_token_ids"])


def test_a_seed_repeats_an_answer_and_another_changes_it(glasschat, model):
    def answer(seed):
        asked = (
            "run",
            "--model",
            model,
            "-p",
            "the",
            "--temperature",
            1.5,
            "--max-tokens",
            12,
            "--ignore-eos",
            "--json",
        )
        return glasschat(*asked, "--seed", seed).json["token_ids"]

    assert answer(1) == answer(1) != answer(2)


def test_engine_options_are_flags_and_come_back_as_effective(glasschat, model):
    asked = ("run", "--model", model, "-p", "the cat", "--max-tokens", 2, "--json")
    outcome = glasschat(*asked, "--block-size", 4, "--no-enable-chunked-prefill", "--kernels", "reference")
    effective = {option["name"]: option["effective"] for option in outcome.json["effective_config"]}
    assert effective["block_size"] == "4"
    assert effective["kernels"] == "reference"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-p", "  "], ["prompt is empty"]),
        (["-p", "x", "--temperature", "-1"], ["temperature is -1", "between 0 and 100"]),
        (["-p", "x", "--top-p", "0"], ["top_p"]),
        (["-p", "x", "--max-tokens", "0"], ["max_tokens"]),
        (["-p", "x", "--stop", ""], ["stop string is empty"]),
        (["-p", "x", "--raw", "--system", "y"], ["--system", "--raw"]),
        (["-p", "x", "--block-size", "0"], ["block_size"]),
        (["-p", "x", "--kernels", "cuda"], ["kernels", "auto"]),
        (["-p", "x", "--dtype", "int8"], ["dtype", "bfloat16"]),
        (["-p", "x", "--logit-bias", "5"], ["--logit-bias", "42=-5"]),
        (["-p", "the cat " * 2000], ["tokens", "1024"]),
        (["-p", "the cat " * 200, "--num-kv-blocks", "2"], ["tokens", "num_kv_blocks"]),
        (["--model", "/nowhere", "-p", "x"], ["/nowhere"]),
        (["--model", "synthetic:3b", "-p", "x"], ["0.5b"]),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(glasschat, model, arguments, words):
    outcome = glasschat("run", "--model", model, *arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("glasschat: ")
    assert outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err


def test_a_bad_flag_shows_the_usage(glasschat):
    outcome = glasschat("run", "--temprature", "1")
    assert outcome.code == 2
    assert "usage: glasschat run" in outcome.err


def test_an_unknown_command_names_the_known_ones(glasschat):
    outcome = glasschat("rnu")
    assert outcome.code == 2
    assert "bench" in outcome.err


def test_a_reader_that_leaves_early_is_no_error(model):
    command = f"{sys.executable} -m app.cli run --model {model} -p cat --max-tokens 400 --ignore-eos | head -c 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, timeout=120)
    assert done.stderr == b""
    assert done.returncode == 0
