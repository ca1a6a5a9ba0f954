"""The words of a preprocessed file, where each stands, and what brackets and commas make of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""[ \t\r\f\v]+ | \n | //[^\n]* | /\*.*?\*/ | ^[ \t]*\#[^\n]*
      | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'
      | [A-Za-z_]\w* | \.?\d(?:[eEpP][+-]|[\w.])*
      | \[\[ | \]\] | :: | -> | <<= | >>= | && | \|\| | \+\+ | -- | [-+*/%&|^!=<>]= | .""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
_MARKER = re.compile(r'\s*#\s*(?:line\s+)?(\d+)\s+"((?:\\.|[^"\\])*)"')
_PAIRS = {"(": ")", "[": "]", "{": "}", "[[": "]]", "<": ">"}


def _tokens(text: str) -> Iterator[str]:
    """`]]` ends an attribute only where one is open: in `a[b[i]]` it is two words."""
    open_attributes = 0
    for token in _TOKEN.findall(text):
        if token == "[[":
            open_attributes += 1
        elif token == "]]":
            if not open_attributes:
                yield from "]]"
                continue
            open_attributes -= 1
        yield token


class SourceError(Exception):
    """A source that can't be understood, or that Metal does not have, at a line."""

    def __init__(self, message: str, file: str, line: int) -> None:
        super().__init__(f"{file}:{line}: {message}")
        self.message, self.file, self.line = message, file, line


@dataclass
class Source:
    """The tokens of a preprocessed file: `words` are those that mean something, `where[i]` is the place of word i."""

    tokens: list[str]
    words: list[str] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    where: list[tuple[str, int]] = field(default_factory=list)

    @classmethod
    def read(cls, text: str) -> Source:
        source = cls(list(_tokens(text)))
        file, line = "", 1
        for i, token in enumerate(source.tokens):
            if token == "\n":
                line += 1
            elif token.lstrip().startswith("#"):
                if marker := _MARKER.match(token):
                    file, line = marker[2], int(marker[1]) - 1
            elif token.startswith("/*"):
                line += token.count("\n")
            elif not token.isspace() and not token.startswith("//"):
                source.words.append(token)
                source.at.append(i)
                source.where.append((file, line))
        return source

    def word(self, i: int) -> str:
        return self.words[i] if 0 <= i < len(self.words) else ""

    def error(self, message: str, i: int) -> SourceError:
        file, line = self.where[min(i, len(self.where) - 1)] if self.where else ("", 0)
        return SourceError(message, file, line)

    def closing(self, i: int) -> int:
        """The word that closes the bracket at word i."""
        opening, depth = self.words[i], 0
        for j in range(i, len(self.words)):
            if self.words[j] == opening:
                depth += 1
            elif self.words[j] == _PAIRS[opening]:
                depth -= 1
                if depth == 0:
                    return j
        raise self.error(f"{opening} is never closed", i)

    def find(self, word: str, start: int) -> int:
        try:
            return self.words.index(word, start)
        except ValueError:
            raise self.error(f"{word} is missing", start) from None


def split(words: Sequence[str]) -> list[list[str]]:
    """At the commas that are in no brackets."""
    parts: list[list[str]] = [[]]
    depth = angles = 0
    for word in words:
        if word in ("(", "[", "{", "[["):
            depth += 1
        elif word in (")", "]", "}", "]]"):
            depth -= 1
        elif word == "<":
            angles += 1
        elif word == ">":
            angles = max(0, angles - 1)
        if word == "," and depth == 0 and angles == 0:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts if parts[-1] or len(parts) > 1 else []


def join(words: Sequence[str]) -> str:
    """Words as one would write them."""
    text = " ".join(words)
    text = re.sub(r"\s*(::|<|>|\(|\)|\[|\])\s*", r"\1", text)
    return re.sub(r"\s+([*&,])", r"\1", re.sub(r">(?=\w)", "> ", text))


def attributes(words: Sequence[str]) -> dict[str, str]:
    """`[[buffer(0)]]`, among other words, as {"buffer": "0"}."""
    found: dict[str, str] = {}
    for i, word in enumerate(words):
        if word != "[[":
            continue
        for part in split(words[i + 1 : words.index("]]", i)]):
            found[part[0]] = "".join(part[2:-1]).strip('"') if part[1:2] == ["("] else ""
    return found


def without_attributes(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    inside = False
    for word in words:
        if word == "[[":
            inside = True
        if not inside:
            kept.append(word)
        if word == "]]":
            inside = False
    return kept


def closing(words: Sequence[str], i: int) -> int:
    """The word that closes the bracket at i, or the last."""
    depth = 0
    for j in range(i, len(words)):
        depth += (words[j] == words[i]) - (words[j] == _PAIRS[words[i]])
        if depth == 0:
            return j
    return len(words) - 1
