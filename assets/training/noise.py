"""Noise on questions: people mistype, add fillers and politeness, drop words and do not care for case."""

import random
import re
from collections.abc import Sequence

import alternatives

SYLLABLES = (
    "ka lo mi ren tas vor pel dun shi gra bel no zu fex qui wan dor pim sol tek ba cre du fla gi ho ju kli me nor "
    "o pra ri sta tu u vi wo xa yl zen ack ell ing ost umm ard ent ish olk arp ett inx oph urt"
).split()

FILLERS = (
    "actually basically maybe like just kind of thing stuff you know i mean man friend sir guys today now lol hmm well "
    "oh wow right sort bit little some any this that here there about with for from the a an again also even still "
    "really very quite pretty super much more good nice new old big word term concept topic idea question answer "
    "reading heard saw book article blog video talk class exam homework work colleague boss teacher confused stuck "
    "lost help need want try think guess suppose wonder understand story sense"
).split()

PREFIXES = (
    "hey,|hi,|please|quick question:|so|ok|hello!|um,|well,|one more thing:|i'm curious,|just wondering,|ok so|yo|"
    "alright,|question:|sorry,|hey there,|also,|another question:|good morning,|thanks!|great,|cool,|pls|help:|hm,|"
    "now|right,"
).split("|")

SUFFIXES = (
    "please|thanks|thank you|in short|for a beginner|briefly|again|i'm new to this|exactly|really|here|pls|thx|then|"
    "man|if you can|quickly|i forgot|just asking|you know|for me|by the way|in this app|today|asap|sir|my friend|"
    "if possible"
).split("|")

FRAME_STRENGTH = 0.5
"""How strong the noise is on the words around what is to be copied."""
SLOT = re.compile(r"<[a-zA-Z]+>")


def pseudo_word(rng: random.Random) -> str:
    """A word that means nothing."""
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.choice([2, 2, 3])))


def misspell(word: str, rng: random.Random) -> str:
    """One typing mistake: two letters swapped, one lost, doubled or wrong."""
    if len(word) < 4 or not word.isalpha():
        return word
    place = rng.randrange(len(word) - 1)
    kind = rng.random()
    if kind < 0.35:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    if kind < 0.65:
        return word[:place] + word[place + 1 :]
    if kind < 0.8:
        return word[:place] + word[place] + word[place:]
    return word[:place] + rng.choice("abcdefghijklmnopqrstuvwxyz") + word[place + 1 :]


class QuestionNoise:
    """Makes a written question look typed. Level 0 changes nothing but the first letter, 1 is the full noise."""

    def __init__(self, level: float = 1.0) -> None:
        self.level = level

    def apply(self, text: str, rng: random.Random, strength: float = 1.0, polite: bool = True) -> str:
        """All kinds of noise. Words with numbers or slots like `<x>` are left as they are: what will be copied from a
        question is filled in afterwards."""
        level = self.level * strength
        if level <= 0:
            return capitalise(text)
        if polite:
            text = self._add_politeness(text, rng, level)
        words = text.split(" ")
        if rng.random() < 0.35 * level:
            words = self._add_fillers(words, rng)
        if rng.random() < 0.4 * level and len(words) > 3:
            words = self._drop_words(words, rng, level)
        if rng.random() < 0.35 * level:
            share = rng.choice([0.08, 0.2])
            words = [misspell(word, rng) if rng.random() < share else word for word in words]
        text = self._change_case(" ".join(words), rng)
        if rng.random() < 0.5:
            text = text.rstrip("?.!")
        if rng.random() < 0.12 * level:
            text = text.replace("'", "")
        return text or "?"

    def framed(self, frames: Sequence[str], rng: random.Random) -> str:
        """One of some frames around what will be copied from it, its slots still empty."""
        return self.apply(alternatives.sample(rng.choice(frames), rng), rng, FRAME_STRENGTH)

    def _add_politeness(self, text: str, rng: random.Random, level: float) -> str:
        if rng.random() < 0.25 * level:
            text = rng.choice(PREFIXES) + " " + text
        if rng.random() < 0.2 * level:
            mark = text[-1] if text[-1] in "?.!" else ""
            text = text.rstrip("?.!") + " " + rng.choice(SUFFIXES) + mark
        return text

    @staticmethod
    def _add_fillers(words: list[str], rng: random.Random) -> list[str]:
        words = list(words)
        for _ in range(rng.choice([1, 1, 2, 3])):
            place = rng.choice([0, len(words), rng.randrange(len(words) + 1)])
            words.insert(place, rng.choice(FILLERS) if rng.random() < 0.9 else pseudo_word(rng))
        return words

    @staticmethod
    def _drop_words(words: list[str], rng: random.Random, level: float) -> list[str]:
        share = rng.choice([0.05, 0.12, 0.2]) * level
        kept = [w for w in words if rng.random() > share or any(c.isdigit() or c == "<" for c in w)]
        return kept or words

    @staticmethod
    def _change_case(text: str, rng: random.Random) -> str:
        kind = rng.random()
        if kind < 0.45:
            return text.lower()
        if kind < 0.49:
            return SLOT.sub(lambda slot: slot.group(0).lower(), text.upper())
        return capitalise(text)


def capitalise(text: str) -> str:
    """The first letter in upper case, the rest as it is."""
    return re.sub(r"^\s*\w", lambda match: match.group(0).upper(), text, count=1)
