"""How much processor time the tests of the Metal kernels and of their emulator take: hooks for pytest.

They are to be done in two minutes on two cores. Every run that has any of them says what they took, compiling included;
`--kernel-seconds 240` makes it a failure to take more, which on a machine that others share would be a matter of luck.
"""

import os

import pytest

MEASURED = ("tests/metal_kernels/metal/", "tests/metal_kernels/emulator/")
_PROPERTY = "processor seconds"
_total = pytest.StashKey[list[float]]()


def pytest_addoption(parser):
    parser.addoption(
        "--kernel-seconds",
        type=float,
        metavar="SECONDS",
        help="fail if the tests of the Metal kernels and of their emulator take more processor time than that",
    )


def pytest_configure(config):
    config.stash[_total] = []


def _processor_seconds():
    now = os.times()
    return now.user + now.system + now.children_user + now.children_system


def _measured(item):
    before = _processor_seconds()
    try:
        return (yield)
    finally:
        if item.nodeid.startswith(MEASURED):
            item.user_properties.append((_PROPERTY, _processor_seconds() - before))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item):
    return (yield from _measured(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item):
    return (yield from _measured(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item):
    return (yield from _measured(item))


class _Sum:
    """Where the reports of all processes come together."""

    def __init__(self, config):
        self._config = config

    def pytest_runtest_logreport(self, report):
        if report.when == "teardown":  # it has the properties of all three
            spent = [seconds for name, seconds in report.user_properties if name == _PROPERTY]
            self._config.stash[_total] += spent


def pytest_sessionstart(session):
    session.config.pluginmanager.register(_Sum(session.config))


def pytest_sessionfinish(session):
    most = session.config.getoption("--kernel-seconds")
    if most is not None and sum(session.config.stash[_total]) > most and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    if spent := config.stash[_total]:
        total, most = sum(spent), config.getoption("--kernel-seconds")
        terminalreporter.write_line(f"Metal kernels in the emulator: {total:.0f} s of processor time")
        if most is not None and total > most:
            terminalreporter.write_line(f"that is more than {most:.0f} s", red=True)
