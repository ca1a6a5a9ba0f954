"""What can be trained: a module that has losses."""

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

    def losses(self, batch: Batch) -> Losses:
        """Of a batch, by which gradients are computed."""
        raise NotImplementedError
