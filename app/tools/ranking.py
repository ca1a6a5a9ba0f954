"""Passages of text by how well they fit a few words: BM25 (Robertson and Zaragoza, 2009), over stems of words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

_K1, _B = 1.5, 0.75
"""How soon more of the same word counts less, and how much long passages pay for their length: the usual values."""
_WORD = re.compile(r"[a-z0-9]+")
_ENDINGS = ("ing", "ers", "er", "ed", "es", "e", "s")
_EMPTY = frozenset(
    re.findall(
        r"\w+",
        "a about an and are as at be by can do does for from has have how i in is it me my of on or say tell that the "
        "there this to was what when where which who why will with you your",
    )
)
"""Words that say nothing about what is looked for."""


@dataclass(frozen=True, slots=True)
class Passage:
    heading: str
    """What it stands under, outermost first; its words count as well."""
    text: str


class Ranking:
    """Passages, ready to be searched."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self._counts = [Counter(map(_stem, _words(f"{p.heading} {p.text}"))) for p in passages]
        self._lengths = [sum(counts.values()) for counts in self._counts]
        self._mean = sum(self._lengths) / max(1, len(passages))
        self._holders = Counter(stem for counts in self._counts for stem in counts)

    def best(self, query: str, most: int) -> list[Passage]:
        """The passages that hold words of the query, best first; of equals, the first."""
        wanted = {_stem(word) for word in _words(query) if word not in _EMPTY}
        scores = [self._score(wanted, place) for place in range(len(self._passages))]
        order = sorted(range(len(scores)), key=lambda place: -scores[place])
        return [self._passages[place] for place in order[:most] if scores[place] > 0]

    def _score(self, wanted: set[str], place: int) -> float:
        counts, length = self._counts[place], self._lengths[place]
        score = 0.0
        for stem in wanted & counts.keys():
            holders = self._holders[stem]
            rarity = log(1 + (len(self._passages) - holders + 0.5) / (holders + 0.5))
            count = counts[stem]
            score += rarity * count * (_K1 + 1) / (count + _K1 * (1 - _B + _B * length / self._mean))
        return score


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _stem(word: str) -> str:
    """Without common endings, so that "draft", "drafts" and "drafting" are one word."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word
