"""Greedy answers of a model to many prompts at once, and greedy speculation with a draft model."""

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from transformers import Qwen2ForCausalLM

from tokenizer import END_OF_TEXT, TURN_END


@dataclass(frozen=True)
class Answer:
    """What the model wrote, and whether it came to an end by itself."""

    text: str
    ended: bool


@torch.no_grad()
def answer_all(
    model: Qwen2ForCausalLM, tokenizer: Tokenizer, prompts: list[str], longest: int = 200, batch: int = 48
) -> list[Answer]:
    """Greedy answers, in batches of prompts of about the same length."""
    encoded = [tokenizer.encode(prompt).ids for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda index: len(encoded[index]))
    answers: dict[int, Answer] = {}
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        outputs = _greedy_batch(model, tokenizer, [encoded[index] for index in chosen], longest)
        answers.update(zip(chosen, outputs, strict=True))
    return [answers[index] for index in range(len(prompts))]


def _greedy_batch(
    model: Qwen2ForCausalLM, tokenizer: Tokenizer, prompts: list[list[int]], longest: int
) -> list[Answer]:
    end, padding = tokenizer.token_to_id(TURN_END), tokenizer.token_to_id(END_OF_TEXT)
    width = max(len(ids) for ids in prompts)
    tokens = torch.tensor([[padding] * (width - len(ids)) + ids for ids in prompts])
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts])
    finished = torch.zeros(len(prompts), dtype=torch.bool)
    cache = None
    written: list[torch.Tensor] = []
    for _ in range(longest):
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        output = model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        following = output.logits[:, -1].argmax(-1)
        following = torch.where(finished, torch.full_like(following, padding), following)
        written.append(following)
        finished |= (following == end) | (following == padding)
        if bool(finished.all()):
            break
        tokens = following[:, None]
        mask = torch.cat([mask, torch.ones(len(prompts), 1, dtype=mask.dtype)], dim=1)
    return [_decode(tokenizer, row, end) for row in torch.stack(written, dim=1).tolist()]


def _decode(tokenizer: Tokenizer, ids: list[int], end: int) -> Answer:
    ended = end in ids
    if ended:
        ids = ids[: ids.index(end)]
    return Answer(tokenizer.decode(ids, skip_special_tokens=True), ended)


@dataclass
class Acceptance:
    """Counts over many greedy answers written with a draft model."""

    tokens: int = 0
    verifications: int = 0
    drafted: int = 0
    accepted: int = 0

    def summary(self) -> dict[str, float]:
        """Rates for the report."""
        return {
            "acceptance": round(self.accepted / max(1, self.drafted), 3),
            "tokens_per_verification": round(self.tokens / max(1, self.verifications), 2),
            "accepted_per_verification": round(self.accepted / max(1, self.verifications), 2),
        }


@torch.no_grad()
def measure_acceptance(
    draft: Qwen2ForCausalLM, tokenizer: Tokenizer, prompt: str, answer: Answer, ahead: int, counts: Acceptance
) -> None:
    """Replay a greedy answer of the target: the draft proposes, and the answer itself is the verification."""
    context = tokenizer.encode(prompt).ids
    target = tokenizer.encode(answer.text).ids + ([tokenizer.token_to_id(TURN_END)] if answer.ended else [])
    done = 0
    while done < len(target):
        possible = min(ahead, len(target) - done)
        proposed = _propose(draft, context + target[:done], possible)
        matching = 0
        while matching < possible and proposed[matching] == target[done + matching]:
            matching += 1
        counts.drafted += possible
        counts.accepted += matching
        counts.verifications += 1
        # The verification itself gives one more token (the correction, or the one after the last guess).
        written = min(matching + 1, len(target) - done)
        counts.tokens += written
        done += written


def _propose(draft: Qwen2ForCausalLM, context: list[int], number: int) -> list[int]:
    tokens, cache, proposed = torch.tensor([context]), None, []
    for _ in range(number):
        output = draft(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        proposed.append(int(output.logits[0, -1].argmax()))
        tokens = torch.tensor([[proposed[-1]]])
    return proposed
