"""Whether one model can draft for another: its tokens must be the other's tokens."""

from __future__ import annotations

from inference.model.loader import LoadedModel

_SHOWN = 3


def misfit(target: LoadedModel, draft: LoadedModel) -> str:
    """Why not, as a clause after the draft model's name; empty if it fits.

    The number of rows of the two embeddings may differ: they are padded, by Qwen2.5 to other sizes for other models.
    """
    ours, theirs = target.tokenizer, draft.tokenizer
    if ours.vocab_size != theirs.vocab_size:
        return f"has {theirs.vocab_size} tokens, and {target.info.name} has {ours.vocab_size}"
    for token_id in range(ours.vocab_size):
        if ours.token_bytes(token_id) != theirs.token_bytes(token_id):
            mine, other = (t.decode([token_id]) for t in (ours, theirs))
            return f"has {other!r} for token {token_id}, where {target.info.name} has {mine!r}"
    if target.eos_ids != draft.eos_ids:
        ends = [", ".join(map(str, sorted(ids)[:_SHOWN])) for ids in (draft.eos_ids, target.eos_ids)]
        return f"ends its texts with token {ends[0]}, and {target.info.name} with {ends[1]}"
    return ""
