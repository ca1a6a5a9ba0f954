"""Settings for all tests. Hypothesis runs without deadlines: test machines are shared and slow at times."""

import os

from hypothesis import settings

settings.register_profile("default", deadline=None)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# No test may reach a model hub or read the user's own models, chats and caches.
os.environ["HF_HUB_OFFLINE"] = "1"
