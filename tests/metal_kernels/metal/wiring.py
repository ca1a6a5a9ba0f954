"""Launches on the memory that a host has bound: what of it a kernel fills, what it changes, and what it shares."""

import numpy as np

from metal_kernels.emulator import Output
from tests.metal_kernels.metal.device import Wrong, run

_CHANGES = ("write_kv",)
"""Files of kernels that change what they are given, and leave the rest of it."""
_SHARES = {"attention_prefill": (7, 8), "attention_decode": (7, 8), "attention_merge": (2, 3)}
"""Files of kernels that write the rows of their own sequences, others' being another launch's; and which of their
buffers are the tiles and the query starts."""


def run_in_place(launch, buffers, order):
    """A launch on (bytes, whether the kernel writes them) of each buffer."""
    memory = [each for each, _ in buffers]
    written = [i for i, (_, is_written) in enumerate(buffers) if is_written]
    if launch.file in _CHANGES:
        for i, found in zip(written, run(launch, memory, order, in_place=tuple(written)), strict=True):
            memory[i][:] = found
        return
    shares = launch.file in _SHARES and not leaves_parts(launch)
    given = [Output(each.shape, np.uint8, partial=shares) if i in written else each for i, each in enumerate(memory)]
    outputs = run(launch, given, order)
    if shares:
        tiles, starts = (memory[i].view(np.int32) for i in _SHARES[launch.file])
        (place,) = written
        size = 4 if "_f32" in launch.kernel else 2
        take_rows(memory[place].view(f"u{size}"), outputs[0].view(f"u{size}"), tiles.reshape(-1, 2), starts)
        return
    for i, found in zip(written, outputs, strict=True):
        memory[i][:] = found


def leaves_parts(launch):
    """Whether a launch of attention leaves parts of its rows for another to merge."""
    return launch.file == "attention_decode" and launch.constants[1]


def take_rows(out, found, tiles, starts):
    """Of what a launch of attention left, all ones where it wrote nothing, takes the rows of its tiles' sequences into
    `out`; those of others it may not touch."""
    tokens = int(starts[-1])
    own = np.zeros(tokens, bool)
    for sequence in np.unique(tiles[:, 0]):
        own[starts[sequence] : starts[sequence + 1]] = True
    rows = found.reshape(tokens, -1)
    unwritten = rows == np.iinfo(rows.dtype).max
    if unwritten[own].any():
        raise Wrong(f"{unwritten[own].sum()} elements of a launch's own rows are never written")
    if not unwritten[~own].all():
        raise Wrong("a launch writes rows of sequences that are not its own")
    out.reshape(tokens, -1)[own] = rows[own]
