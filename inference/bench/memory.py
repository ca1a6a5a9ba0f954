"""What a run took of the machine's memory."""

from __future__ import annotations

import platform
import resource
from dataclasses import dataclass

from inference.llm import LLM


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes."""

    peak: int
    """The most that was resident at once, since the process began."""
    weights: int
    pool: int
    """The KV pool, which is allocated at once and stays."""

    @property
    def rest(self) -> int:
        """Of the peak: Python, libraries, activations, and what loading needed for a moment."""
        return self.peak - self.weights - self.pool

    @classmethod
    def of(cls, llm: LLM) -> Memory:
        """As it is now."""
        info, in_force = llm.engine.model_info, {option.name: option.effective for option in llm.options}
        tokens = int(in_force["num_kv_blocks"]) * int(in_force["block_size"])
        return cls(peak_resident(), info.weight_bytes, tokens * info.kv_bytes_per_token)


def peak_resident() -> int:
    """Bytes of this process's memory that were resident at once, at the most."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if platform.system() == "Darwin" else most * 1024
