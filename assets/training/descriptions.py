"""Questions that describe a thing with words from its own answers, without its name.

They tie the words of an answer to its topic, which helps with indirect questions that no author thought of.
"""

import random
import re
from collections.abc import Sequence

from corpus import Intent

MIN_WORDS, MAX_WORDS = 4, 12
FUNCTION_WORDS = frozenset(
    (
        "a an the of to in on at for from by with and or but so as is are was were be been it its this that these "
        "those they them their one each all no not only then than if when which what who how why can may must will "
        "would does do did has have had more most very also into out up down over per about after before between "
        "there here you your"
    ).split()
)


class Describer:
    """Makes descriptions; the frames have the slot <s> for the described words."""

    def __init__(self, frames: Sequence[str]) -> None:
        self.frames = frames

    def can_describe(self, intent: Intent) -> bool:
        """Small talk has answers that describe nothing."""
        return bool(self.frames) and not intent.source.startswith(("d", "f"))

    def description(self, intent: Intent, rng: random.Random) -> str:
        """Words of one answer without the names of the thing; empty when too little is left."""
        text = rng.choice([*intent.answers, *intent.reasons])
        sentence = rng.choice(sentences(text))
        words = without_names(sentence, intent.aliases).split()
        if len(words) < MIN_WORDS:
            return ""
        if rng.random() < 0.35:
            return " ".join(_key_words(words, rng))
        length = min(len(words), rng.randint(MIN_WORDS, MAX_WORDS))
        start = rng.randrange(len(words) - length + 1)
        return " ".join(words[start : start + length]).strip(",;: ")


def sentences(text: str) -> list[str]:
    """The sentences of an answer without Markdown."""
    plain = re.sub(r"```.*?```", " ", text, flags=re.DOTALL)
    plain = re.sub(r"[*`#>|]|^\s*(?:-|\d+\.)\s", " ", plain, flags=re.MULTILINE)
    found = [part.strip(" .!?") for part in re.split(r"(?<=[.!?])\s+|\n+|: ", plain)]
    return [part for part in found if part] or [plain.strip() or text]


def without_names(sentence: str, names: Sequence[str]) -> str:
    """The sentence with every name of the thing replaced by "it"."""
    for name in sorted(names, key=len, reverse=True):
        sentence = re.sub(rf"\b(?:(?:an?|the)\s+)?{re.escape(name)}s?\b", "it", sentence, flags=re.IGNORECASE)
    return sentence


def _key_words(words: list[str], rng: random.Random) -> list[str]:
    content = [word.strip(",;:()") for word in words if word.lower().strip(",;:()") not in FUNCTION_WORDS]
    if len(content) < 3:
        return words
    wanted = min(len(content), rng.randint(3, 6))
    chosen = sorted(rng.sample(range(len(content)), wanted))
    return [content[index] for index in chosen]
