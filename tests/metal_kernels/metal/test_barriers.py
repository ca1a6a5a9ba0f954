"""Every barrier of the kernels is needed: without it the emulator sees two threads meet, or finds other numbers."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from metal_kernels import emulator
from metal_kernels._native import MetalLaunches
from metal_kernels.emulator.library import read_program
from tests.metal_kernels.metal import device
from tests.metal_kernels.metal.attention import layout, paged_attention, store
from tests.metal_kernels.metal.device import KERNELS, NOTHING, held, launch, random, room
from tests.metal_kernels.metal.test_quantized import multiply, quantized_weight


def _attend(query_len):
    step = layout((query_len,), (60,), 16, 4)
    keys = store(1, (4, 16, 1, 64), "f16", "float")
    paged_attention("f16", "float", random(2, (query_len, 1, 64), mx.float16), keys, keys, step)


def _multiply():
    multiply("f16", quantized_weight("f16", 4, 32, 40, 64), random(3, (40, 64), mx.float16), 40)


def _normalize():
    plan = MetalLaunches.rms_norm("f16", 1, 256, 256, 1e-6, add=False)
    x = held(random(1, (1, 256), mx.float16))
    launch(plan, [x, NOTHING, x, room((1, 256), mx.float16), NOTHING])


def _choose():
    plan = MetalLaunches.argmax(1, 100, 100, draw=False, listed=False)
    launch(plan, [held(random(1, (1, 100), mx.float32)), *[NOTHING] * 3, room((1,), mx.uint32)])


def _sort():
    # Some distinct, and more equal ones than there is room for.
    row = np.array([[*range(1, 300), *[0.0] * 500]], np.float32)
    launch(MetalLaunches.largest(1, 799, 400), [row, room((1, 400), mx.uint32)])


USES = {
    "argmax": _choose,
    "attention_decode": lambda: _attend(1),
    "attention_prefill": lambda: _attend(40),
    "largest": _sort,
    "quantized_matmul": _multiply,
    "rms_norm": _normalize,
}


def _barriers(file):
    return read_program(KERNELS / f"{file}.metal", [KERNELS]).barriers


def _is_wrong(use):
    try:
        use()
    except device.Wrong:
        return True
    return False


def test_all_files_with_barriers_are_here():
    assert {path.stem for path in KERNELS.glob("*.metal") if _barriers(path.stem)} == set(USES)


@pytest.mark.parametrize("file", USES)
def test_without_any_one_of_its_barriers_a_kernel_is_wrong(file, tmp_path: Path, monkeypatch):
    # For one type only: every mutant is compiled anew.
    one_type = tmp_path / f"{file}.metal"
    one_type.write_text(f'#define FOR_TYPES(KERNELS) KERNELS(f16, half)\n#include "{KERNELS}/{file}.metal"\n')
    for barrier in _barriers(file):
        mutant = emulator.compile(one_type, include_dirs=(KERNELS,), drop_barrier=barrier.number)
        monkeypatch.setattr(device, "library", lambda _, mutant=mutant: mutant)
        assert _is_wrong(USES[file]), f"{file}.metal:{barrier.line} is not missed: {barrier.text}"
