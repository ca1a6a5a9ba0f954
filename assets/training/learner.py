"""What can be trained: a module that has losses."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from batches import Batch
from precision import rounds_products


@dataclass(frozen=True)
class Losses:
    """Of one batch: what is learned from, and its parts by their names, to be reported."""

    total: Tensor
    parts: dict[str, float] = field(default_factory=dict)


def can_compile() -> bool:
    """Whether there is what compiling takes: on a CPU, a C++ compiler."""
    try:
        torch.compile(torch.square)(torch.ones(2))
    except Exception:  # of many kinds, by what is missing
        return False
    return True


class Learner(torch.nn.Module):
    """A part of the demo model, or the draft model, as it is trained."""

    threads = 16
    """Those that make it faster."""

    parts: Callable[..., Tensor]
    """Of the losses, from tensors alone: what can be compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.rounded = rounds_products()

    def multiplying(self, device: torch.device) -> torch.autocast:
        """Matrix products are computed in the type that is fastest here."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.rounded)

    def compile_parts(self) -> None:
        """Fuse what is done number by number, which takes more time than the matrix products; costs a minute or two."""
        self.parts = torch.compile(self.parts, dynamic=True)

    def losses(self, batch: Batch) -> Losses:
        """Of a batch, by which gradients are computed."""
        raise NotImplementedError
