"""What the braces of a source enclose, and its functions: as much as the lints need, without parsing C++."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from metal_kernels.emulator.words import Source


class Scope(Enum):
    NAMESPACE = "namespace"
    CLASS = "class"
    ENUM = "enum"
    FUNCTION = "function"  # a function's body
    BLOCK = "block"  # or an initialiser: what stands in a function, or behind `=`


@dataclass(frozen=True)
class Function:
    """A function that is defined: words `opening` to `closing` are its parameters in parentheses, `first` to `last`
    its body in braces."""

    name: str
    at: int
    opening: int
    closing: int
    first: int
    last: int


class Structure:
    """`scopes[i]` is the innermost scope around word i, `statements` the runs of words that stand in namespaces and
    classes: from the word behind the last `;`, `{` or `}` up to, and without, the next."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.scopes: list[Scope] = []
        self.functions: list[Function] = []
        self.statements: list[tuple[int, int]] = []
        stack = [Scope.NAMESPACE]
        start = parentheses = 0
        i = 0
        while i < len(source.words):
            word = source.words[i]
            if word == "}" and len(stack) > 1:
                stack.pop()
            self.scopes.append(stack[-1])
            if word in ("(", ")"):
                parentheses += 1 if word == "(" else -1
            declares = stack[-1] in (Scope.NAMESPACE, Scope.CLASS) and parentheses == 0
            if word == "{":
                scope = self._opened(source.words[start:i], stack[-1]) if declares else Scope.BLOCK
                if scope is Scope.FUNCTION:
                    self._add_function(start, i)
                stack.append(scope)
            if word in (";", "{", "}"):
                if declares and start < i:
                    self.statements.append((start, i))
                start = i + 1
            i += 1

    @staticmethod
    def _opened(head: Sequence[str], around: Scope) -> Scope:
        plain = list(_outside_brackets(head))
        if "namespace" in plain or plain[:1] == ["extern"]:
            return Scope.NAMESPACE
        if "enum" in plain:
            return Scope.ENUM
        if "(" in head and "=" not in plain:
            return Scope.FUNCTION
        if {"struct", "class", "union"}.intersection(plain):
            return Scope.CLASS
        return Scope.BLOCK if around is not Scope.NAMESPACE or "=" in plain or head else Scope.NAMESPACE

    def _add_function(self, start: int, brace: int) -> None:
        words, angles = self.source.words, 0
        for i in range(start, brace):
            angles += {"<": 1, ">": -1}.get(words[i], 0)
            if words[i] == "[[" or (words[i] == "(" and words[i - 1] in ("alignas", "decltype", "__attribute__")):
                continue
            if words[i] == "(" and angles <= 0 and (words[i - 1][0].isalpha() or words[i - 1][0] == "_"):
                closing = self.source.closing(i)
                last = self.source.closing(brace)
                self.functions.append(Function(words[i - 1], i - 1, i, closing, brace, last))
                return


def _outside_brackets(words: Sequence[str]) -> Iterator[str]:
    depth = 0
    for word in words:
        if word in ("(", "<", "[", "[["):
            depth += 1
        elif word in (")", ">", "]", "]]"):
            depth -= 1
        elif depth == 0:
            yield word
