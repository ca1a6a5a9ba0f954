"""What a host binds to a launch is looked at as closely as a launch of a test's own; and the way to a GPU."""

import mlx.core as mx
import numpy as np
import pytest

from metal_kernels import _native, emulator
from metal_kernels._native import MetalLaunches
from tests.metal_kernels.metal import device, wiring
from tests.metal_kernels.metal.attention import layout, plans
from tests.metal_kernels.metal.device import KERNELS, ORDERS, Wrong, changed, held, on_gpu, random, room
from tests.metal_kernels.metal.wiring import run_in_place, take_rows


def _bytes(array):
    return held(array).reshape(-1).view(np.uint8)


def _gate():
    """A launch and its buffers, as a host hands them over: of two threadgroups, one for each row."""
    gate, up = random(1, (2, 64), mx.float32), random(2, (2, 64), mx.float32)
    out = np.zeros(2 * 64 * 4, np.uint8)
    return MetalLaunches.swiglu("f32", 2, 64, 64, 64), [(_bytes(gate), False), (_bytes(up), False), (out, True)]


def test_an_output_that_is_not_filled_is_reported():
    launch, buffers = _gate()
    run_in_place(launch, buffers, "forward")
    with pytest.raises(Wrong, match="never-written"):
        run_in_place(changed(launch, groups=(1, 1, 1)), buffers, "forward")


def test_what_was_in_an_output_is_not_read(tmp_path, monkeypatch):
    text = (KERNELS / "swiglu.metal").read_text()
    end = "/ (1.0f + exp(-g)) * u"
    assert text.count(end) == 1
    adding = f"{end} + load4((device const T*)out + ulong(at.y) * p.width + column)"
    (tmp_path / "swiglu.metal").write_text(text.replace(end, adding))
    mutant = emulator.compile(tmp_path / "swiglu.metal", include_dirs=(KERNELS,))
    launch, buffers = _gate()
    monkeypatch.setattr(device, "library", lambda _: mutant)
    with pytest.raises(Wrong, match="uninitialised"):
        run_in_place(launch, buffers, "forward")


def test_a_launch_of_attention_fills_the_rows_of_its_sequences():
    """Here a decode's, whose output has rows of a prompt beside it that another launch writes."""
    step = layout((1, 20, 1), (9, 20, 5), 16, 4)
    pool, q = random(1, (4, 16, 1, 64), mx.float16), random(2, (22, 1, 64), mx.float16)
    decodes, _ = plans("f16", "float", 1, pool.shape, step)
    starts = np.array([0, 1, 21, 22], np.int32)
    out = np.zeros((22, 64), np.float16)
    nothing = np.zeros(4, np.uint8)
    inputs = [_bytes(q), _bytes(pool), nothing, nothing, _bytes(pool), nothing, nothing]
    where = [np.array(decodes.tiles, np.int32), starts, np.array([9, 20, 5], np.int32), step.tables]
    inputs += [np.ascontiguousarray(each).reshape(-1).view(np.uint8) for each in where]
    buffers = [*((each, False) for each in inputs), (out.reshape(-1).view(np.uint8), True), (nothing, False)]
    run_in_place(decodes.attend, buffers, "forward")
    np.testing.assert_array_equal(out.any(axis=1), [True] + [False] * 20 + [True])
    with pytest.raises(Wrong, match="64 elements of a launch's own rows are never written"):
        run_in_place(changed(decodes.attend, groups=(1, 1, 1)), buffers, "forward")


def test_rows_of_others_may_not_be_touched():
    out, found = np.zeros((3, 4), np.uint16), np.full((3, 4), 0xFFFF, np.uint16)
    tiles, starts = np.array([[1, 0]]), np.array([0, 2, 3])
    found[2] = 7
    take_rows(out, found, tiles, starts)
    np.testing.assert_array_equal(out, [[0] * 4, [0] * 4, [7] * 4])
    found[1, 3] = 7
    with pytest.raises(Wrong, match="not its own"):
        take_rows(out, found, tiles, starts)


def test_threads_run_in_other_orders(gpu, monkeypatch):
    launch, buffers = _gate()
    orders = []
    honest = wiring.run
    monkeypatch.setattr(wiring, "run", lambda *a, **b: orders.append(a[2]) or honest(*a, **b))
    for _ in ORDERS:
        gpu(launch, buffers)
    assert tuple(orders) == ORDERS


def test_a_launch_alone_goes_to_the_gpu(gpu):
    """Outputs, arrays changed in place, and what it does not look at; here it is the emulator that gets it."""
    x, weight = random(1, (3, 64), mx.bfloat16), random(2, (64,), mx.bfloat16)
    norm = MetalLaunches.rms_norm("bf16", 3, 64, 64, 1e-6, add=False)
    buffers = [held(x), device.NOTHING, held(weight), room(x.shape, mx.bfloat16), device.NOTHING]
    write = MetalLaunches.write_kv("f32", "f16", 2, 8, 8)
    pool = np.ones((4, 8), np.float16)
    rows = [np.arange(16, dtype=np.float32).reshape(2, 8), np.array([3, 1], np.int32), pool]
    for launch, given, in_place in ((norm, buffers, ()), (write, rows, (2,))):
        (found,), (truth,) = on_gpu(launch, given, in_place), device.launch(launch, given, in_place)
        assert (found.dtype, found.shape) == (truth.dtype, truth.shape)
        np.testing.assert_array_equal(found, truth)
        assert gpu.kernels[launch.kernel] == 1
    assert (pool == 1).all()  # arguments stay as they are


def test_a_launch_alone_needs_a_gpu():
    if not _native.gpu_in_use():
        with pytest.raises(ValueError, match="no Metal GPU"):
            _native.launch_on_gpu(MetalLaunches.copy(8), "f32", [mx.zeros(2), mx.zeros(2)], [1])
