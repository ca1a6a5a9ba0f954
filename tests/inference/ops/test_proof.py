"""A kernel earns its place: it is used where it agrees and is no slower, and what was found is kept."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from inference.ops import proof, stopwatch, verdicts
from inference.ops.cases import CONCERNS
from inference.ops.demands import ORDINARY, Demands
from inference.ops.packing import why_missing
from inference.ops.proof import UNASKED, filed_under, proven, trusted
from inference.ops.table import IDLE, LAYER, OPERATIONS, PARTS, OpChoice, OpTable
from inference.ops.verdicts import Race, Verdict, Verdicts
from tests.inference.ops.kernels import Machine

native_only = pytest.mark.skipif(bool(why_missing()), reason="no native kernels here")

SMALL = replace(
    ORDINARY, hidden=64, inner=96, heads=4, kv_heads=2, head_size=16, vocabulary=331, matrices=((0, 0), (4, 32))
)


ASKED = [name for name in OPERATIONS if name not in IDLE]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path / "cache")


def choices(spec: str, demands: Demands = SMALL) -> dict[str, OpChoice]:
    return {choice.operation: choice for choice in trusted(spec, demands).choices()}


def start_again() -> None:
    """What is in memory is gone, as in a new process."""
    verdicts._opened.cache_clear()


@native_only
@pytest.mark.parametrize("spec", ["auto", "native"])
def test_kernels_that_agree_and_keep_up_are_used(machine: Machine, spec: str) -> None:
    found = choices(spec)
    idle = found.pop("expert_linear")
    assert (idle.implementation, idle.reason) == ("mlx", UNASKED)
    assert {each.implementation for each in found.values()} == {"native"}
    assert all(each.ratio == pytest.approx(1) for each in found.values())
    assert all("agrees with the reference" in each.reason for each in found.values()) == (spec == "auto")


@native_only
def test_what_no_model_is_made_of_is_looked_at_where_it_is_asked_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = counted(monkeypatch)
    choices("native")
    assert "expert_linear" not in looked
    assert choices("mlx,expert_linear=native")["expert_linear"].implementation == "native"
    assert looked.count("expert_linear") == 1
    start_again()
    machine.break_kernel("expert_linear")
    verdicts.verdicts().forget()
    found = choices("expert_linear=native")["expert_linear"]
    assert found.implementation == "mlx"
    assert "differs from the reference by" in found.reason


@native_only
@pytest.mark.parametrize("operation", ASKED)
def test_a_wrong_kernel_is_refused_and_named_whoever_asks_for_it(machine: Machine, operation: str) -> None:
    machine.break_kernel(operation)
    for spec in ("auto", "native", f"{operation}=native", f"mlx,{operation}=native"):
        found = choices(spec)
        assert found[operation].implementation != "native"
        assert "differs from the reference by" in found[operation].reason or spec == f"mlx,{LAYER}=native"
    found = choices("auto")
    others = {each.implementation for name, each in found.items() if name not in (operation, LAYER, *IDLE)}
    assert others == {"native"}
    layer = found[LAYER]
    if operation in PARTS:
        assert layer.reason == f"not all parts of a layer are our own kernels: {operation}"
    assert layer.implementation == ("parts" if operation in (*PARTS, LAYER) else "native")


def _nan(honest: Callable[..., Any], x: mx.array, *rest: Any) -> Any:
    return honest(x, *rest) * mx.nan


def _wrong_for_a_batch(honest: Callable[..., Any], x: mx.array, *rest: Any) -> Any:
    return honest(x, *rest) * (1 if len(x) == 1 else 1.01)


def _raises(honest: Callable[..., Any], *rest: Any) -> Any:
    raise ValueError("heads have an even size")


def _narrow(honest: Callable[..., Any], *rest: Any) -> Any:
    return honest(*rest)[:, :-1]


@native_only
@pytest.mark.parametrize("kernel", [_nan, _wrong_for_a_batch, _raises, _narrow])
def test_all_ways_of_being_wrong(machine: Machine, kernel: Callable[..., Any]) -> None:
    machine.replace("rms_norm", kernel)
    for _ in range(2):
        choice = choices("native")["rms_norm"]
        assert choice.implementation == "mlx"
        assert "our own kernel" in choice.reason
        start_again()  # what is kept says the same


@native_only
def test_a_kernel_that_fails_later_is_used_no_more(machine: Machine) -> None:
    """Nor at a later start; and an error of something else is none of its."""
    table = trusted("auto", SMALL)
    assert not proof.refuse(RuntimeError("memory ran out"), table, SMALL)
    assert not proof.refuse(RuntimeError("Metal kernel RoPE: no room"), OpTable.select("mlx"), SMALL)
    assert choices("auto")["rope"].implementation == "native"
    assert proof.refuse(RuntimeError("Metal kernel RoPE: no room"), table, SMALL)
    for spec in ("auto", "native", "rope=native"):
        start_again()
        found = choices(spec)
        assert found["rope"].implementation == "mlx"
        assert found["rope"].reason == "our own kernel fails on this machine: Metal kernel RoPE: no room"
        assert {name for name, each in found.items() if each.implementation != "native"} <= {"rope", LAYER, *IDLE}


@native_only
def test_a_slow_kernel_is_used_only_where_it_is_asked_for(machine: Machine) -> None:
    machine.slow_down("linear", 0.05)
    slow = choices("auto")["linear"]
    assert slow.implementation == "mlx"
    assert "slower than MLX's own" in slow.reason
    assert slow.ratio < 0.5
    assert choices("auto")[LAYER].implementation == "parts"
    for spec in ("native", "linear=native"):
        assert choices(spec)["linear"].implementation == "native"
    assert choices("native")[LAYER].implementation == "native"


@native_only
@pytest.mark.parametrize(("seconds", "implementation"), [(0.0005, "native"), (0.004, "mlx")])
def test_a_near_tie_is_no_defeat(machine: Machine, seconds: float, implementation: str) -> None:
    machine.slow_down("largest", seconds)
    assert choices("auto")["largest"].implementation == implementation


@native_only
def test_a_layer_in_one_go_has_to_beat_its_parts(machine: Machine) -> None:
    machine.slow_down(LAYER, 0.05)
    found = choices("auto")
    assert {name for name, each in found.items() if each.implementation != "native"} == {LAYER, *IDLE}
    assert "slower than its parts" in found[LAYER].reason
    assert choices("native")[LAYER].implementation == "native"


@native_only
def test_a_small_kernel_that_lost_by_itself_comes_back_with_the_layer(machine: Machine) -> None:
    machine.slow_down("rms_norm", 0.004)
    assert not proven(SMALL)["rms_norm"].earns
    found = choices("auto")
    assert found[LAYER].implementation == found["rms_norm"].implementation == "native"
    assert "its parts" in found["rms_norm"].reason
    # Not where the layer is none of ours.
    assert choices("auto,decoder_layer=parts")["rms_norm"].implementation == "mlx"


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations that are looked at from now on."""
    looked: list[str] = []
    look = proof._look

    def look_and_count(operation: str, *rest: Any) -> Verdict:
        looked.append(operation)
        return look(operation, *rest)

    monkeypatch.setattr(proof, "_look", look_and_count)
    return looked


@native_only
def test_what_was_found_is_read_at_the_next_start(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.break_kernel("rope")
    looked, told = counted(monkeypatch), list[str]()
    trusted("auto", SMALL, told.append)
    before = choices("auto")
    start_again()
    trusted("auto", SMALL, told.append)
    assert choices("auto") == before
    assert sorted(looked) == sorted(ASKED)
    assert told == ["trying our own kernels, once on this machine"]
    trusted("auto", replace(SMALL, hidden=128))
    assert len(looked) > len(ASKED)


@native_only
def test_a_kernel_that_was_slow_is_given_other_chances(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.slow_down("largest", 0.05)
    looked = counted(monkeypatch)
    for start in range(1, 6):
        for _ in range(2):  # once in a process
            assert choices("auto")["largest"].implementation == "mlx"
        assert looked.count("largest") == min(start, 3)
        assert len(looked) == len(ASKED) - 1 + min(start, 3)
        start_again()


@native_only
def test_a_machine_that_was_busy_once_is_not_slow_for_ever(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as busy:
        Machine(busy, machine.cache).slow_down("largest", 0.05)
        assert choices("auto")["largest"].implementation == "mlx"
    start_again()
    looked = counted(monkeypatch)
    assert choices("auto")["largest"].implementation == "native"
    machine.slow_down("largest", 0.05)
    start_again()
    assert choices("auto")["largest"].implementation == "native"  # and that is final
    assert looked == ["largest"]


@native_only
def test_a_change_has_only_what_it_concerns_looked_at(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = counted(monkeypatch)
    trusted("auto", SMALL)
    assert sorted(looked) == sorted(ASKED)
    for changed, concerned in [
        (SMALL.under("exact", "float16"), {"write_kv", "paged_attention", LAYER}),
        (SMALL.under("int8", "float32"), {"linear", LAYER}),
        (replace(SMALL, vocabulary=400), {"largest", "greedy", "draw"}),
    ]:
        looked.clear()
        trusted("auto", changed)
        assert set(looked) == concerned
    looked.clear()
    trusted("mlx", replace(SMALL, dtype="bfloat16"))
    assert not looked  # nothing of ours is asked for


@native_only
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_written_anew(tmp_path: Path, data: st.DataObject) -> None:
    path, origin = tmp_path / "kept.json", {"device": "a"}
    path.unlink(missing_ok=True)
    verdict = Verdict(1e-7, 1e-4, "float32", (Race("decode", 1, 1e-5, 2e-5),), "2026-01-02")
    Verdicts(path, origin).add({"rope": verdict})
    whole = path.read_bytes()
    kind = data.draw(st.sampled_from(["cut", "noise", "other"]))
    if kind == "cut":
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    elif kind == "noise":
        path.write_bytes(data.draw(st.binary(max_size=200)))
    else:
        # A part of it is something else.
        part = data.draw(st.sampled_from(["origin", "verdicts", "rope", "races", "ours", "error"]))
        kept = json.loads(whole)
        rope = kept["verdicts"]["rope"]
        place = {"rope": kept["verdicts"], "races": rope, "error": rope, "ours": rope["races"][0]}.get(part, kept)
        place[part] = data.draw(st.sampled_from([None, "x", [1], {"a": 1}, -1, float("nan")]))
        assume(part != "error" or not isinstance(place[part], (int, float)))
        path.write_text(json.dumps(kept))
    damaged = Verdicts(path, origin)
    assert dict(damaged) == {}
    damaged.add({"greedy": verdict})
    assert dict(Verdicts(path, origin)) == {"greedy": verdict}


def test_two_versions_keep_their_own_verdicts(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = Verdict(float("nan"), 1e-4, "float16", (), "2026-01-02")
    verdicts.verdicts().add({"rope": verdict})
    monkeypatch.setattr(verdicts, "_code", lambda: "of another build")
    assert not verdicts.verdicts()
    verdicts.verdicts().add({"greedy": replace(verdict, error=0.0)})
    assert len(list((machine.cache / "kernels").iterdir())) == 2
    monkeypatch.undo()
    monkeypatch.setenv("GLASSCHAT_CACHE", str(machine.cache))
    start_again()
    assert list(verdicts.verdicts()) == ["rope"]
    assert not verdicts.verdicts()["rope"].agrees


def test_a_file_of_another_origin_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    verdict = Verdict(0.0, 1e-4, "float32", (), "2026-01-02")
    Verdicts(path, {"device": "a"}).add({"rope": verdict})
    assert not Verdicts(path, {"device": "b"})


def _write(path: Path, name: str) -> None:
    verdict = Verdict(0.0, 1e-4, "float32", (Race("decode", 1, 1e-5, 2e-5),), "2026-01-02")
    for i in range(40):
        Verdicts(path, {"device": "a"}).add({f"{name} {i}": verdict})


def test_engines_that_write_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, name)) for name in ("one", "other")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            json.loads(path.read_text())  # at any moment
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    found = Verdicts(path, {"device": "a"})
    assert {"one 39", "other 39"} & set(found)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@native_only
def test_a_cache_that_can_not_be_written_is_no_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    Machine(monkeypatch, tmp_path / "file" / "cache")
    assert choices("auto")["linear"].implementation == "native"


@given(
    heads=st.integers(1, 8),
    kv_heads=st.sampled_from([1, 2, 3, 4, 8, 32]),
    head_size=st.sampled_from([64, 80, 96, 128]),
    hidden=st.sampled_from([256, 896, 3584]),
    inner=st.sampled_from([768, 4864, 18942, 18944]),
)
def test_models_are_cut_down_to_ones_of_their_kind(
    heads: int, kv_heads: int, head_size: int, hidden: int, inner: int
) -> None:
    whole = replace(
        ORDINARY, hidden=hidden, inner=inner, heads=heads * kv_heads, kv_heads=kv_heads, head_size=head_size
    )
    small = whole.cut()
    assert small.heads // small.kv_heads == heads
    assert small.kv_heads <= kv_heads
    assert small.hidden <= hidden
    for group in (32, 64, 128):
        for fields in (("hidden",), ("inner",), ("heads", "head_size")):
            before, after = (_product(each, fields) for each in (whole, small))
            assert before % group or not after % group
    assert small.inner % 4 == whole.inner % 4
    assert small.cut() == small
    assert all(filed_under(name, whole) == filed_under(name, small) for name in CONCERNS)


def _product(demands: Demands, names: tuple[str, ...]) -> int:
    total = 1
    for name in names:
        total *= getattr(demands, name)
    return total


def _verdict(*ratios: float) -> Verdict:
    races = tuple(Race("a step", 1, 1.0, ratio) for ratio in ratios)
    return Verdict(0.0, 1e-4, "float32", races, "2026-01-02")


def test_two_looks_count_as_their_best() -> None:
    first, second = _verdict(1.0, 4.0), _verdict(0.5, 8.0)
    assert second.after(None) is second
    both = second.after(first)
    assert both.looks == 2
    assert [(race.ours, race.theirs) for race in both.races] == [(1, 0.5), (1, 4)]
    broken = replace(first, error=1.0, races=())
    assert second.after(broken) is second
    assert broken.after(second) is broken
    assert not _verdict(0.5).final
    assert replace(_verdict(0.5), looks=3).final
    assert first.final
    assert broken.final


def test_what_a_verdict_amounts_to() -> None:
    assert _verdict(1.0, 4.0).ratio == pytest.approx(2)
    assert _verdict(0.91).earns
    assert not _verdict(0.89).earns
    assert _verdict(0.5, 3).earns
    assert not _verdict().earns
    # On a GPU a fast decode does not make up for a slow prefill.
    assert replace(_verdict(1.2, 4.0), by_step=True).ratio == pytest.approx(1.2)
    assert replace(_verdict(0.96, 3), by_step=True).earns
    assert not replace(_verdict(0.94, 3), by_step=True).earns
    assert not replace(_verdict(), by_step=True).earns
    assert not replace(_verdict(9.0), error=float("nan")).earns
    assert not replace(_verdict(9.0), error=1.0).earns


@given(
    mine=st.floats(1e-6, 0.002),
    theirs=st.floats(1e-6, 0.002),
    delays=st.lists(st.floats(0, 10), max_size=4),
)
def test_the_best_of_several_runs_counts(mine: float, theirs: float, delays: list[float]) -> None:
    """Runs that were held up do not make us slower than we are, if there is time for others."""
    now, pending = 0.0, list(delays)

    def run(seconds: float) -> None:
        nonlocal now
        now += seconds

    def held_up() -> None:
        run(mine + (pending.pop() / 1000 if pending else 0))

    before = stopwatch.clock
    stopwatch.clock = lambda: now
    try:
        ours, others = stopwatch.race(held_up, lambda: run(theirs))
    finally:
        stopwatch.clock = before
    assert others == pytest.approx(theirs)
    assert mine <= ours * (1 + 1e-6)
    assert ours == pytest.approx(mine) or theirs > 1.5 * ours
