"""Operations that are asked of a GPU, run in the emulator; and launches, run there and on a Metal device."""

from collections import Counter

import pytest

from metal_kernels import _native, emulator
from tests.metal_kernels.metal import device
from tests.metal_kernels.metal.wiring import run_in_place


@pytest.fixture(autouse=True, scope="session")
def _needs_a_compiler():
    try:
        device.library("split_sum")
    except emulator.MissingCompiler as reason:
        pytest.skip(str(reason))


class Emulated:
    """Takes the launches of MLX's graph, each in another thread order; `kernels` counts them by name."""

    def __init__(self):
        self.kernels = Counter()
        self.errors = []

    def __call__(self, launch, buffers):
        try:
            order = device.ORDERS[self.kernels.total() % len(device.ORDERS)]
            self.kernels[launch.kernel] += 1
            run_in_place(launch, buffers, order)
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


@pytest.fixture(scope="module", params=device.PLACES)
def place(request):
    """Where launches are run: each test that uses it holds for the emulator, and for the device where there is one."""
    device.place = request.param
    yield request.param
    device.place = device.PLACES[0]
