"""The Muon optimizer: momentum, then an orthogonalised update for every weight matrix.

Matrices of the same shape are updated together, which is twice as fast on a CPU as one after the other.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from precision import product_type

# Coefficients of the quintic Newton-Schulz iteration that pushes all singular values towards one.
LINEAR, CUBIC, QUINTIC = 3.4445, -4.7750, 2.0315
ITERATIONS = 5
# Scales the update so that its root mean square matches that of AdamW and one learning rate serves both.
ADAMW_MATCH = 0.2


class Muon(torch.optim.Optimizer):
    """For two-dimensional hidden weights; embeddings, norms and biases belong to AdamW."""

    def __init__(
        self,
        params: Iterable[Tensor] | list[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[tuple(sorted(parameter.shape))].append(parameter)
            for shape, parameters in by_shape.items():
                directions = [self._momentum_update(p, group["momentum"]) for p in parameters]
                updates = orthogonalise(torch.stack(directions)).float()
                scale = ADAMW_MATCH * max(shape) ** 0.5 * group["lr"]
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update.T if is_tall(parameter) else update, alpha=-scale)

    def _momentum_update(self, parameter: Tensor, momentum: float) -> Tensor:
        """The Nesterov direction of one matrix, lying down (no more rows than columns)."""
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - momentum)
        direction = gradient.lerp(state["momentum"], momentum)
        return direction.T if is_tall(parameter) else direction


def is_tall(matrix: Tensor) -> bool:
    """More rows than columns."""
    return matrix.shape[0] > matrix.shape[1]


def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring a batch of matrices close to the nearest orthogonal ones by Newton-Schulz iterations."""
    current = matrices.to(product_type())
    current = current / (current.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = current @ current.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=CUBIC, alpha=QUINTIC)
        current = torch.baddbmm(current, polynomial, current, beta=LINEAR)
    return current
