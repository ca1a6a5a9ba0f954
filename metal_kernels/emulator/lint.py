"""What Apple's compiler would refuse although clang, which reads Metal here as C++, does not.

Three rules ask clang: the source is compiled once more with address spaces that exclude each other, once with a bfloat
that nothing converts to by itself, and once as C++14, which Metal was based on before its version 4. The others look at
words. The rules are those of the Metal Shading Language Specification, sections "Restrictions" (of C++), "Address
spaces", and "Function attributes and arguments".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from metal_kernels.emulator import toolchain
from metal_kernels.emulator.library import entries, read_program, whole_text
from metal_kernels.emulator.source import POSITIONS, Kernel, Program
from metal_kernels.emulator.structure import Scope, Structure
from metal_kernels.emulator.words import split, without_attributes

_SPACES = frozenset(
    {"device", "constant", "threadgroup", "thread", "threadgroup_imageblock", "ray_data", "object_data"}
)
_BANNED = {
    "double": "there is no double in Metal",
    "new": "there is no `new` in Metal",
    "delete": "there is no `delete` in Metal",
    "throw": "there are no exceptions in Metal",
    "try": "there are no exceptions in Metal",
    "catch": "there are no exceptions in Metal",
    "goto": "there is no goto in Metal",
    "virtual": "there are no virtual functions in Metal",
    "dynamic_cast": "there is no dynamic_cast in Metal",
    "typeid": "there is no typeid in Metal",
    "thread_local": "there is no thread_local in Metal",
    "register": "there is no `register` in Metal",
    "asm": "there is no inline assembly in Metal",
    "wchar_t": "there is no wchar_t in Metal",
    "noexcept": "there is no noexcept in Metal",
}
_BEFORE_LAMBDA = frozenset({"=", "(", ",", "return", "{", ";", "&&", "||", "?", ":", "["})
_BEFORE_CONDITION = frozenset({"if", "while", "for", "switch"})
_MOST_BUFFERS = 31

# Apple's compiler is a clang that takes what is newer than its language as an extension, with a warning. MLX's kernels
# are proof of that for `if constexpr`; the rest is not relied on.
_CXX14 = ("-std=c++14", "-Wno-everything", "-Werror=c++17-extensions", "-Werror=c++20-extensions", "-Werror=vla")
_PROVEN = "constexpr if is a C++17 extension"


@dataclass(frozen=True)
class Finding:
    """A line that Metal would refuse, and by which rule."""

    rule: str
    message: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line}: {self.rule}: {self.message}"


def lint(path: str | Path, include_dirs: Sequence[str | Path] = ()) -> list[Finding]:
    """What Metal would refuse in a file and what it includes, by line. Raises CompileError where clang refuses too."""
    program = read_program(Path(path), [Path(directory) for directory in include_dirs])
    structure = Structure(program.source)
    found = {
        Finding(rule, message, *program.source.where[i])
        for rule, check in _RULES
        for i, message in check(program, structure)
    }
    found.update(_parameters(program))
    text = whole_text(program) + "".join(entries(program.kernels.values()))
    found.update(_said_by_clang("address-space", text, "-w", "-DEMU_ADDRESS_SPACES"))
    found.update(_said_by_clang("bfloat", text, "-w", "-DEMU_STRICT_BFLOAT"))
    found.update(_said_by_clang("language", text, *_CXX14))
    return sorted(found, key=lambda finding: (finding.file, finding.line, finding.rule, finding.message))


def _said_by_clang(rule: str, text: str, *flags: str) -> Iterator[Finding]:
    for file, line, message in toolchain.errors_in(toolchain.check_syntax(text, *flags)):
        # Functions that differ in the address space alone are one to a clang that knows none.
        one = rule != "address-space" and message.startswith("redefinition of")
        if not one and not message.startswith(_PROVEN):
            yield Finding(rule, message, file, line)


# ---- rules about words: each yields the word's number and what is wrong

_Found = Iterator[tuple[int, str]]


def _banned(program: Program, structure: Structure) -> _Found:
    words = program.source.words
    for i, word in enumerate(words):
        if word in _BANNED:
            yield i, _BANNED[word]
        elif word == "std" and program.source.word(i + 1) == "::":
            yield i, "there is no C++ standard library in Metal: its functions are in metal::"
        elif word == "[" and program.source.word(i - 1) in _BEFORE_LAMBDA:
            yield i, "there are no lambda expressions in Metal"
        elif re.fullmatch(r"(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?[lL]", word) and re.search(r"[.eE]", word):
            yield i, "there is no long double in Metal"


def _function_pointers(program: Program, structure: Structure) -> _Found:
    """Where one is declared or called, `(*f)(`, or made, `&f`. Metal has them for functions marked visible alone."""
    source = program.source
    functions = {function.name for function in structure.functions}
    for i, word in enumerate(source.words):
        pointer = word == "(" and source.word(i + 1) == "*" and source.word(i - 1) not in _BEFORE_CONDITION
        called = pointer and source.word(source.closing(i) + 1) == "("
        made = word == "&" and source.word(i + 1) in functions and source.word(i + 2) in (")", ",", ";")
        if called or (made and source.word(i - 1) in ("=", "(", ",", "return")):
            yield i, "there are no pointers to ordinary functions in Metal"


def _static(program: Program, structure: Structure) -> _Found:
    """Variables that outlive a call lie in constant memory."""
    words = program.source.words
    for i, word in enumerate(words):
        if word == "static" and structure.scopes[i] in (Scope.FUNCTION, Scope.BLOCK):
            end = program.source.find(";", i)
            if "constant" not in words[i:end] and program.source.word(i - 1) != "constant":
                yield i, "there are no static variables in Metal functions"
    for start, end in structure.statements:
        statement = words[start:end]
        plain = without_attributes(statement)
        if "constant" in plain or plain[:1] in (["using"], ["typedef"], ["static_assert"], ["friend"], ["extern"]):
            continue
        if plain[:1] == ["template"]:
            plain = plain[_end_of_angles(plain) :]
        if not plain or plain[0] in ("struct", "class", "enum", "union", "using", "namespace", "public", "private"):
            continue
        equals = _top_level(plain, "=")
        variable = equals > 0 and "(" not in plain[:equals] and "operator" not in plain
        inside_class = structure.scopes[start] is Scope.CLASS
        if variable and (not inside_class or "static" in plain[:equals]):
            yield start, f"{plain[equals - 1]} has to be in the constant address space: `constant` is missing"


def _top_level(words: Sequence[str], wanted: str) -> int:
    depth = 0
    for i, word in enumerate(words):
        if depth == 0 and word == wanted:
            return i
        depth += (word in ("(", "<", "[", "{")) - (word in (")", ">", "]", "}"))
    return -1


def _end_of_angles(words: Sequence[str]) -> int:
    depth = 0
    for i, word in enumerate(words):
        depth += (word == "<") - (word == ">")
        if word == ">" and depth == 0:
            return i + 1
    return len(words)


def _pointers(program: Program, structure: Structure) -> _Found:
    """Pointers and references say what they point into."""
    source = program.source
    words = source.words
    for function in structure.functions:
        at = function.opening + 1
        for part in split(words[at : function.closing]):
            declared = without_attributes(part)
            equals = _top_level(declared, "=")
            declared = declared[:equals] if equals > 0 else declared
            if _points(declared) and not _SPACES.intersection(declared):
                name = next((w for w in reversed(declared) if w[0].isalpha() or w[0] == "_"), "a parameter")
                yield at, f"{name} needs an address space: device, constant, threadgroup or thread"
            at += len(part) + 1
    for i, word in enumerate(words):
        if structure.scopes[i] not in (Scope.FUNCTION, Scope.BLOCK):
            continue
        if word in ("reinterpret_cast", "static_cast", "const_cast") and source.word(i + 1) == "<":
            kind = words[i + 2 : source.closing(i + 1)]
            if _points(kind) and not _SPACES.intersection(kind):
                yield i, "the pointer that is cast to needs an address space"
        elif word == "*" and source.word(i + 1) == ")":
            opening = i
            while opening > 0 and words[opening] != "(":
                opening -= 1
            if not _SPACES.intersection(words[opening:i]) and source.word(opening + 1) not in ("*", "&"):
                yield i, "the pointer that is cast to needs an address space"
        elif word in ("*", "&") and source.word(i + 2) in ("=", ";") and _begins_declaration(words, i):
            yield i, f"{source.word(i + 1)} needs an address space: device, constant, threadgroup or thread"


def _points(declared: Sequence[str]) -> bool:
    """Whether a type is a pointer or a reference, outside the arguments of templates."""
    depth = 0
    for word in declared:
        depth += (word == "<") - (word == ">")
        if depth == 0 and word in ("*", "&", "&&"):
            return True
    return False


def _begins_declaration(words: Sequence[str], i: int) -> bool:
    """Whether the words before the `*` or `&` at i are just a type at the beginning of a statement, one that names no
    address space; `auto&` takes that of what it is made from."""
    if not (words[i + 1][0].isalpha() or words[i + 1][0] == "_"):
        return False
    depth, j = 0, i - 1
    while j >= 0:
        word = words[j]
        depth += (word == ">") - (word == "<")
        if depth == 0 and (word in (";", "{", "}", ")", "else") or word in _SPACES or word == "auto"):
            break
        if depth == 0 and word not in ("::", "<") and not (word[0].isalpha() or word[0] == "_"):
            return False
        if word in ("return", "case"):
            return False
        j -= 1
    return j < i - 1 and j >= 0 and words[j] in (";", "{", "}")


def _recursion(program: Program, structure: Structure) -> _Found:
    """Functions that call themselves, over others too. Overloads are left out: their names say too little."""
    words = program.source.words
    names = [function.name for function in structure.functions]
    own = {f.name: f for f in structure.functions if names.count(f.name) == 1 and program.source.word(f.at - 1) != "~"}
    calls = {
        name: {words[i] for i in range(f.first, f.last) if words[i] in own and program.source.word(i + 1) in ("(", "<")}
        for name, f in own.items()
    }
    for name, function in own.items():
        reached: set[str] = set()
        waiting = list(calls[name])
        while waiting:
            callee = waiting.pop()
            if callee not in reached:
                reached.add(callee)
                waiting += calls[callee]
        if name in reached and not _is_constexpr(words, function.at):
            yield function.at, f"{name} calls itself: there is no recursion in Metal"


def _is_constexpr(words: Sequence[str], at: int) -> bool:
    """Recursion that the compiler resolves is allowed."""
    j = at
    while j > 0 and words[j - 1] not in (";", "{", "}"):
        j -= 1
    return "constexpr" in words[j:at] or "template" in words[j:at]


_RULES: tuple[tuple[str, Callable[[Program, Structure], _Found]], ...] = (
    ("language", _banned),
    ("language", _function_pointers),
    ("storage", _static),
    ("pointer", _pointers),
    ("recursion", _recursion),
)


# ---- rules about kernels


def _parameters(program: Program) -> Iterator[Finding]:
    for kernel in {kernel.function.split("<")[0]: kernel for kernel in program.kernels.values()}.values():
        for message in _wrong_parameters(kernel):
            yield Finding("kernel", message, kernel.file, kernel.line)


def _wrong_parameters(kernel: Kernel) -> Iterator[str]:
    seen: set[tuple[str, int]] = set()
    counts: dict[int, str] = {}
    for p in kernel.parameters:
        words = set(re.findall(r"\w+|[*&]", p.type))
        if p.index >= 0:
            spaces = {"device", "constant"} if p.binding == "buffer" else {"threadgroup"}
            if not words & spaces or not words & {"*", "&"}:
                yield f"{p.name} has to be a pointer or reference to {' or '.join(sorted(spaces))} memory"
            if p.index >= _MOST_BUFFERS:
                yield f"the index of {p.name} is {p.index}: {_MOST_BUFFERS - 1} is the last"
            if (p.binding, p.index) in seen:
                yield f"{p.binding}({p.index}) is there twice"
            seen.add((p.binding, p.index))
            continue
        kind = re.fullmatch(r"(?:const )?(uint|ushort|uint32_t|uint16_t)([23]?)(?: const)?", p.type)
        if not kind:
            yield f"{p.name} has to be a uint or ushort, or a vector of them, not {p.type}"
        elif kind[2] and POSITIONS[p.binding][:1] in ("&", ""):
            yield f"{p.name} is one number: uint or ushort, not {p.type}"
        elif kind[2]:
            counts[int(kind[2])] = p.name
    if len(counts) > 1:
        yield f"the positions {' and '.join(counts.values())} have to be vectors of the same size"
