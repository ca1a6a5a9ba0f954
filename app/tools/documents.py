"""The documentation that the tool `search_docs` looks things up in: the README, the keys, the engine's options."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cached_property
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import app
from app.tools.ranking import Passage, Ranking
from inference.protocol import EngineConfig
from inference.tools.definition import ToolError

MOST = 3
"""Passages of one answer."""
PASSAGE_CHARS = 400
"""Of one passage; longer ones are cut."""
NO_README = "the README is not installed with this glasschat, so only its keys and options were searched"

_TITLE = "# glasschat"
_FENCE = re.compile(r"\s*(```|~~~)")
_HEADING = re.compile(r"(#+) +(.*)")
_ITEM = re.compile(r"(?:[-*]|\d+\.) ")
_RULE = re.compile(r"\|[\s:|-]+\|")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)|(?<!\w)\*(\S[^*]*)\*(?!\w)")
"""Its words are one of the groups; slanted ones are no link, but done with in the same way."""
_MARKS = re.compile(r"!\[[^\]]*\]\([^)]*\)|</?kbd>|\*\*|`+")


class Documentation:
    """Read and put in order when something is first looked up."""

    def __init__(self, readme: str | None = None, keymap: Mapping[str, str] | None = None) -> None:
        """`readme` is Markdown, else what is installed; `keymap` has the user's own keys."""
        self._readme = readme
        self._keymap = dict(keymap or {})

    def search(self, query: str) -> str:
        """The passages that fit best, each under its heading; empty if nothing fits.

        Raises ToolError if nothing fits and the README isn't there.
        """
        ranking, whole = self._ranking
        found = [f"# {passage.heading}\n{_short(passage.text)}" for passage in ranking.best(query, MOST)]
        if not found and not whole:
            raise ToolError(f"nothing found; {NO_README}")
        return "\n\n".join([*found, *([] if whole or not found else [f"[{NO_README}]"])])

    @cached_property
    def _ranking(self) -> tuple[Ranking, bool]:
        """What is searched, and whether the README is in it."""
        readme = _installed_readme() if self._readme is None else self._readme
        return Ranking([*passages(readme), *_keys(self._keymap), *_options()]), bool(readme)


def passages(markdown: str) -> Iterator[Passage]:
    """The paragraphs, list items and rows of tables of a text, each under its headings and without marks."""
    path: list[str] = []
    for block in _blocks(markdown):
        if (heading := _HEADING.fullmatch(block)) is not None:
            path[len(heading[1]) - 1 :] = [_plain(heading[2])]
            continue
        above = ": ".join(path[1:] or path)
        yield from (Passage(above, text) for part in _parts(block) if (text := _plain(part)))


def _blocks(markdown: str) -> Iterator[str]:
    """What stands between blank lines; a fence and a heading are blocks of their own."""
    block: list[str] = []
    fence = ""
    for line in [*markdown.splitlines(), ""]:
        opened = _FENCE.match(line)
        if fence:
            block.append(line)
            fence = "" if opened is not None and opened[1] == fence else fence
            continue
        if (not line.strip() or _HEADING.fullmatch(line)) and block:
            yield "\n".join(block)
            block = []
        if _HEADING.fullmatch(line):
            yield line
        elif line.strip():
            block.append(line)
            fence = opened[1] if opened is not None else ""


def _parts(block: str) -> list[str]:
    """The rows of a table, the items of a list, or the block itself."""
    lines = [line for line in block.split("\n") if not _FENCE.match(line)] or [""]
    if lines[0].startswith("|"):
        rows = [] if len(lines) > 1 and _RULE.fullmatch(lines[1]) else lines[:1]
        return [": ".join(filter(None, map(str.strip, row.split("|")))) for row in rows + lines[2:]]
    parts: list[str] = []
    for line in lines:
        if parts and not _ITEM.match(line):
            parts[-1] += f" {line.strip()}"
        else:
            parts.append(line.strip())
    return parts


def _plain(text: str) -> str:
    item = _ITEM.match(text)
    return _LINK.sub(r"\1\2", _MARKS.sub("", text[item.end() :] if item is not None else text)).strip()


def _short(text: str) -> str:
    return text if len(text) <= PASSAGE_CHARS else f"{text[:PASSAGE_CHARS].rpartition(' ')[0]} …"


def _keys(keymap: dict[str, str]) -> Iterator[Passage]:
    from app.keys import help_rows  # brings Textual, which `glasschat run` does without until it looks something up

    for heading, rows in help_rows(keymap):
        yield from (Passage(f"Keys: {heading}", f"{key}: {sentence}") for key, sentence in rows)


def _options() -> Iterator[Passage]:
    yield from (Passage("Engine options (F8)", f"{f.name}: {f.metadata['help']}") for f in fields(EngineConfig))


def _installed_readme() -> str:
    """The README beside the sources, else the one that packaging put into the metadata; empty if there is none."""
    try:
        beside = (Path(app.__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
        if beside.startswith(_TITLE):  # beside an installed package there may be another's
            return beside
    except (OSError, UnicodeDecodeError):
        pass
    try:
        described = metadata("glasschat").get_payload()  # type: ignore[attr-defined]
    except PackageNotFoundError:
        return ""
    return described if isinstance(described, str) and described.strip().startswith(_TITLE) else ""
