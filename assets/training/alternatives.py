"""Phrases with alternatives: "how {many|few|} tokens {fit|go {in|into}} a block".

A phrase is parsed once into a small tree; from the tree one phrase is drawn at random, all are counted, or a regular
expression that matches every one of them is built.
"""

import random
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product


@dataclass(frozen=True)
class Choice:
    """One pair of braces: exactly one of the options is taken."""

    options: tuple["Phrase", ...]


@dataclass(frozen=True)
class Phrase:
    """Literal texts and choices, one after the other."""

    parts: tuple["str | Choice", ...]


class PhraseError(ValueError):
    """The braces of a phrase do not match."""


@lru_cache(maxsize=100_000)
def parse(text: str) -> Phrase:
    """Parse a phrase; raises PhraseError when its braces do not match."""
    phrase, end = _parse_phrase(text, 0, inside=False)
    if end != len(text):
        raise PhraseError(f"unexpected '}}' at column {end + 1}")
    return phrase


def _parse_phrase(text: str, start: int, inside: bool) -> tuple[Phrase, int]:
    parts: list[str | Choice] = []
    literal: list[str] = []
    position = start
    while position < len(text):
        character = text[position]
        if character == "{":
            if literal:
                parts.append("".join(literal))
                literal = []
            choice, position = _parse_choice(text, position)
            parts.append(choice)
            continue
        if character == "}" or (inside and character == "|"):
            break
        literal.append(character)
        position += 1
    if literal:
        parts.append("".join(literal))
    return Phrase(tuple(parts)), position


def _parse_choice(text: str, start: int) -> tuple[Choice, int]:
    options: list[Phrase] = []
    position = start + 1
    while True:
        option, position = _parse_phrase(text, position, inside=True)
        options.append(option)
        if position >= len(text):
            raise PhraseError(f"'{{' at column {start + 1} is never closed")
        position += 1
        if text[position - 1] == "}":
            return Choice(tuple(options)), position


def sample(text: str, rng: random.Random) -> str:
    """Draw one phrase; double spaces left by empty alternatives are removed."""
    return tidy(_sample(parse(text), rng))


def _sample(phrase: Phrase, rng: random.Random) -> str:
    return "".join(part if isinstance(part, str) else _sample(rng.choice(part.options), rng) for part in phrase.parts)


def variants(text: str) -> list[str]:
    """One phrase for each option, where the text is a single choice, and a single phrase where it is not."""
    phrase = parse(text)
    match phrase.parts:
        case (Choice(options),):
            return [tidy(_first(option)) for option in options]
        case _:
            return [tidy(_first(phrase))]


def _first(phrase: Phrase) -> str:
    return "".join(part if isinstance(part, str) else _first(part.options[0]) for part in phrase.parts)


def every(text: str) -> Iterator[str]:
    """All phrases that the alternatives make; some may be the same."""
    return map(tidy, _every(parse(text)))


def _every(phrase: Phrase) -> Iterator[str]:
    parts = (
        [part] if isinstance(part, str) else [text for option in part.options for text in _every(option)]
        for part in phrase.parts
    )
    return map("".join, product(*parts))


def tidy(text: str) -> str:
    """Collapse runs of blanks and drop a blank before punctuation."""
    return re.sub(r" +([?!.,;:])(?=\s|$)", r"\1", re.sub(r" {2,}", " ", text)).strip()


@lru_cache(maxsize=100_000)
def count(text: str) -> int:
    """How many phrases the alternatives make."""
    return _count(parse(text))


def _count(phrase: Phrase) -> int:
    total = 1
    for part in phrase.parts:
        if isinstance(part, Choice):
            total *= sum(_count(option) for option in part.options)
    return total


def squeeze(text: str) -> str:
    """Lower case letters and digits only: the form in which phrases are compared."""
    return re.sub(r"[\W_]+", "", text.lower())


def pattern(text: str, slots: dict[str, str] | None = None) -> str:
    """A regular expression for every phrase in squeezed form; slots maps "<x>" to the expression for it."""
    return _pattern(parse(text), slots or {})


def _pattern(phrase: Phrase, slots: dict[str, str]) -> str:
    pieces: list[str] = []
    for part in phrase.parts:
        if isinstance(part, Choice):
            pieces.append("(?:" + "|".join(_pattern(option, slots) for option in part.options) + ")")
            continue
        literals = re.split(r"(<\w+>)", part)
        pieces += [slots[literal] if literal in slots else squeeze(literal) for literal in literals]
    return "".join(pieces)


def openings(text: str, length: int, slots: Collection[str] = ()) -> set[str]:
    """How the squeezed phrases begin: so many characters, or fewer where one ends or one of `slots` comes sooner."""
    return {opening for opening, _ in _openings(parse(text), length, slots)}


def _openings(phrase: Phrase, length: int, slots: Collection[str]) -> set[tuple[str, bool]]:
    """With whether more may be added: no slot was met."""
    found = {("", True)}
    for part in phrase.parts:
        if isinstance(part, Choice):
            further = set().union(*(_openings(option, length, slots) for option in part.options))
        else:
            literals = re.split(r"(<\w+>)", part)
            slot = next((place for place, literal in enumerate(literals) if literal in slots), None)
            further = {(squeeze("".join(literals[:slot])), slot is None)}
        found = {
            ((opening + more)[:length], goes_on) if open_ended and len(opening) < length else (opening, open_ended)
            for opening, open_ended in found
            for more, goes_on in further
        }
    return found
