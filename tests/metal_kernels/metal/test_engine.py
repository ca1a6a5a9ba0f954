"""A whole engine on a GPU, here in the emulator: the reference's own tokens, from kernels that were looked at first."""

import pytest

from inference.ops.table import OPERATIONS
from inference.ops.weights import PackedWeight, QuantizedWeight
from metal_kernels import _native, emulator
from tests.inference import tiny
from tests.inference.engine.harness import Run, engine
from tests.inference.ops.kernels import Machine
from tests.metal_kernels.metal import device
from tests.metal_kernels.metal.device import KERNELS

SIZES = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64}
PROMPTS = (range(20), range(40, 47))


def checkpoint(place, **other):
    return tiny.checkpoint(place, quantization={"bits": 4, "group_size": 32}, spread=4.0, **(SIZES | other))


@pytest.fixture
def folder(tmp_path):
    return checkpoint(tmp_path)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    machine = Machine(monkeypatch, tmp_path / "cache")
    for operation in OPERATIONS.keys() - {"embedding", "decoder_layer"}:
        machine.slow_down(operation, 0.01, "mlx")
    return machine


def _answers(run, count=6):
    outcomes = [run.submit(f"{i} of {len(run.outcomes)}", prompt) for i, prompt in enumerate(PROMPTS)]
    for _ in range(count + 1):
        run.step()
    assert all(len(outcome.token_ids) >= count for outcome in outcomes)
    return [outcome.token_ids[:count] for outcome in outcomes]


def _in_force(run):
    state = next(state for state in run.engine.options if state.name == "kernels")
    return state.effective, state.reason


def _matrices(run):
    """The kinds that the engine's model has now."""
    model = run.engine._runner._model
    return {type(matrix) for layer in model._layers for matrix in (*layer.qkv, layer.down)} | {type(model._head)}


def test_the_reference_s_tokens(machine, folder, gpu):
    run = Run(engine(folder, kernels="reference"))
    gpu.kernels.clear()
    expected = _answers(run)
    assert not gpu.kernels
    run = Run(engine(folder, kernels="auto"))
    gpu.kernels.clear()
    assert _answers(run) == expected
    kinds = {name.split("_")[0] for name in gpu.kernels}
    assert kinds >= {"quantized", "rms", "rope", "swiglu", "write", "attention", "argmax"}
    effective, reason = _in_force(run)
    assert effective == "native,embedding=mlx,decoder_layer=parts"
    assert "our own kernel of embedding is for the CPU alone" in reason


def test_weights_lie_as_the_device_reads_them(machine, folder, gpu):
    """Also where an engine finds another device than it was started with."""
    _native.run_launches_by(None)
    run = Run(engine(folder, kernels="native"))
    expected = _answers(run)
    assert _matrices(run) == {PackedWeight}
    _native.run_launches_by(gpu)
    assert run.configure(kernels="auto").error == ""
    assert _matrices(run) == {QuantizedWeight}
    gpu.kernels.clear()
    assert _answers(run) == expected
    assert gpu.kernels["quantized_matvec_f32_b4_r4"]
    _native.run_launches_by(None)
    assert run.configure(kernels="native").error == ""
    assert _matrices(run) == {PackedWeight}
    assert _answers(run) == expected


# Each is wrong by so little that a chat would go on, and talk nonsense: a file, what is right in it, what is wrong, and
# the operations that are then. In some only one size of tile is wrong, or how parts are put together.
MISTAKES = {
    "rope": ("rope", "b * c + a * s", "b * c - a * s", {"rope"}),
    "swiglu": ("swiglu", "1.0f + exp(-g)", "1.0f + exp(g)", {"silu_mul"}),
    "rms_norm": ("rms_norm", "float(p.width) + p.eps)", "float(p.width) + 0.01f)", {"rms_norm", "add_rms_norm"}),
    "decode": ("attention_decode", "sum[r] *= kept;\n            UNROLL", "UNROLL", {"paged_attention"}),
    "few rows": ("quantized_matvec", "+ shift[o] * sum", "+ 0.9f * shift[o] * sum", {"linear"}),
    "four rows": ("quantized_matvec", "+= scale[o]", "+= (r == 3 ? 1.01f : 1.0f) * scale[o]", {"linear"}),
    "eight rows": ("quantized_matvec", "+= scale[o]", "+= (r == 7 ? 1.01f : 1.0f) * scale[o]", {"linear"}),
    "long contexts": ("attention_merge", "own[i] / all", "own[i] / (1.01f * all)", {"paged_attention"}),
    "shared columns": ("split_sum", "split < p.splits;", "split < max(1, p.splits - 1);", {"linear"}),
    "large tiles": (
        "quantized_matmul",
        "sums[i][j].thread_elements()[e])",
        "(ROWS == 64 && row == 63 ? 1.01f : 1.0f) * sums[i][j].thread_elements()[e])",
        {"linear"},
    ),
    "draw": ("argmax", "score / temperatures[row]", "score", {"draw"}),
}
# Wide enough for columns that are shared out, and for large tiles.
WIDE = {"shared columns", "large tiles"}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_kernel_with_a_mistake_is_refused_and_the_tokens_are_right(machine, gpu, monkeypatch, tmp_path, mistake):
    """The very file is wrong, as a GPU might compute it: it is named, and others compute in its place."""
    file, right, wrong, operations = MISTAKES[mistake]
    folder = checkpoint(tmp_path, **({"intermediate_size": 512} if mistake in WIDE else {}))
    text = (KERNELS / f"{file}.metal").read_text()
    assert text.count(right) == 1
    (tmp_path / f"{file}.metal").write_text(
        "#define FOR_TYPES(KERNELS) KERNELS(f32, float)\n" + text.replace(right, wrong)
    )
    mutant = emulator.compile(tmp_path / f"{file}.metal", include_dirs=(KERNELS,))
    honest = device.library
    monkeypatch.setattr(device, "library", lambda name: mutant if name == file else honest(name))
    run = Run(engine(folder, kernels="auto"))
    effective, reason = _in_force(run)
    for operation in operations:
        assert f"{operation}=mlx" in effective
    assert effective.count("=mlx") == len(operations) + 1  # and the embedding, which is for the CPU
    assert "our own kernel differs from the reference by" in reason
    gpu.kernels.clear()
    answers = _answers(run)
    assert gpu.kernels  # the others are in use
    assert answers == _answers(Run(engine(folder, kernels="reference")))
