"""Heads that copy, to begin with: a network that has to find them first copies nothing for millions of tokens.

Two heads in a row go on with what was said before (Olsson et al. 2022, "In-context Learning and Induction Heads"): one
of the first layer keeps, at every place, which token stood before it; one of the second finds the places that come
after a token like the present one, and says what stands there. Here the heads are set so, roughly, and learn on.
"""

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from model import HEAD_SIZE
from rotation import rotations

MATCHED = 40
"""By so many places of the stream tokens are compared."""
BEFORE, ALIKE = 5.5, 2.2
"""How strongly the first head prefers the place before, and the second one tokens that are alike."""
KEPT = 0.6
"""How loud the token before is kept."""
SEED = 7


@torch.no_grad()
def set_copying_heads(model: Qwen2ForCausalLM) -> None:
    """Heads 0 of the first two layers of a model with random weights."""
    first, second = (layer.self_attn for layer in model.model.layers[:2])
    hidden = model.config.hidden_size
    # What is kept goes to places of its own, or the present token would be mistaken for the one before.
    kept, others = _right_angles(hidden).split([MATCHED, hidden - MATCHED])
    seen, said = others[:MATCHED], others[-HEAD_SIZE:]
    head, pairs = slice(0, HEAD_SIZE), HEAD_SIZE // 2

    # Biases alone make the scores, whatever the tokens are: a query turned by one place meets the key before it.
    cosines, sines = rotations(2, HEAD_SIZE, torch.device("cpu"))[:, 1, :pairs]
    for project in (first.q_proj, first.k_proj):
        project.weight[head] *= 0.1
    first.q_proj.bias[head] = BEFORE * torch.cat([cosines, -sines])
    first.k_proj.bias[head] = BEFORE * torch.cat([torch.ones(pairs), torch.zeros(pairs)])
    first.v_proj.weight[head] = 0.0
    first.v_proj.weight[:MATCHED] = seen
    first.o_proj.weight[:, :MATCHED] = KEPT * kept.T

    # The pairs that turn most slowly, so that the distance counts little.
    slow = torch.arange(pairs - MATCHED // 2, pairs)
    slow = torch.cat([slow, slow + pairs])
    for project, read in ((second.q_proj, seen), (second.k_proj, kept)):
        project.weight[head] = 0.0
        project.weight[slow] = ALIKE * read
    second.v_proj.weight[head] = said
    second.o_proj.weight[:, head] = said.T


def _right_angles(size: int) -> Tensor:
    """[size, size]: rows of length one, each at right angles to all others."""
    return torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(SEED))).Q
