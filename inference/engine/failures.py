"""What goes wrong with a request, as a sentence for its user."""

from __future__ import annotations

import sys
import traceback

from inference.errors import GlasschatError
from inference.protocol import Finished, FinishReason, Submit, Timings


def refused(command: Submit, prompt_tokens: int, message: str) -> Finished:
    timings = Timings(queued=0.0, ttft=0.0, total=0.0, prompt_tokens=prompt_tokens, output_tokens=0)
    return Finished(command.request_id, FinishReason.ERROR, timings, message)


def sentence(error: Exception) -> str:
    if isinstance(error, GlasschatError):
        return str(error)
    traceback.print_exception(error, file=sys.stderr)
    return f"the request could not be read ({type(error).__name__}: {error}): change it and send it again"


def failure(error: Exception) -> str:
    """What a user can do about a request that breaks the step it is in."""
    if isinstance(error, MemoryError) or "alloc" in str(error).lower() or "memory" in str(error).lower():
        advice = "shorten the prompt, lower max_num_batched_tokens or restart with a lower num_kv_blocks"
        return f"memory ran out while this request was computed ({error}): {advice}"
    return f"the engine failed while it computed this request ({type(error).__name__}: {error}): send it again"
