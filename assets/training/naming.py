"""The second task while a model learns: to name the answer that comes, from the hidden state before its first token.

Which of 1700 answers a question wants is learned far sooner by few layers than by many, and by one that averages the
words of the question it is learned for other wordings, too. So the training begins with one layer and takes the others
in later; those begin as layers that change nothing (`model.build`).
"""

import torch
from torch import Tensor
from torch.nn.functional import dropout
from transformers import Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

MASKED = -1e9


class ChoiceHead(torch.nn.Module):
    """Scores of the answer kinds from hidden states; thrown away after the training."""

    def __init__(self, hidden: int, kinds: int) -> None:
        super().__init__()
        self.norm = torch.nn.RMSNorm(hidden)
        self.linear = torch.nn.Linear(hidden, kinds)

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits [places, kinds] from hidden states [places, hidden]."""
        return self.linear(self.norm(hidden))


def hidden_at(model: Qwen2ForCausalLM, inputs: Tensor, places: Tensor, layers: int) -> Tensor:
    """Hidden states [places, hidden] after the first layers, the last of which is computed at the places alone.

    `inputs` are token ids [rows, length]; `places` count through the flattened rows.
    """
    body = model.model
    length = inputs.shape[1]
    positions = torch.arange(length, device=inputs.device)
    hidden = body.embed_tokens(inputs)
    cosine, sine = body.rotary_emb(hidden, positions[None])
    mask = torch.full((length, length), MASKED, device=inputs.device).triu(1)[None, None]
    for layer in body.layers[: layers - 1]:
        hidden = layer(hidden, attention_mask=mask, position_embeddings=(cosine, sine))

    rows, columns = places // length, places % length
    layer = body.layers[layers - 1]
    attention = layer.self_attn
    normed = layer.input_layernorm(hidden)
    keys, values = (
        project(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        for project in (attention.k_proj, attention.v_proj)
    )
    queries = attention.q_proj(normed[rows, columns]).unflatten(-1, (-1, attention.head_dim))
    _, keys = apply_rotary_pos_emb(keys, keys, cosine, sine)
    queries, _ = apply_rotary_pos_emb(queries, queries, cosine[0, columns], sine[0, columns])
    # [places, KV heads, query heads of each, head size] against the keys of the place's row.
    queries = queries.unflatten(1, (keys.shape[1], -1))
    scores = queries @ keys[rows].transpose(-1, -2) * attention.scaling
    scores = scores.masked_fill(positions > columns[:, None, None, None], MASKED)
    weights = scores.softmax(-1, dtype=torch.float32).to(values.dtype)
    weights = dropout(weights, attention.attention_dropout, model.training)
    mixed = (weights @ values[rows]).flatten(1)
    chosen = hidden[rows, columns] + attention.o_proj(mixed)
    return chosen + layer.mlp(layer.post_attention_layernorm(chosen))
