"""What tokens have in common: runs of letters.

"quantize", " Quantized" and "quantization" are three tokens, each of which would have to be met to be known. Each run
of three to six letters that several tokens share has a vector that is added to the embeddings of all of them
(Bojanowski et al. 2017, "Enriching word vectors with subword information"), and so has the whole without blank and
capitals. It is a way of learning only: what is exported is one embedding.
"""

import re
from collections import Counter
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import embedding_bag

RUNS = (3, 4, 5, 6)
BEGIN, END, WHOLE = "<", ">", "="


def runs_of_letters(text: str) -> list[str]:
    """Those of a token's text, its beginning and end marked, and the whole; none without a letter or digit."""
    word = text.strip().lower()
    if not re.search(r"[a-z0-9]", word):
        return []
    marked = f"{BEGIN}{word}{END}"
    runs = [marked[start : start + size] for size in RUNS for start in range(len(marked) - size + 1)]
    return list(dict.fromkeys([WHOLE + word, *runs]))


class Spelling(torch.nn.Module):
    """Adds to the embedding of each token of text the vectors of its runs of letters."""

    def __init__(self, texts: Sequence[str], width: int) -> None:
        """`texts` are those of the tokens in order of their ids; vectors are `width` long."""
        super().__init__()
        runs = [runs_of_letters(text) for text in texts]
        counts = Counter(run for each in runs for run in each)
        numbers = {run: number for number, run in enumerate(run for run, count in counts.items() if count > 1)}
        shared = [[numbers[run] for run in each if run in numbers] for each in runs]
        sizes = torch.tensor([len(each) for each in shared])
        self.register_buffer("runs", torch.tensor([number for each in shared for number in each]))
        self.register_buffer("first_run", sizes.cumsum(0) - sizes)
        # So that the sum of a long word's runs is no longer than that of a short one's.
        self.register_buffer("weights", sizes.clamp(min=1).float().rsqrt().repeat_interleave(sizes))
        self.vectors = torch.nn.Parameter(torch.randn(len(numbers), width) * 0.02)

    @classmethod
    def of(cls, tokenizer: Tokenizer, tokens: int, width: int) -> "Spelling":
        """Of the first `tokens` tokens."""
        return cls([tokenizer.decode([token], skip_special_tokens=False) for token in range(tokens)], width)

    def forward(self) -> Tensor:
        """[tokens, width], to be added to their embeddings."""
        return embedding_bag(self.runs, self.vectors, self.first_run, mode="sum", per_sample_weights=self.weights)
