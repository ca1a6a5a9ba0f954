"""What recipes have in common: their shape, which operators they have, which numbers they take and in which order.

"b - a / 100 * b" and "a - b / 100 * a" are both off a price, and both take the numbers that "a * b / 100" takes. Some
recipes are asked for by hundreds of lines, others by three: those are found by their parts.
"""

import re
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from recipes import CALCULATOR, LETTER, OPERATOR
from thoughts import CLOSE, OPEN

FUNCTION = re.compile(r"[a-z]{2,}")
CONSTANT = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")


def parts_of(name: str) -> list[str]:
    """Of a recipe by its thought; none of what has no form."""
    form = name.removeprefix(OPEN).removesuffix(CLOSE).removeprefix(f"{CALCULATOR}: ")
    letters = LETTER.findall(form)
    if not letters:
        return []
    distinct = list(dict.fromkeys(letters))
    return [
        f"shape {LETTER.sub('x', form)}",
        f"order {' '.join(letters)}",
        f"numbers {len(distinct)}",
        f"first {letters[0]}",
        *(f"takes {letter}" for letter in distinct),
        *(f"operator {operator}" for operator in sorted(set(OPERATOR.findall(form)))),
        *(f"function {function}" for function in sorted(set(FUNCTION.findall(form)))),
        *(f"constant {constant}" for constant in sorted(set(CONSTANT.findall(form)))),
    ]


def shares_of_parts(names: Sequence[str]) -> Tensor:
    """[recipes, parts]: what each has of each part, rows of length one; what only one recipe has is no part."""
    by_recipe = [parts_of(name) for name in names]
    counts = Counter(part for parts in by_recipe for part in parts)
    numbers = {part: number for number, part in enumerate(part for part, count in counts.items() if count > 1)}
    shares = torch.zeros(len(names), len(numbers))
    for row, parts in enumerate(by_recipe):
        for part in parts:
            if part in numbers:
                shares[row, numbers[part]] = 1.0
    return shares / shares.norm(dim=1, keepdim=True).clamp(min=1.0)
