"""The text that a GPU's compiler is given at run time."""

import re

import pytest

from metal_kernels._native import MetalLaunches
from metal_kernels.emulator import lint
from metal_kernels.emulator.library import read_program
from tests.metal_kernels.metal.device import KERNELS

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


def test_what_can_not_be_read_is_named(tmp_path):
    with pytest.raises(RuntimeError, match=r"nothing\.metal can't be read"):
        MetalLaunches.source(str(tmp_path), "nothing", "f16")


@pytest.mark.parametrize("file", FILES)
def test_nothing_in_it_is_known_to_be_refused_by_metal(file):
    assert not lint(KERNELS / f"{file}.metal", include_dirs=(KERNELS,))
