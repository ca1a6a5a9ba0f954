"""Options: requested, effective, reason; and how big the KV pool is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest

from inference.engine.engine import Engine
from inference.engine.kv_pool import check_change, choose_size, free_memory
from inference.errors import ConfigError
from inference.model.loader import load
from inference.ops import attention, table
from inference.ops.packing import why_missing
from inference.ops.table import IDLE, Operation
from inference.protocol import EngineConfig, OptionState, SamplingParams
from tests.inference import tiny
from tests.inference.engine.harness import GREEDY, Run, engine, reference_tokens

GIB = 2**30


def states(run: Run) -> dict[str, OptionState]:
    return {state.name: state for state in run.engine.options}


def test_options_show_what_is_in_force_and_why(folder: Path) -> None:
    run = Run(engine(folder, num_kv_blocks=0, max_num_seqs=3))
    shown = states(run)
    assert all(state.reason for state in shown.values() if state.requested != state.effective)
    assert shown["num_kv_blocks"].effective == str(3 * 256 // 4)
    assert shown["num_kv_blocks"].reason == "room for 3 requests of 256 tokens"
    assert (shown["max_model_len"].requested, shown["max_model_len"].effective) == ("0", "256")
    assert (shown["dtype"].requested, shown["dtype"].effective) == ("auto", "float32")
    assert shown["enable_chunked_prefill"].effective == "on"
    assert not shown["block_size"].live


def test_a_context_longer_than_the_models_or_the_pool_is_cut_and_said(folder: Path) -> None:
    longer = states(Run(engine(folder, max_model_len=1000)))["max_model_len"]
    assert (longer.requested, longer.effective) == ("1000", "256")
    assert longer.reason == "the longest that the model was made for"
    small = states(Run(engine(folder, max_model_len=100, num_kv_blocks=10)))["max_model_len"]
    assert (small.effective, small.reason) == ("41", "the KV pool of 10 blocks holds no more")


def test_live_options_apply_from_the_next_step(folder: Path) -> None:
    run = Run(engine(folder))
    run.submit("a", range(20), GREEDY)
    run.step()
    answer = run.configure(max_num_batched_tokens=8, kernels="reference", enable_chunked_prefill=False)
    assert (answer.error, answer.step) == ("", 2)
    assert answer.options == run.engine.options
    shown = states(run)
    assert shown["kernels"].effective == "reference"
    assert shown["enable_chunked_prefill"].effective == "off"
    record = run.step()
    assert record.step == answer.step
    assert (record.config.max_num_batched_tokens, record.config.kernels) == (8, "reference")
    assert run.engine._runner.ops.choices()[0].implementation == "reference"
    run.configure(kernels="mlx,rope=reference")
    assert states(run)["kernels"].effective == "mlx,rope=reference"


def test_other_options_wait_for_a_restart(folder: Path) -> None:
    run = Run(engine(folder))
    assert run.configure(block_size=32).error == ""
    shown = states(run)["block_size"]
    assert (shown.requested, shown.effective) == ("32", "4")
    assert shown.reason == "takes effect when the engine restarts"
    run.configure(block_size=4)
    assert states(run)["block_size"].reason == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_num_seqs": 0}, "at least 1"),
        ({"max_num_seqs": True}, "a whole number"),
        ({"enable_chunked_prefill": "off"}, "true or false"),
        ({"kernels": "fast"}, "reference"),
        ({"colour": 1}, "there is no option 'colour'"),
        ({"dtype": "int8"}, "bfloat16"),
        ({"kv_cache_dtype": "int5"}, "int4"),
        ({"kv_cache_dtype": "int8"}, "groups of 32, but this model's heads have 16"),
    ],
)
def test_a_bad_change_changes_nothing(folder: Path, changes: dict[str, object], words: str) -> None:
    run = Run(engine(folder))
    before = run.engine.options
    answer = run.configure(max_num_batched_tokens=5, **changes)
    assert words in answer.error
    assert run.engine.options == answer.options == before


def test_a_smaller_batch_does_not_stop_those_that_run(folder: Path) -> None:
    run = Run(engine(folder))
    for name in "abc":
        run.submit(name, (1, 2), SamplingParams(temperature=0, max_tokens=5, ignore_eos=True))
    run.step()
    run.configure(max_num_seqs=1)
    assert states(run)["max_num_seqs"].reason == "3 requests run already and are not stopped"
    run.submit("d", (1, 2), SamplingParams(temperature=0, max_tokens=2, ignore_eos=True))
    run.finish()
    with_d = [r for r in run.records if any(s.request_id == "d" for s in r.scheduled)]
    assert all(len(record.scheduled) == 1 for record in with_d)


# --- how the cache is kept ---


def test_another_cache_type_recomputes_what_runs_and_loses_nothing(folder: Path) -> None:
    """There and back, so that no token is sampled from the narrower cache."""
    prompts = {"a": (1, 2, 3), "b": tuple(range(20)), "c": (7,)}
    run = Run(engine(folder))
    for name, prompt in prompts.items():
        run.submit(name, prompt, SamplingParams(temperature=0, max_tokens=8, ignore_eos=True))
    for _ in range(3):
        run.step()
    assert run.configure(kv_cache_dtype="bfloat16").error == ""
    assert states(run)["kv_cache_dtype"].effective == "bfloat16"
    run.configure(kv_cache_dtype="auto")
    assert states(run)["kv_cache_dtype"].effective == "float32"
    run.finish()
    told = [name for record in run.records for name in record.preempted]
    assert sorted(told) == sorted(prompts)
    for name, prompt in prompts.items():
        assert run.outcomes[name].token_ids == list(reference_tokens(folder, prompt, 8))


def computed_in(dtype: str, folder: Path, **options: str) -> Run:
    config = EngineConfig(num_kv_blocks=64, block_size=4, dtype=dtype, **options)  # type: ignore[arg-type]
    model = load(str(folder), dtype=dtype, kernels=config.kernels, activations=config.activations)
    return Run(Engine(model, config))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_the_bits_say_where_they_are_slow(folder: Path, dtype: str) -> None:
    """On a CPU MLX's operations are slow in them, and ours are not."""
    run = computed_in(dtype, folder, kernels="mlx")
    on_cpu = mx.default_device().type == mx.DeviceType.cpu
    assert states(run)["dtype"].effective == states(run)["kv_cache_dtype"].effective == dtype
    assert ("slower on a CPU than float32" in states(run)["dtype"].reason) == on_cpu
    if not why_missing():
        run.configure(kernels="native")
        assert states(run)["dtype"].reason == ""
    outcome = run.submit("a", range(20), replace(GREEDY, max_tokens=4))
    run.finish()
    assert len(outcome.token_ids) == 4


@pytest.mark.skipif(bool(why_missing()), reason="no native kernels here")
@pytest.mark.parametrize("activations", ["exact", "bfloat16", "int8"])
def test_a_model_in_bfloat16_is_computed_by_our_own_kernels_alone(checkpoints: Path, activations: str) -> None:
    folder = tiny.checkpoint(checkpoints, dtype="bfloat16", quantization={"bits": 4, "group_size": 32}, spread=4.0)
    found = []
    for kernels in ("native", "reference"):
        run = computed_in("bfloat16", folder, kernels=kernels, activations=activations)
        used = {c.implementation for c in run.engine._runner.ops.choices() if c.operation not in IDLE}
        assert used <= {kernels, "parts"}
        assert states(run)["kernels"].effective == kernels
        found.append(run.submit("a", range(20), replace(GREEDY, max_tokens=4)))
        run.finish()
    # What is rounded so coarsely may part after some tokens.
    assert found[0].token_ids[:2] == found[1].token_ids[:2]


@pytest.mark.parametrize("layout", ["dense", "none"])
def test_an_engine_that_starts_without_pages_shares_no_blocks(folder: Path, layout: str) -> None:
    run = Run(engine(folder, kv_layout=layout))
    for name in "ab":
        run.submit(name, tuple(range(20)), SamplingParams(temperature=0, max_tokens=3, ignore_eos=True))
        run.finish()
    assert states(run)["enable_prefix_caching"].effective == "off"
    assert not any(record.lookups or record.blocks.cached for record in run.records)
    assert run.outcomes["a"].token_ids == run.outcomes["b"].token_ids


@pytest.mark.parametrize("kernels", ["auto", "mlx", "reference"])
@pytest.mark.parametrize("kept", ["bfloat16", "int8", "int4"])
def test_a_narrow_cache_serves_a_batch_as_it_serves_one(checkpoints: Path, kernels: str, kept: str) -> None:
    folder = tiny.checkpoint(checkpoints, hidden_size=128, num_attention_heads=4, num_key_value_heads=2)
    prompts = {str(i): tuple(range(i, i + 9 + i)) for i in range(4)}
    params = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)
    alone = {}
    for name, prompt in prompts.items():
        single = Run(engine(folder, kv_cache_dtype=kept, kernels=kernels))
        single.submit(name, prompt, params)
        single.finish()
        alone[name] = single.outcomes[name].token_ids
    together = Run(engine(folder, kv_cache_dtype=kept, kernels=kernels))
    for name, prompt in prompts.items():
        together.submit(name, prompt, params)
    together.finish()
    assert {name: together.outcomes[name].token_ids for name in prompts} == alone
    assert states(together)["kv_cache_dtype"].effective == kept


def test_a_wider_cache_that_does_not_fit_is_refused_with_numbers() -> None:
    check_change(1000, 2000, 1000, lambda: 0)
    with pytest.raises(ConfigError, match=r"would take 1\.00 GiB more, but only 0\.50 GiB"):
        check_change(2**20, 1024, 2048, lambda: GIB // 2)


# --- the pool's size ---


def test_the_pool_has_room_for_every_place_in_the_batch_if_memory_allows() -> None:
    size = choose_size(EngineConfig(max_num_seqs=4, block_size=16), 1000, 2000, lambda: GIB)
    assert size.num_blocks == 4 * 125
    long = choose_size(EngineConfig(max_num_seqs=4), 1000, 32768, lambda: 64 * GIB)
    assert long.num_blocks * 16 == 4 * 8192
    many = choose_size(EngineConfig(max_num_seqs=16), 1000, 32768, lambda: 64 * GIB)
    assert many.num_blocks * 16 == 16 * 4096


def test_the_pool_takes_a_share_of_the_memory_at_most() -> None:
    size = choose_size(EngineConfig(), 57344, 32768, lambda: GIB)
    assert size.num_blocks * 16 * 57344 <= GIB / 4
    assert size.reason == "25% of the 1.00 GiB of memory that are free"


def test_a_pool_that_does_not_fit_is_refused_with_numbers() -> None:
    with pytest.raises(ConfigError, match=r"num_kv_blocks is 5000, which takes 4\.27 GiB, but only 1\.00 GiB"):
        choose_size(EngineConfig(num_kv_blocks=5000), 57344, 32768, lambda: GIB)
    with pytest.raises(ConfigError, match="lower block_size"):
        choose_size(EngineConfig(), 57344, 32768, lambda: 2**20)


def test_free_memory_is_a_sensible_number() -> None:
    assert 2**26 < free_memory() < 2**50


# --- flash or plain attention ---


@pytest.mark.skipif(bool(why_missing()), reason="no native kernels here")
def test_attention_is_flash_or_plain_by_a_switch_of_its_own(folder: Path) -> None:
    run = Run(engine(folder, kernels="native"))
    shown = states(run)["attention"]
    assert (shown.requested, shown.effective, shown.live) == ("auto", "flash", True)
    assert shown.reason == "our own kernel, by what kernels says"
    run.submit("a", range(20), GREEDY)
    run.step()
    answer = run.configure(attention="plain")
    shown = states(run)["attention"]
    assert (shown.requested, shown.effective, shown.reason) == ("plain", "plain", "")
    assert states(run)["kernels"].effective == "native,paged_attention=reference"
    assert "attention has a switch of its own" in states(run)["kernels"].reason
    record = run.step()
    assert record.step == answer.step
    assert record.config.attention == "plain"
    implementations = {c.operation: c.implementation for c in run.engine._runner.ops.choices()}
    assert (implementations["paged_attention"], implementations["decoder_layer"]) == ("reference", "parts")
    run.configure(attention="flash")
    assert states(run)["attention"].effective == "flash"
    assert states(run)["kernels"].effective == "native"
    for _ in range(6):
        run.step()
    found = tuple(run.outcomes["a"].token_ids)
    assert found == reference_tokens(folder, tuple(range(20)), 10)[: len(found)]


@pytest.mark.skipif(bool(why_missing()), reason="no native kernels here")
def test_its_switch_has_the_last_word_on_attention(folder: Path) -> None:
    run = Run(engine(folder, kernels="mlx,paged_attention=reference", attention="flash"))
    assert states(run)["attention"].effective == "flash"
    assert states(run)["kernels"].effective == "mlx,paged_attention=native"


def test_where_there_is_no_flash_attention_the_reason_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a compiler: MLX's own attention computes all scores on a CPU."""
    without = {
        name: Operation(each.doc, {kind: f for kind, f in each.implementations.items() if kind != "native"})
        for name, each in table.OPERATIONS.items()
    }
    for module in (table, attention):
        monkeypatch.setattr(module, "OPERATIONS", without)
    shown = states(Run(engine(folder, kernels="auto", attention="flash")))["attention"]
    assert (shown.requested, shown.effective) == ("flash", "plain")
    assert shown.reason.startswith("MLX's, which computes all scores at once on a CPU; ")
    auto = states(Run(engine(folder, kernels="auto")))["attention"]
    assert (auto.effective, auto.reason) == ("plain", "MLX's, which computes all scores at once on a CPU")
    plain = states(Run(engine(folder, attention="plain")))["attention"]
    assert (plain.effective, plain.reason) == ("plain", "")
