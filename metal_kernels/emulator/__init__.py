"""Runs Metal kernels on a machine without Metal, and watches what their threads do. A test tool: see README.md."""

from metal_kernels.emulator import mutation
from metal_kernels.emulator.arrays import BFloat16, Output
from metal_kernels.emulator.library import CompileError, Launch, Library, Report, compile
from metal_kernels.emulator.lint import Finding, lint
from metal_kernels.emulator.source import Kernel, Parameter
from metal_kernels.emulator.toolchain import MissingCompiler

__all__ = [
    "BFloat16",
    "CompileError",
    "Finding",
    "Kernel",
    "Launch",
    "Library",
    "MissingCompiler",
    "Output",
    "Parameter",
    "Report",
    "compile",
    "lint",
    "mutation",
]
