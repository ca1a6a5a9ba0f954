"""What Apple's compiler refuses is found at its line, and what it accepts is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from metal_kernels import emulator
from metal_kernels.emulator.lint import _BANNED

from . import marks
from .conftest import KERNELS


def test_findings_are_those_that_the_file_announces() -> None:
    found = emulator.lint(KERNELS / "refused.metal")
    places = {(finding.rule, Path(finding.file).name, finding.line) for finding in found}
    assert places == marks.of_file(KERNELS / "refused.metal")


def test_kernel_parameters_are_each_named() -> None:
    found = [f.message for f in emulator.lint(KERNELS / "refused.metal") if f.rule == "kernel"]
    assert found == [
        "bare has to be a pointer or reference to constant or device memory",
        "buffer(0) is there twice",
        "index has to be a uint or ushort, or a vector of them, not int",
        "lane is one number: uint or ushort, not uint2",
        "the index of out is 31: 30 is the last",
        "the positions at and group have to be vectors of the same size",
    ]


SEEDS = {
    "double": "const double x = 1.0;",
    "new": "thread float* x = new float(1.0f);",
    "delete": "thread float* x = nullptr; delete x;",
    "throw": "throw 1;",
    "try": "try { out[0] = 1.0f; }",
    "catch": "if (out) {} catch (int x) {}",
    "goto": "goto end;",
    "virtual": "struct A { virtual void f() {} };",
    "dynamic_cast": "(void)dynamic_cast<thread float*>(out);",
    "typeid": "(void)typeid(out);",
    "thread_local": "thread_local float x;",
    "register": "register float x = 1.0f;",
    "asm": 'asm("nop");',
    "wchar_t": "const wchar_t x = 1;",
    "noexcept": "const bool x = noexcept(out[0]);",
}


def test_what_the_language_leaves_out_is_found_by_its_word(tmp_path: Path) -> None:
    lines = [f"kernel void k{i}(device float* out [[buffer(0)]]) {{ {line} }}" for i, line in enumerate(SEEDS.values())]
    path = tmp_path / "banned.metal"
    path.write_text("\n".join(["#include <metal_stdlib>", "using namespace metal;", *lines]))
    found = {(f.line, f.message) for f in emulator.lint(path) if f.message in _BANNED.values()}
    assert found == {(line, _BANNED[word]) for line, word in enumerate(SEEDS, 3)}
    assert set(SEEDS) == set(_BANNED)


@pytest.mark.parametrize("name", ["bugs.metal", "controls.metal"])
def test_metal_is_not_refused(name: str) -> None:
    """Wrong kernels are in good Metal, too."""
    assert emulator.lint(KERNELS / name) == []


REFUSED = {
    "threadgroup float tile[4] = {};": "a threadgroup variable has no initial value",
    "threadgroup int count = 0;": "a threadgroup variable has no initial value",
    "float4 v = float4(1.0f, 2.0f);": "as many components as it has",
    "int4 v = float4(1.0f);": "cannot initialize",
    "out[i] = simd_sum(ulong(1));": "no matching function",
    "out[i] = min(1.0f, 2);": "no matching function",
    "out[i] = std::max(1.0f, 2.0f);": "std",
    "constant float* p = out; p[0] = 1.0f;": "read-only|const-qualified",
    "int size = 4; threadgroup float tile[size];": "threadgroup_variable",
    "undeclared(out);": "undeclared",
}


@pytest.mark.parametrize("line", REFUSED)
def test_compile_error_names_the_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.metal"
    path.write_text(
        "#include <metal_stdlib>\nusing namespace metal;\n"
        "kernel void k(device float* out [[buffer(0)]], uint i [[thread_position_in_grid]]) {\n"
        f"    {line}\n}}\n"
    )
    with pytest.raises(emulator.CompileError, match=rf"(?s)wrong\.metal:4:.*({REFUSED[line]})"):
        emulator.compile(path)


WRONG_FILES = {
    "threadgroup float shared[4];\n": "declared in kernels only",
    "float f(threadgroup float x) { return x; }\n": "declared in kernels only",
    "kernel float k(device float* x [[buffer(0)]]) { return x[0]; }\n": "void",
    "kernel void k(device float* x [[texture_of_all(0)]]) {}\n": "attribute of x is not known",
    "constant int n [[function_constant(N)]];\n": "has to be a number",
    'template [[host_name("x")]] [[kernel]] decltype(f<int>) f<int>;\n': "no kernel f to instantiate",
    "kernel void k(device float* x [[buffer(0)]]) {\n": "never closed",
    "#include <vector>\n": "vector",
}


@pytest.mark.parametrize("text", WRONG_FILES)
def test_what_is_no_metal_is_one_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.metal"
    path.write_text(text)
    with pytest.raises(emulator.CompileError, match=rf"wrong\.metal:1:.*{WRONG_FILES[text]}"):
        emulator.compile(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(emulator.CompileError, match=r"absent\.metal: there is no such file"):
        emulator.compile(tmp_path / "absent.metal")
