"""The KV pool block by block: who holds each, which are shared, and which free ones are still of use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from string import ascii_lowercase

from app.paint import Line, fit
from inference.protocol import BlockChange, StepRecord

FREE, CACHED = "·", "░"
HUES = 6
"""Colours for sessions; letters tell apart those that share one."""
NUMBER = 6
"""Cells for the number of a row's first block."""
GROUP = 8
"""Blocks between two gaps."""


@dataclass(slots=True)
class BlockMap:
    """What the step records say of the pool, put together. Blocks that none has mentioned are free and empty."""

    total: int = 0
    block_size: int = 16
    _changes: dict[int, BlockChange] = field(default_factory=dict)
    _sessions: dict[str, str] = field(default_factory=dict)
    """Of each live request."""
    _letters: dict[str, str] = field(default_factory=dict)

    def engine_ready(self, total: int) -> None:
        """A new engine begins with an empty pool."""
        self.total = total
        self._changes.clear()
        self._sessions.clear()

    def add(self, record: StepRecord) -> None:
        self.total, self.block_size = record.blocks.total, record.config.block_size
        self._changes.update((change.block, change) for change in record.changed_blocks)
        self._sessions = {row.request_id: row.session for row in record.requests}
        for session in self._sessions.values():
            if session not in self._letters:
                self._letters[session] = ascii_lowercase[len(self._letters) % len(ascii_lowercase)]

    def holders(self, block: int) -> list[str]:
        """Sessions whose requests have this block in their tables; one may be there several times."""
        change = self._changes.get(block)
        return [self._sessions.get(name, name) for name in change.holders] if change else []

    def change(self, block: int) -> BlockChange:
        return self._changes.get(block) or BlockChange(block, ())

    def cell(self, block: int, only: str = "") -> tuple[str, str]:
        """One character for a block, with its role: a small letter for a session's own, a capital for a shared one.

        Where `only` is given, the blocks of all other sessions stand back.
        """
        holders = self.holders(block)
        if not holders:
            return (CACHED, "dim") if self.change(block).cached else (FREE, "empty")
        if only and only not in holders:
            return FREE, "dim"
        letter = self.letter(holders[0])
        role = f"hue-{ascii_lowercase.index(letter) % HUES}"
        return (letter.upper(), f"{role} bold") if len(holders) > 1 else (letter, role)

    def letter(self, session: str) -> str:
        return self._letters.get(session, "?")

    def of(self, session: str) -> list[tuple[int, bool]]:
        """A session's blocks in the order of its text, and whether others hold them, too."""
        held = [(change, len(who) > 1) for change, who in self._in_use() if session in who]
        return [(change.block, shared) for change, shared in sorted(held, key=lambda pair: pair[0].index)]

    def together(self, first: str, second: str) -> tuple[int, int, int]:
        """Blocks that two sessions both hold, and all of the first and of the second."""
        both = one = other = 0
        for _, who in self._in_use():
            one, other = one + (first in who), other + (second in who)
            both += first in who and second in who
        return both, one, other

    def _in_use(self) -> Iterator[tuple[BlockChange, set[str]]]:
        """Every block that someone holds, with the sessions that do."""
        for change in self._changes.values():
            if change.holders:
                yield change, {self._sessions.get(name, name) for name in change.holders}

    def held(self) -> list[tuple[str, str, int]]:
        """Letter, session and number of blocks of everyone who holds some, the most first."""
        counts: dict[str, int] = {}
        for _, who in self._in_use():
            for session in who:
                counts[session] = counts.get(session, 0) + 1
        return sorted(
            ((self.letter(session), session, count) for session, count in counts.items()),
            key=lambda row: (-row[2], row[1]),
        )

    def count(self) -> dict[str, int]:
        """How many blocks are private, shared, cached and free."""
        private = sum(len(change.holders) == 1 for change in self._changes.values())
        shared = sum(len(change.holders) > 1 for change in self._changes.values())
        cached = sum(change.cached for change in self._changes.values())
        return {"private": private, "shared": shared, "cached": cached, "free": self.total - private - shared - cached}


def per_row(width: int) -> int:
    """Blocks in one line: whole groups, at least one."""
    return max(1, (width - NUMBER + 1) // (GROUP + 1)) * GROUP


def draw(blocks: BlockMap, cursor: int, first_row: int, width: int, height: int, only: str = "") -> list[Line]:
    """Lines of the map from `first_row` on; the block under the cursor stands out, and the session `only` if given."""
    if not blocks.total:
        return [[("The map appears when the engine is ready.", "dim")]]
    across = per_row(width)
    lines: list[Line] = []
    for row in range(first_row, first_row + height):
        if row * across >= blocks.total:
            break
        line: Line = [(f"{row * across:>{NUMBER - 1}} ", "dim")]
        for block in range(row * across, min((row + 1) * across, blocks.total)):
            if block % GROUP == 0 and block % across:
                line.append((" ", "text"))
            character, role = blocks.cell(block, only)
            line.append((character, f"{role} cursor" if block == cursor else role))
        lines.append(line)
    return lines


def describe(blocks: BlockMap, block: int, width: int, height: int) -> list[Line]:
    """Everything about one block, then who holds how many."""
    if not blocks.total:
        return []
    change, holders = blocks.change(block), blocks.holders(block)
    first = change.index * blocks.block_size
    name = f"block {block}  "
    lines: list[Line] = [[(name, "bold"), (fit(_state(change, holders), max(0, width - len(name))), "text")]]
    if holders:
        lines.append([(f"tokens {first} to {first + blocks.block_size - 1} of the text", "text")])
    if change.content:
        lines.append([(f"hash {change.content}: found by whoever begins alike", "dim")])
    elif holders:
        lines.append([("being filled, or the twin of another block", "dim")])
    counts = blocks.count()
    lines.append([(" · ".join(f"{number} {kind}" for kind, number in counts.items()), "dim")])
    for letter, session, count in blocks.held():
        role = f"hue-{ascii_lowercase.index(letter) % HUES}" if letter in ascii_lowercase else "text"
        lines.append([(f"{letter} ", role), (fit(session, max(4, width - 12)), "text"), (f"{count:>7}", "text")])
    return [[(fit(text, width), role) for text, role in line] if len(line) == 1 else line for line in lines][:height]


def _state(change: BlockChange, holders: list[str]) -> str:
    if len(holders) > 1:
        return f"shared, {len(holders)} references: {', '.join(dict.fromkeys(holders))}"
    if holders:
        return f"1 reference: {holders[0]}"
    return "free, but still of use: cached" if change.cached else "free"
