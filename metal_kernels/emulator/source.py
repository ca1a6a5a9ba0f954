"""From preprocessed Metal to C++ that clang compiles: kernels found, attributes taken out, and what C++ can't say put
in other words.

No parser is needed: Metal is C++ but for attributes, address spaces (which become macros), threadgroup variables,
function constants, template instantiations with a host name, and vectors made from several components.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from metal_kernels.emulator.words import Source, attributes, closing, join, split, without_attributes

SCALARS = ("char", "uchar", "short", "ushort", "int", "uint", "long", "ulong", "half", "bfloat", "float", "bool")
VECTORS = frozenset(f"{scalar}{count}" for scalar in SCALARS for count in (2, 3, 4))
_HALF = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?:h|H)")
_BFLOAT = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?:bf|BF)")
BARRIERS = ("threadgroup_barrier", "simdgroup_barrier")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a kernel: `binding` is "buffer", "threadgroup" or the name of a position such as
    "thread_position_in_grid"; `index` is that of a buffer or of threadgroup memory, -1 otherwise."""

    name: str
    type: str
    binding: str
    index: int = -1


@dataclass(frozen=True)
class Kernel:
    """A kernel under the name that the host asks for: `function` says which C++ function it is."""

    name: str
    function: str
    parameters: tuple[Parameter, ...]
    file: str
    line: int
    max_threads: int = 1024

    @property
    def buffers(self) -> tuple[int, ...]:
        return tuple(p.index for p in self.parameters if p.binding == "buffer")


@dataclass(frozen=True)
class FunctionConstant:
    name: str
    type: str
    index: int


@dataclass(frozen=True)
class Barrier:
    """A call of a barrier: the `number`-th of the source after preprocessing."""

    number: int
    file: str
    line: int
    text: str


@dataclass
class _Definition:
    name: str
    host_name: str
    parameters: tuple[Parameter, ...]
    template: bool
    file: str
    line: int
    max_threads: int


class Program:
    """A source rewritten, with what was found in it.

    `text` is C++ that wants the shim in front of it; `kernels` are by host name; `bodies` are the words of each
    kernel's body, from brace to brace.
    """

    def __init__(self, preprocessed: str, drop_barrier: int = -1) -> None:
        self.source = Source.read(preprocessed)
        self.kernels: dict[str, Kernel] = {}
        self.constants: list[FunctionConstant] = []
        self.barriers: list[Barrier] = []
        self.bodies: list[tuple[int, int]] = []
        self._definitions: dict[str, _Definition] = {}
        self._instances: list[tuple[str, str, int]] = []
        self._edits: dict[int, str] = {}
        self._dependents: set[str] = set()
        self._threadgroup_variables = 0
        self._drop = drop_barrier
        self._outside = _namespace_scope(self.source.words)
        i = 0
        while i < len(self.source.words):
            i = self._visit(i)
        self._name_kernels()
        self.text = "".join(self._written())

    # ---- words

    def _visit(self, i: int) -> int:
        """Rewrites what begins at word i; returns the word to go on with."""
        source = self.source
        word, after = source.words[i], source.word(i + 1)
        if word == "template" and after == "[[":
            return self._instantiation(i)
        if word in ("kernel", "[["):
            return self._kernel(i) if self._begins_kernel(i) else self._attribute(i)
        if word == "threadgroup":
            return self._threadgroup(i)
        if word == "constant" and self._outside[i]:
            return self._program_constant(i)
        if word in BARRIERS and after == "(":
            return self._barrier(i)
        if word in self._dependents:
            self._put(i, f"emu_value_of_{word}()")
        elif after == "(" and word in VECTORS and source.word(i - 1) != "operator":
            self._put(i, f"::emulator::make<{word}>")
        elif word == "vec" and after == "<":
            self._vector(i)
        elif _HALF.fullmatch(word):
            self._put(i, f"((half){_float(word[:-1])})")
        elif _BFLOAT.fullmatch(word):
            self._put(i, f"((bfloat){_float(word[:-2])})")
        return i + 1

    def _put(self, i: int, text: str) -> None:
        self._edits[self.source.at[i]] = text

    def _remove(self, first: int, last: int) -> None:
        for i in range(first, last + 1):
            self._put(i, "")

    def _written(self) -> Iterator[str]:
        for i, token in enumerate(self.source.tokens):
            yield self._edits.get(i, token)

    # ---- kernels

    def _begins_kernel(self, i: int) -> bool:
        source = self.source
        while source.word(i) == "[[":
            end = source.closing(i)
            if "kernel" in source.words[i:end]:
                return True
            i = end + 1
        return source.word(i) == "kernel"

    def _kernel(self, i: int) -> int:
        source, head = self.source, i
        while source.word(head) in ("[[", "kernel"):
            head = source.closing(head) + 1 if source.word(head) == "[[" else head + 1
        name, opening = source.word(head + 1), head + 2
        if source.word(head) != "void" or source.word(opening) != "(":
            raise source.error("a kernel is `void` and has a name and parameters", head)
        said = attributes(source.words[i:head])
        self._remove(i, head - 1)
        last = source.closing(opening)
        file, line = source.where[head + 1]
        parameters = self._parameters(source.words[opening + 1 : last], opening)
        before = source.word(i - 1)
        limit = said.get("max_total_threads_per_threadgroup", "")
        self._definitions[name] = _Definition(
            name,
            said.get("host_name", "") or name,
            parameters,
            before == ">",
            file,
            line,
            int(limit) if limit.isdigit() else 1024,
        )
        for j in range(opening, last):
            if source.words[j] == "[[":
                self._remove(j, source.closing(j))
        if source.word(last + 1) == "{":
            self.bodies.append((last + 1, source.closing(last + 1)))
        return last + 1

    def _parameters(self, words: Sequence[str], place: int) -> tuple[Parameter, ...]:
        declared = [part for part in split(words) if part]
        used = {int(said["buffer"]) for part in declared if (said := attributes(part)).get("buffer", "").isdigit()}
        found: list[Parameter] = []
        for part in declared:
            said, plain = attributes(part), without_attributes(part)
            binding, index = next(((k, v) for k, v in said.items() if k in POSITIONS or k in _INDEXED), ("", ""))
            if not said:  # the next buffer that is free
                binding, index = "buffer", str(next(n for n in range(len(used) + 1) if n not in used))
                used.add(int(index))
            if not binding:
                raise self.source.error(f"the attribute of {plain[-1]} is not known: {', '.join(said)}", place)
            if binding in _INDEXED and not index.isdigit():
                raise self.source.error(f"the index of {plain[-1]} has to be a number", place)
            found.append(Parameter(plain[-1], join(plain[:-1]), binding, int(index) if binding in _INDEXED else -1))
        return tuple(found)

    def _instantiation(self, i: int) -> int:
        """`template [[host_name("x")]] [[kernel]] decltype(f<A>) f<A>;`, or with `void` and a parameter list."""
        source = self.source
        end = source.find(";", i)
        said = attributes(source.words[i:end])
        words = without_attributes(source.words[i + 1 : end])
        if words[:1] == ["kernel"]:
            words = words[1:]
        if words[:1] == ["decltype"]:
            words = words[closing(words, 1) + 1 :]
        elif words[:1] == ["void"]:
            words = words[1:]
        last = closing(words, 1) + 1 if words[1:2] == ["<"] else 1
        if "host_name" not in said:
            raise source.error("an instantiation needs a host_name: nobody could ask for it otherwise", i)
        if not words:
            raise source.error("this instantiation is not understood", i)
        self._instances.append((said["host_name"], join(words[:last]), i))
        self._remove(i, end)
        return end + 1

    def _name_kernels(self) -> None:
        instances = list(self._instances)
        instantiated = {function.split("<")[0] for _, function, _ in instances}
        plain = [d for d in self._definitions.values() if not d.template and d.name not in instantiated]
        instances += [(d.host_name, d.name, -1) for d in plain]
        for host_name, function, place in instances:
            definition = self._definitions.get(function.split("<")[0])
            if definition is None:
                raise self.source.error(f"there is no kernel {function.split('<')[0]} to instantiate", place)
            if host_name in self.kernels:
                raise self.source.error(f"there are two kernels named {host_name}", place)
            d = definition
            self.kernels[host_name] = Kernel(host_name, function, d.parameters, d.file, d.line, d.max_threads)

    # ---- declarations

    def _attribute(self, i: int) -> int:
        end = self.source.closing(i)
        if "fallthrough" not in self.source.words[i:end]:
            self._remove(i, end)
        return end + 1

    def _program_constant(self, i: int) -> int:
        """A function constant becomes a variable that a launch sets. What is computed from one is computed anew
        each time it is used, and not when the library is loaded."""
        source = self.source
        end = source.find(";", i)
        words = source.words[i + 1 : end]
        said = attributes(words)
        if "function_constant" in said:
            plain = without_attributes(words)
            name, index = plain[-1], said["function_constant"]
            if not index.isdigit():
                raise source.error(f"the index of function constant {name} has to be a number", i)
            self.constants.append(FunctionConstant(name, join(plain[:-1]), int(index)))
            self._put(i, "static")
            self._remove(source.words.index("[[", i), end - 1)
            self._put(
                end,
                f"; static int emu_constant_{name} = "
                f'(emu_register_constant({index}, &{name}, sizeof({name}), "{name}"), 0);',
            )
            return end + 1
        names = {c.name for c in self.constants} | self._dependents
        equals = i + 1 + words.index("=") if "=" in words else end
        if names.intersection(source.words[equals:end]) and not {"(", "{"}.intersection(source.words[i:equals]):
            name = source.words[equals - 1]
            kind = join([w for w in source.words[i + 1 : equals - 1] if w not in ("constexpr", "const")])
            if source.word(i - 1) in ("static", "constexpr"):
                self._remove(i - 1, i - 1)
            self._put(i, "static inline")
            self._remove(i + 1, equals - 2)
            self._put(i + 1, kind)
            self._put(equals - 1, f" emu_value_of_{name}() {{")
            self._put(equals, "return")
            self._put(end, "; }")
            j = equals + 1
            while j < end:
                j = self._visit(j)
            self._dependents.add(name)
            return end + 1
        return i + 1

    def _threadgroup(self, i: int) -> int:
        """`threadgroup float a[8], b;`: one object for all threads, whose bounds are known at run time. Pointers and
        references stay as they are."""
        source, depth, end = self.source, 0, i + 1
        if source.word(end) in ("{", ":", ";", "const", "volatile") and source.word(i - 1) in (")", "const"):
            raise source.error("member functions for an address space of their own are not supported here", i)
        while depth >= 0 and source.word(end) not in ("*", "&", "&&", ";", "=", "{", ""):
            if depth == 0 and source.word(end) in (",", ")"):
                break
            if source.word(end) in ("(", "["):
                if source.word(end + 1) in ("*", "&"):
                    return i + 1
                end = source.closing(end)
            depth += {"<": 1, ">": -1}.get(source.word(end), 0)
            end += 1
        if depth < 0 or source.word(end) in ("*", "&", "&&"):
            return i + 1  # `depth < 0`: it ends a list of template arguments
        end = next(j for j in range(end, len(source.words)) if source.words[j] in (";", "=", "{", ")"))
        words, first = source.words[i + 1 : end], i
        if source.word(i - 1) == ")":
            opening = next(j for j in range(i - 1, 0, -1) if source.words[j] == "(")
            first = opening - 1 if source.word(opening - 1) == "alignas" else i
        if words[:1] == ["alignas"]:
            words = words[closing(words, 1) + 1 :]
        if source.words[end] in ("=", "{"):
            raise source.error("a threadgroup variable has no initial value in Metal", i)
        body = next((opened for opened, closed in self.bodies if opened < i < closed), -1)
        if body < 0:
            raise source.error("threadgroup variables are declared in kernels only", i)
        # A type of this kernel's own, and of this instance of it: what it declares is counted by it.
        self._put(body, "{ struct emu_kernel {}; ::emulator::enter<emu_kernel>();")
        parts = split(words)
        before = source.word(first - 1)
        if source.words[end] == ")" or not parts or before not in (";", "{", "}", ")", ":", "volatile", "const"):
            raise source.error("this use of `threadgroup` is not understood", i)
        stop = parts[0].index("[") if "[" in parts[0] else len(parts[0])
        kind, texts = " ".join(parts[0][: stop - 1]), []
        parts[0] = parts[0][stop - 1 :]
        for part in parts:
            self._threadgroup_variables += 1
            n = self._threadgroup_variables
            texts.append(
                f"typedef {kind} emu_type_{n} {' '.join(part[1:])}; threadgroup emu_type_{n}& {part[0]} = "
                f"::emulator::threadgroup_variable<emu_type_{n}, {n}, emu_kernel>()"
            )
        self._remove(first, end - 1)
        self._put(first, "; ".join(texts))
        return end

    # ---- expressions

    def _barrier(self, i: int) -> int:
        source = self.source
        end = source.closing(i + 1)
        number = len(self.barriers)
        file, line = source.where[i]
        self.barriers.append(Barrier(number, file, line, join(source.words[i : end + 1])))
        if number == self._drop:
            self._remove(i, end)
            self._put(i, "((void)0)")
        return end + 1

    def _vector(self, i: int) -> None:
        """`vec<T, 4>(a, b)`: a cast to more than one component, which C++ does not have."""
        source = self.source
        end = source.closing(i + 1)
        if source.word(end + 1) == "(" and source.word(i - 1) not in ("decltype", "operator"):
            start = i - 2 if source.word(i - 1) == "::" else i
            self._put(start, "::emulator::make<" + ("metal::" if start != i else "") + "vec")
            if start != i:
                self._remove(start + 1, i)
            self._put(end, ">>")


def _namespace_scope(words: Sequence[str]) -> list[bool]:
    """Of each word, whether it stands in no function, class or pair of parentheses."""
    outside: list[bool] = []
    opened: list[bool] = []  # of the brackets around a word, whether they count
    for i, word in enumerate(words):
        if word in (")", "}") and opened:
            opened.pop()
        outside.append(not any(opened))
        if word in ("(", "{"):
            opened.append(word == "(" or "namespace" not in words[max(0, i - 4) : i])
    return outside


def _float(digits: str) -> str:
    return f"{digits}f" if "." in digits or "e" in digits.lower() else f"{digits}.0f"


_INDEXED = ("buffer", "threadgroup")
# What a position is in EmuIds.
POSITIONS = {
    "thread_position_in_grid": "thread_in_grid",
    "threadgroup_position_in_grid": "group_in_grid",
    "thread_position_in_threadgroup": "thread_in_group",
    "threads_per_threadgroup": "group_size",
    "dispatch_threads_per_threadgroup": "full_group_size",
    "threads_per_grid": "grid",
    "threadgroups_per_grid": "groups",
    "thread_index_in_threadgroup": "&thread_index",
    "thread_index_in_simdgroup": "&lane",
    "simdgroup_index_in_threadgroup": "&simdgroup",
    "simdgroups_per_threadgroup": "&simdgroups",
    "dispatch_simdgroups_per_threadgroup": "&full_simdgroups",
    "threads_per_simdgroup": "",
    "thread_execution_width": "",
}
