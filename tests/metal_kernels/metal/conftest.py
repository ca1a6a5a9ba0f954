"""Operations that are asked of a GPU, run in the emulator."""

from collections import Counter

import pytest

from metal_kernels import _native, emulator
from tests.metal_kernels.metal.device import library, run


@pytest.fixture(autouse=True, scope="session")
def _needs_a_compiler():
    try:
        library("split_sum")
    except emulator.MissingCompiler as reason:
        pytest.skip(str(reason))


class Emulated:
    """Takes the launches of MLX's graph; `kernels` counts them by name."""

    def __init__(self):
        self.kernels = Counter()
        self.errors = []

    def __call__(self, launch, buffers):
        try:
            self.kernels[launch.kernel] += 1
            in_place = tuple(i for i, (_, written) in enumerate(buffers) if written)
            found = run(launch, [memory for memory, _ in buffers], "forward", in_place)
            for i, written in zip(in_place, found, strict=True):
                buffers[i][0][:] = written
        except Exception as error:  # this is another thread's: the test looks at them in the end
            self.errors.append(error)


@pytest.fixture
def gpu():
    """Where operations run that go to a GPU. Nothing may go wrong there."""
    emulated = Emulated()
    _native.run_launches_by(emulated)
    yield emulated
    _native.run_launches_by(None)
    for error in emulated.errors:
        raise error
