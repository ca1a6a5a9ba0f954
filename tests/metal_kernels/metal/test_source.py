"""The text that a GPU's compiler is given at run time."""

import itertools
import re

import pytest

from metal_kernels._native import MetalLaunches
from metal_kernels.emulator import lint
from metal_kernels.emulator.library import read_program
from tests.metal_kernels.metal.device import KERNELS, TYPES

FILES = sorted(path.stem for path in KERNELS.glob("*.metal"))


@pytest.mark.parametrize("file", FILES)
def test_it_is_in_one_piece_and_for_one_type(file, tmp_path):
    text = MetalLaunches.source(str(KERNELS), file, "bf16")
    assert not re.search(r'^\s*#\s*include\s*"', text, re.MULTILINE)
    whole = tmp_path / f"{file}.metal"
    whole.write_text(text)
    kernels = read_program(whole, []).kernels
    every = read_program(KERNELS / f"{file}.metal", [KERNELS]).kernels
    wanted = {name for name in every if file in ("argmax", "largest", "copy") or _type_of(name) == "bf16"}
    assert set(kernels) == wanted != set()


def _type_of(name):
    return re.search(r"_(f32|f16|bf16)(_|$)", name)[1]


def _asked_for():
    """Every kernel that the launch table ever asks for, with its file, over all that decides which it is."""
    table = MetalLaunches
    yield table.copy(8)
    yield table.argmax(1, 9, 9, draw=False, listed=False)
    yield table.largest(1, 9, 3)
    for item_bytes in (2, 4):
        yield table.gather(item_bytes, [1, 1, 2, 3], [0, 0, 9, 2], 0)
    for of in TYPES:
        yield table.rms_norm(of, 1, 64, 64, 1e-6, add=True)
        yield table.rope(of, 1, 2, 64, 128, 1e4)
        yield table.swiglu(of, 1, 64, 64, 64)
        for pool in (*TYPES, "int8", "int4"):
            yield table.write_kv(of, pool, 1, 64, 64)
        for bits, rows, outputs in itertools.product((4, 8), (1, 2, 4, 8, 9, 65), (16, 64 * 48)):
            plan = table.quantized(of, bits, 64, rows, outputs, 4096)
            yield from (each for each in (plan.multiply, plan.sum) if each)
        for kept, size in itertools.product(("float", "int8", "int4"), (64, 80, 96, 128)):
            if kept != "float" and size % 32:
                continue  # no whole groups
            for tokens, context in itertools.product((1, 2, 4, 40), (40, 2000)):
                steps = table.attention(of, kept, 1, 1, size, 16, 125, size, 1.0, [tokens], [context])
                yield from (each for plan in steps for each in (plan.attend, plan.merge) if each)


def test_the_launch_table_asks_for_every_kernel_that_is_there_and_for_no_other():
    asked = {(launch.file, launch.kernel) for launch in _asked_for()}
    there = {(file, name) for file in FILES for name in read_program(KERNELS / f"{file}.metal", [KERNELS]).kernels}
    assert asked == there


@pytest.mark.parametrize("file", sorted(path.name for path in KERNELS.iterdir()))
def test_it_is_ascii(file):
    """As MLX hands it to Metal."""
    assert (KERNELS / file).read_bytes().isascii()


def test_what_can_not_be_read_is_named(tmp_path):
    with pytest.raises(RuntimeError, match=r"nothing\.metal can't be read"):
        MetalLaunches.source(str(tmp_path), "nothing", "f16")


@pytest.mark.parametrize("file", FILES)
def test_nothing_in_it_is_known_to_be_refused_by_metal(file):
    assert not lint(KERNELS / f"{file}.metal", include_dirs=(KERNELS,))
