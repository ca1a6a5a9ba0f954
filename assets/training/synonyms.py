"""Saying it in other words: everyday words of a question give way to others of the same meaning.

The lines of the corpus say each thing in some tens of ways; people say it in others. A word that stands for another in
all lines is learned from all of them (Zhang et al. 2015, "Character-level convolutional networks", section 2.4, did so
with a thesaurus; ours is the corpus' own, `@ synonyms`).
"""

import random
import re
from collections import Counter
from collections.abc import Sequence

from alternatives import Choice, parse

REWORDED, REPLACED = 0.4, 0.4
"""The share of the questions that are reworded, and of the words in these that are replaced where others are known."""


class Thesaurus:
    """Groups of words and phrases, any of which may stand for any other."""

    def __init__(self, lines: Sequence[str]) -> None:
        """Each line is one choice, `{big|large|huge}`. A word of several groups may mean several things: it takes the
        place of others, but none takes its."""
        groups = [_options(line) for line in lines]
        counts = Counter(word for group in groups for word in group)
        self._group_of = {word: group for group in groups for word in group if counts[word] == 1}
        longest_first = sorted(self._group_of, key=len, reverse=True)
        self._known = re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)

    def reword(self, text: str, rng: random.Random) -> str:
        """The same question, now and then in other words."""
        if rng.random() > REWORDED:
            return text
        return self._known.sub(lambda found: self._other(found.group(), rng), text)

    def _other(self, word: str, rng: random.Random) -> str:
        return rng.choice(self._group_of[word.lower()]) if rng.random() < REPLACED else word


def _options(line: str) -> list[str]:
    match parse(line).parts:
        case (Choice(options),):
            return ["".join(str(part) for part in option.parts) for option in options]
        case _:
            raise ValueError(f"not one choice: {line!r}")
