"""Settings for all tests. Hypothesis runs without deadlines: test machines are shared and slow at times."""

import itertools
import os
import tempfile

from hypothesis import settings

from inference.ops import stopwatch

# Hooks that pytest finds here by their names.
from tests.kernel_time import (  # noqa: F401
    pytest_addoption,
    pytest_configure,
    pytest_runtest_call,
    pytest_runtest_setup,
    pytest_runtest_teardown,
    pytest_sessionfinish,
    pytest_sessionstart,
    pytest_terminal_summary,
)

settings.register_profile("default", deadline=None)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# No test may reach a model hub or read the user's own models, chats and caches.
os.environ["HF_HUB_OFFLINE"] = "1"
_cache = tempfile.TemporaryDirectory(prefix="glasschat-tests-")
os.environ["GLASSCHAT_CACHE"] = _cache.name

# Which kernels are chosen must not depend on how busy the machine is: here all take the same time.
stopwatch.clock = itertools.count(0, 0.01).__next__
