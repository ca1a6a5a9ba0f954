"""Rotary position embedding (Su et al. 2021) as Qwen2 computes it: the halves of a head are the parts of its pairs."""

import torch
from torch import Tensor

from model import ROPE_THETA


def rotations(length: int, head_size: int, device: torch.device) -> Tensor:
    """Cosines and sines [2, length, head size]."""
    frequencies = ROPE_THETA ** -(torch.arange(0, head_size, 2, device=device) / head_size)
    angles = torch.arange(length, device=device)[:, None] * frequencies
    angles = torch.cat([angles, angles], -1)
    return torch.stack([angles.cos(), angles.sin()])


def rotate(states: Tensor, turns: Tensor) -> Tensor:
    """[..., positions, head size], each position turned by its own angles."""
    lower, upper = states.chunk(2, -1)
    cosines, sines = turns
    return states * cosines + torch.cat([-upper, lower], -1) * sines
