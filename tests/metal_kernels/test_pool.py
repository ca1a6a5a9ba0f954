"""The thread pool: its size from Python, and its promises through a C++ program, pool_stress.cpp."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.metal_kernels.conftest import PACKAGE

THREADS = "from metal_kernels import native, why_missing; print(native.threads() if native else why_missing)"


def build(compiler, target, *options):
    source = Path(__file__).parent / "pool_stress.cpp"
    options = ("-std=c++20", "-O1", "-g", "-pthread", f"-I{PACKAGE}", *options)
    subprocess.run([compiler, *options, source, "-o", target], check=True)
    return target


@pytest.fixture(scope="module")
def pool_stress(compiler, tmp_path_factory):
    return build(compiler, tmp_path_factory.mktemp("pool") / "pool_stress")


@pytest.fixture(scope="module")
def pool_stress_watched(compiler, tmp_path_factory):
    """The same under ThreadSanitizer."""
    probe = [compiler, "-fsanitize=thread", "-x", "c++", "-", "-o", os.devnull]
    if subprocess.run(probe, input="int main() {}", text=True, capture_output=True, check=False).returncode:
        pytest.skip("this compiler has no ThreadSanitizer")
    return build(compiler, tmp_path_factory.mktemp("pool") / "pool_stress", "-fsanitize=thread")


def stress(program, what, rounds):
    outcome = subprocess.run([program, what, str(rounds)], capture_output=True, text=True, timeout=240, check=False)
    assert outcome.returncode == 0, outcome.stderr


def test_threads_are_the_cores_of_this_process_or_as_told(native, python):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert python(THREADS) == str(cores)
    assert python(THREADS, GLASSCHAT_THREADS="3") == "3"
    native.set_threads(5)
    assert native.threads() == 5


@pytest.mark.parametrize("count", ["0", "-1", "1025", "many", "2x"])
def test_nonsense_for_threads_is_refused_in_one_sentence(native, python, count):
    reason = python(THREADS, GLASSCHAT_THREADS=count)
    assert f"GLASSCHAT_THREADS={count} is not a number of threads from 1 to 1024" in reason
    assert "\n" not in reason


def test_set_threads_refuses_nonsense(native):
    with pytest.raises(ValueError, match="0 is not a number of threads"):
        native.set_threads(0)


@pytest.mark.parametrize(
    ("what", "rounds"),
    [("coverage", 2000), ("hand_over", 6000), ("shared_work", 50), ("exceptions", 200), ("misuse", 500)],
)
def test_jobs(pool_stress, what, rounds):
    stress(pool_stress, what, rounds)


def test_idle_threads_use_no_time(pool_stress):
    stress(pool_stress, "idle", 1)


def test_a_forked_child_has_a_pool_of_its_own(pool_stress):
    stress(pool_stress, "fork_child", 20)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "rounds"),
    [("coverage", 20000), ("hand_over", 60000), ("shared_work", 500), ("exceptions", 2000), ("misuse", 5000)],
)
def test_jobs_have_no_races(pool_stress_watched, what, rounds):
    stress(pool_stress_watched, what, rounds)
