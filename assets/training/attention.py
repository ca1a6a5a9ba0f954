"""What of a conversation the layers may look at while they learn: everything before, or the gist of it alone.

The first layer averages the words of a question into its last token (`model.attend_by_place`), and what it knows so
holds for wordings that were never seen. The layers above could do without it: they soon find single words that tell
the corpus' lines apart, and then know the lines and not the language. So a part of the answers is learned from the
gist alone: all layers but the first see nothing before the last token ahead of the answer.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

MASKED = -1e9


@dataclass
class Hidden:
    """Hidden states [rows, length, hidden] after the layers that name the answer, and after all (normed)."""

    naming: Tensor
    last: Tensor


def causal_mask(length: int, device: torch.device) -> Tensor:
    """What is added to the scores [1, 1, length, length] so that nothing later is seen."""
    return torch.full((length, length), MASKED, device=device).triu(1)[None, None]


def hidden_states(model: Qwen2ForCausalLM, inputs: Tensor, first_seen: Tensor, naming_layers: int) -> Hidden:
    """Run all layers; those above the first look back as far as `first_seen` [rows, length] says of each place."""
    body = model.model
    length = inputs.shape[1]
    positions = torch.arange(length, device=inputs.device)
    hidden = body.embed_tokens(inputs)
    embeddings = body.rotary_emb(hidden, positions[None])
    everything = causal_mask(length, inputs.device)
    mask = everything
    naming = hidden
    for index, layer in enumerate(body.layers):
        hidden = layer(hidden, attention_mask=mask, position_embeddings=embeddings)
        if index + 1 == naming_layers:
            naming = hidden
        if index == 0:
            mask = everything + MASKED * (positions < first_seen[:, None, :, None])
    return Hidden(naming, body.norm(hidden))
