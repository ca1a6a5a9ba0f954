"""The operation table on a GPU, here in the emulator: kernels earn their place there as on the CPU."""

import json
from dataclasses import replace

import mlx.core as mx
import pytest

from inference.ops import mlx_ops, native, reference, verdicts
from inference.ops.demands import ORDINARY
from inference.ops.packing import pack
from inference.ops.proof import trusted
from inference.ops.table import IDLE, LAYER, OPERATIONS, OpTable, arranged
from inference.ops.weights import DenseWeight, QuantizedWeight
from tests.inference.ops.kernels import Machine
from tests.metal_kernels.metal.device import random
from tests.metal_kernels.metal.test_quantized import quantized_weight

SMALL = replace(
    ORDINARY, hidden=64, inner=64, heads=2, kv_heads=1, head_size=64, vocabulary=331, matrices=((0, 0), (4, 32))
)
ON_CPU = {"embedding", LAYER}


@pytest.fixture
def machine(monkeypatch, tmp_path, gpu):
    """One with a GPU, on which our kernels take half of the time, so that few runs are needed to see it."""
    machine = Machine(monkeypatch, tmp_path / "cache")
    for operation in OPERATIONS.keys() - ON_CPU:
        machine.slow_down(operation, 0.01, "mlx")
    return machine


def _choices(spec, demands=SMALL):
    return {choice.operation: choice for choice in trusted(spec, demands).choices()}


@pytest.mark.parametrize("spec", ["auto", "native"])
def test_kernels_that_agree_and_keep_up_are_used(machine, gpu, spec):
    found = _choices(f"{spec},expert_linear=native")
    for name, choice in found.items():
        if name in ON_CPU:
            assert choice.implementation == ("parts" if name == LAYER else "mlx")
            assert choice.reason == f"our own kernel of {name} is for the CPU alone"
        else:
            assert choice.implementation == "native"
            assert choice.ratio > 1
    kinds = {name.split("_")[0] for name in gpu.kernels}
    assert kinds == {"quantized", "rms", "rope", "swiglu", "write", "attention", "argmax", "largest"}


@pytest.mark.parametrize("operation", sorted(OPERATIONS.keys() - ON_CPU))
def test_a_wrong_kernel_is_refused(machine, operation):
    machine.break_kernel(operation)
    asked = f"mlx,{operation}=native"
    for spec in (asked,) if operation in IDLE else ("auto", "native", asked):
        choice = _choices(spec)[operation]
        assert choice.implementation == "mlx"
        assert "differs from the reference by" in choice.reason


def test_a_slow_kernel_is_used_only_where_it_is_asked_for(machine):
    machine.slow_down("rope", 0.1)
    assert "slower than MLX's own" in _choices("auto")["rope"].reason
    assert _choices("auto")["rope"].implementation == "mlx"
    assert _choices("rope=native")["rope"].implementation == "native"


@pytest.mark.parametrize(
    ("changed", "operation", "said"),
    [
        ({"kv": "float16"}, "paged_attention", "floats in a KV pool are of the queries' type"),
        ({"head_size": 32, "heads": 4, "kv_heads": 2}, "paged_attention", "64, 80, 96 or 128"),
        ({"matrices": ((2, 32),)}, "linear", "4 or 8 bits"),
        ({"matrices": ((0, 0),)}, "linear", "this model has none"),
        ({"activations": "int8"}, "linear", "our own kernel for int8 activations is for the CPU alone"),
        ({"activations": "bfloat16"}, "linear", "our own kernel for bfloat16 activations is for the CPU alone"),
    ],
)
def test_what_the_kernels_are_not_made_for_is_left_to_others_who_say_why(machine, changed, operation, said, capfd):
    for spec in ("auto", f"mlx,{operation}=native"):
        verdicts._opened.cache_clear()  # the second time it is read from the file
        choice = _choices(spec, replace(SMALL, **changed))[operation]
        assert choice.implementation == "mlx"
        assert said in choice.reason
    assert _choices("auto", replace(SMALL, **changed))["silu_mul"].implementation == "native"
    assert not capfd.readouterr().err  # a limit is no failure


def test_a_dense_matrix_beside_quantized_ones_is_multiplied_by_mlx(gpu):
    x, dense = random(1, (3, 64), mx.float32), DenseWeight(random(2, (8, 64), mx.float32))
    assert mx.array_equal(native.linear(x, dense), mlx_ops.linear(x, dense))
    assert not gpu.kernels


def test_more_than_the_gpu_can_sort_is_sorted_by_mlx(gpu):
    x = random(1, (2, 1100), mx.float32)
    for count, launches in ((1100, 0), (1025, 0), (1024, 1)):
        assert mx.array_equal(native.largest(x, count), reference.largest(x, count))
        assert gpu.kernels.total() == launches


def test_weights_are_packed_for_the_cpu_alone(gpu):
    weight, x = quantized_weight("f32", 4, 32, 24, 64), random(1, (2, 64), mx.float32)
    packed = pack(weight)
    assert not OpTable.select("native").reads_packed
    for plain in (OpTable.select("native").arrange(packed), arranged(packed, "native")):
        assert isinstance(plain, QuantizedWeight)
        assert all(mx.array_equal(ours, theirs) for ours, theirs in zip(plain.arrays, weight.arrays, strict=True))
    # One that still is packed is no reason to fail.
    assert mx.allclose(native.linear(x, packed), reference.linear(x, weight), atol=1e-4)
    assert gpu.kernels


def test_a_processor_and_its_gpu_have_their_own_verdicts(machine, monkeypatch):
    """Also where both have one name, as Apple's have."""
    _choices("auto")
    (of_gpu,) = (machine.cache / "kernels").iterdir()
    assert json.loads(of_gpu.read_text())["origin"]["kernels"] == "GPU"
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(verdicts, "on_gpu", lambda: False)
        assert verdicts.verdicts().path != of_gpu
        assert not verdicts.verdicts()
    assert verdicts.verdicts().path == of_gpu
