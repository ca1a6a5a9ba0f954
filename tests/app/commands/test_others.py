"""`glasschat bench`, `models` and `doctor`: what they print, and their exit codes."""

import json
import re

import pytest

from inference.ops import native, table
from inference.ops.packing import why_missing

native_only = pytest.mark.skipif(bool(why_missing()), reason="no native kernels here")


def test_bench_measures_every_workload_and_says_on_what(glasschat, model):
    asked = ("bench", "--model", model, "--prompt-tokens", 12, "--gen-tokens", 4, "--concurrency", "1,3", "--runs", 2)
    report = glasschat(*asked, "--json").json
    assert [result["workload"]["concurrency"] for result in report["results"]] == [1, 3]
    for result in report["results"]:
        assert result["prefill_speed"]["low"] <= result["prefill_speed"]["median"] <= result["prefill_speed"]["high"]
        assert result["decode_speed"]["low"] > 0
        assert result["ttft"]["low"] > 0
        assert result["phases"]["compute"] > 0
    assert report["machine"]["mlx"]
    text = glasschat(*asked).out
    for word in ("decode tok/s", "TTFT", "ITL p95", "compute", "max_num_batched_tokens="):
        assert word in text


def test_bench_refuses_what_does_not_fit_the_model(glasschat, model):
    outcome = glasschat("bench", "--model", model, "--prompt-tokens", 5000)
    assert outcome.code == 2
    assert "5000 tokens" in outcome.err.splitlines()[-1]


@pytest.mark.parametrize("flag", [("--concurrency", "1,0"), ("--concurrency", "many"), ("--runs", "0")])
def test_bench_refuses_senseless_numbers(glasschat, flag):
    outcome = glasschat("bench", *flag)
    assert outcome.code == 2
    assert flag[0] in outcome.err


def test_models_lists_what_is_here_and_inspects_a_directory(glasschat, model):
    assert "demo" in glasschat("models").out
    assert {entry["ref"] for entry in glasschat("models", "--json").json} >= {"demo"}
    shape = glasschat("models", "inspect", model, "--json").json
    assert shape["num_layers"] == 2
    assert shape["kv_bytes_per_token"] == 2 * 2 * 2 * 16 * 4  # K and V, layers, KV heads, head size, float32
    assert "512 bytes per token" in glasschat("models", "inspect", model).out


def test_a_model_that_is_not_there_is_named(glasschat):
    outcome = glasschat("models", "inspect", "./nowhere")
    assert outcome.code == 2
    assert "nowhere" in outcome.err


def test_chat_without_a_terminal_points_to_run(glasschat):
    outcome = glasschat("chat")
    assert outcome.code == 2
    assert "glasschat run" in outcome.err


def test_doctor_checks_every_operation_and_explains_its_choice(glasschat):
    report = glasschat("doctor", "--json").json
    findings = {finding["subject"]: finding for finding in report["findings"]}
    for operation in table.OPERATIONS:
        assert findings[operation]["status"] == "ok"
        detail = findings[operation]["detail"]
        assert "difference from the reference" in detail or "each compared by itself" in detail
    assert report["failed"] == 0


def test_doctor_checks_products_with_rounded_activations_by_themselves(glasschat):
    findings = {f["subject"]: f for f in glasschat("doctor", "--json").json["findings"]}
    for activations in ("int8", "bfloat16"):
        for operation in ("linear", table.LAYER):
            assert findings[f"{operation}, {activations}"]["status"] == "ok"
        assert "difference from the reference: float32" in findings[f"linear, {activations}"]["detail"]
        assert f"rms_norm, {activations}" not in findings


@native_only
def test_doctor_names_a_rounded_product_that_computes_wrong(glasschat, monkeypatch):
    honest = native.int8_linear
    monkeypatch.setattr(native, "int8_linear", lambda x, weight: honest(x, weight) * 1.2)
    outcome = glasschat("doctor")
    assert outcome.code == 1
    assert "FAIL  linear, int8" in outcome.out
    assert "FAIL  linear  " not in outcome.out


def _break(monkeypatch, operation, implementation):
    honest = table.OPERATIONS[operation].implementations[implementation]

    def wrong(*arguments):
        return honest(*arguments) * 1.2

    implementations = {**table.OPERATIONS[operation].implementations, implementation: wrong}
    broken = table.Operation(table.OPERATIONS[operation].doc, implementations)
    monkeypatch.setitem(table.OPERATIONS, operation, broken)


def test_doctor_names_an_operation_that_computes_wrong(glasschat, monkeypatch):
    _break(monkeypatch, "rms_norm", "mlx")
    outcome = glasschat("doctor", "--kernels", "mlx")
    assert outcome.code == 1
    assert "FAIL  rms_norm" in outcome.out
    assert "rms_norm=reference" in outcome.out


@native_only
def test_a_kernel_of_ours_that_computes_wrong_is_named_and_the_chat_goes_on(glasschat, monkeypatch, model):
    asked = ("run", "--model", model, "-p", "hi", "--max-tokens", 12, "--temperature", 0, "--json")
    right = glasschat(*asked, "--kernels", "mlx").json["text"]
    _break(monkeypatch, "rms_norm", "native")
    outcome = glasschat("doctor")
    assert outcome.code == 1
    assert (
        "FAIL  rms_norm                mlx (our own kernel differs from the reference by 2e-01 in float32"
        in outcome.out
    )
    assert "ok  rope                    native" in outcome.out
    assert "not all parts of a layer are our own kernels: rms_norm" in outcome.out
    answer = glasschat(*asked, "--kernels", "native").json
    assert answer["text"] == right
    kernels = next(option for option in answer["effective_config"] if option["name"] == "kernels")
    assert "rms_norm=mlx" in kernels["effective"]
    assert "differs from the reference" in kernels["reason"]


@native_only
def test_doctor_keeps_what_it_found_until_it_is_asked_again(glasschat, monkeypatch):
    found = glasschat("doctor").out
    assert "as fast for 1 row" in found
    assert "as fast for 32 rows" in found
    # Each operation's, those of two roundings of three, `embedding` again, with quantized matrices, and those of AMX.
    by_tiles = found.count("products of many rows by AMX")
    assert f"{len(table.OPERATIONS) + 2 * 3 + 1 + by_tiles} verdicts in" in found
    _break(monkeypatch, "rope", "native")
    findings = {finding["subject"]: finding for finding in glasschat("doctor", "--json").json["findings"]}
    assert "our own kernel" not in findings["rope"]["detail"]  # as it was found before
    assert "FAIL  rope                    mlx (our own kernel differs" in glasschat("doctor", "--again").out


@native_only
def test_doctor_lists_what_other_models_asked_for(glasschat, model):
    """One line for each verdict, good ones too."""
    glasschat("run", "--model", model, "-p", "hi", "--max-tokens", 1)
    before = {json.dumps(finding) for finding in glasschat("doctor", "--json").json["findings"]}
    lines = [json.loads(finding)["detail"] for finding in before if json.loads(finding)["subject"] == "kernels"]
    (rope,) = [line for line in lines if line.startswith("rope ")]
    assert re.match(r"rope heads=\d+ kv_heads=\d+ head_size=\d+ dtype=\w+: ours ", rope)
    assert re.search(r"as fast for 1 row, [\d.]+× as fast for 32 rows, measured \d{4}-\d\d-\d\d", rope)


def test_doctor_without_a_compiler_says_what_is_missed(glasschat, monkeypatch):
    monkeypatch.setattr("inference.doctor.COMPILERS", ("no-such-compiler",))
    monkeypatch.delenv("CXX", raising=False)
    outcome = glasschat("doctor")
    assert outcome.code == 0
    assert "note  C++ compiler" in outcome.out


def test_doctor_on_a_machine_where_mlx_can_not_compute(glasschat, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("[metal::load_device] No Metal device available. This typically occurs\nelsewhere")

    monkeypatch.setattr("mlx.core.zeros", fail)
    outcome = glasschat("doctor")
    assert outcome.code == 1
    said = "can't compute here: [metal::load_device] No Metal device available."
    assert f"FAIL  MLX                     {said}" in outcome.out
    assert "Traceback" not in outcome.err


def test_doctor_finds_a_directory_that_can_not_be_written(glasschat, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GLASSCHAT_DATA", str(tmp_path / "file" / "data"))
    outcome = glasschat("doctor")
    assert outcome.code == 1
    assert "GLASSCHAT_DATA" in outcome.out


def test_accuracy_says_how_far_predictions_move(glasschat, model):
    outcome = glasschat("accuracy", "--model", model, "--tokens", 20, "--change", "kernels=reference")
    assert outcome.code == 0
    for word in ("kernels auto → reference", "perplexity", "log-prob", "same choice"):
        assert word in outcome.out
    asked = ("accuracy", "--model", model, "--tokens", 20, "--change", "dtype=bfloat16", "--json")
    assert 0 < glasschat(*asked).json["mean"] < 0.1


def test_accuracy_says_when_a_change_has_no_effect(glasschat, model):
    outcome = glasschat("accuracy", "--model", model, "--tokens", 20)
    assert "no effect here" in outcome.out


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--change", "activations"), "OPTION=VALUE"),
        (("--change", "speed=fast"), "OPTION=VALUE"),
        (("--change", "max_num_seqs=3"), "no effect"),
        (("--change", "activations=int3"), "exact, bfloat16, int8"),
        (("--text", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_accuracy_refuses_what_it_can_not_compare(glasschat, model, flags, told):
    outcome = glasschat("accuracy", "--model", model, *flags)
    assert outcome.code == 2
    assert told in outcome.err
