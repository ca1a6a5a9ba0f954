"""What can be trained: a module that has losses."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from batches import Batch


@dataclass(frozen=True)
class Losses:
    """Of one batch: what is learned from, and its parts by their names, to be reported."""

    total: Tensor
    parts: dict[str, float] = field(default_factory=dict)


class Learner(torch.nn.Module):
    """A part of the demo model, or the draft model, as it is trained."""

    threads = 16
    """Those that make it faster."""

    parts: Callable[..., Tensor]
    """Of the losses, from tensors alone: what can be compiled."""

    def compile_parts(self) -> None:
        """Fuse what is done number by number; it costs more time than the matrix products. Takes a C++ compiler and a
        minute or two; without one all stays as it is."""
        torch._dynamo.config.suppress_errors = True
        self.parts = torch.compile(self.parts, dynamic=True)

    def losses(self, batch: Batch) -> Losses:
        """Of a batch, by which gradients are computed."""
        raise NotImplementedError
