"""Many phrases with alternatives, and which of them make a given text."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

import alternatives

ANYTHING = ("(.+)", "(.+?)")
"""What a slot may hold: as much as possible, or as little."""
OPENING = 5
"""Characters by which phrases are looked up: matching each text with each of tens of thousands takes minutes."""


class Phrasings:
    """Patterns of squeezed phrases; "<x>" and "<v>" may be anything."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._by_opening: dict[str, list[str]] = defaultdict(list)
        self._compiled: dict[str, list[re.Pattern[str]]] = {}
        for phrase in dict.fromkeys(phrases):
            for opening in alternatives.openings(phrase, OPENING, ("<x>", "<v>")):
                self._by_opening[opening].append(phrase)

    def make(self, text: str) -> bool:
        """Whether some phrase is the whole text."""
        return any(True for _ in self._matches(text))

    def slot_texts(self, text: str) -> set[str]:
        """What would have to stand in the slots of the phrases that make the text."""
        return {group for match in self._matches(text) for group in match.groups() if group}

    def _matches(self, text: str) -> Iterator[re.Match[str]]:
        for length in range(min(len(text), OPENING) + 1):
            for phrase in self._by_opening.get(text[:length], ()):
                for expression in self._expressions(phrase):
                    if match := expression.fullmatch(text):
                        yield match

    def _expressions(self, phrase: str) -> list[re.Pattern[str]]:
        if phrase not in self._compiled:
            patterns = {alternatives.pattern(phrase, {"<x>": any_, "<v>": any_}) for any_ in ANYTHING}
            self._compiled[phrase] = [re.compile(pattern) for pattern in patterns if pattern]
        return self._compiled[phrase]
