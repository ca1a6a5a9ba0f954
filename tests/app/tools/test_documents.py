"""Looking things up in the documentation: what is found, in which order, and what is said where it isn't installed."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import app
from app.tools import documents
from app.tools.documents import MOST, PASSAGE_CHARS, Documentation, passages
from app.tools.ranking import Passage, Ranking
from inference.tools.builtin.documents import MAX_CHARS, search_docs
from inference.tools.context import Context
from inference.tools.definition import ToolError
from tests.app.conftest import Rig
from tests.app.tools.conftest import at_rest, call, until, with_tools

README = """# glasschat

**A chat** whose engine you can see [through](engine.md).

## Pictures

![A picture](a.svg)

| | |
|---|---|
| **Meter** | how `full` the context is |

## Tools

- **Files**: are read at once,
  and changed after a *yes*
- 2 * 3 * 4 is computed

```toml
# not a heading

workspace = "notes"
```
"""

words = st.lists(st.sampled_from(["cache", "block", "step", "draft", "token", "batch"]), min_size=1, max_size=12)


def test_a_text_is_taken_apart_into_what_stands_alone() -> None:
    assert list(passages(README)) == [
        Passage("glasschat", "A chat whose engine you can see through."),
        Passage("Pictures", "Meter: how full the context is"),
        Passage("Tools", "Files: are read at once, and changed after a yes"),
        Passage("Tools", "2 * 3 * 4 is computed"),
        Passage("Tools", '# not a heading  workspace = "notes"'),
    ]


@given(st.lists(words, min_size=1, max_size=8), words)
def test_what_holds_a_word_is_found_and_nothing_else(texts: list[list[str]], query: list[str]) -> None:
    every = [Passage("", " ".join(text)) for text in texts]
    found = Ranking(every).best(" ".join(query), len(every))
    assert sorted(found, key=str) == sorted((p for p in every if set(p.text.split()) & set(query)), key=str)


@given(st.lists(words, min_size=2, max_size=8))
def test_the_rarer_word_and_the_shorter_passage_come_first(texts: list[list[str]]) -> None:
    common = [Passage("", " ".join(["common", *text])) for text in texts]
    rare = Passage("", "a rare word stands here")
    assert Ranking([*common, rare]).best("common rare", 1) == [rare]
    long, short = Passage("", "needle " + "hay " * 30), Passage("", "needle hay")
    assert Ranking([long, *common, short]).best("needle", 2) == [short, long]


@pytest.mark.parametrize(("query", "text"), [("drafting", "Drafts"), ("PAGED", "paging"), ("num_seqs", "max num seqs")])
def test_forms_of_a_word_are_one_word(query: str, text: str) -> None:
    assert Ranking([Passage("", text)]).best(query, 1)


def test_small_words_find_nothing() -> None:
    assert Documentation(README).search("what is the of") == ""


def test_it_finds_the_readme_the_keys_and_the_options() -> None:
    documentation = Documentation(README, {"session.new": "f12"})
    assert documentation.search("workspace notes").startswith("# Tools\n")
    assert "F12: open a new session in a tab" in documentation.search("open new session tab")
    assert "# Engine options (F8)\nmax_num_seqs: " in documentation.search("max_num_seqs")
    assert documentation.search("purple walnuts") == ""


def test_what_is_found_is_bounded() -> None:
    documentation = Documentation("# glasschat\n\n" + "".join(f"needle {'hay ' * 500}{n}\n\n" for n in range(20)))
    found = documentation.search("needle")
    assert found.count("# glasschat\n") == MOST
    assert len(found) < MOST * (PASSAGE_CHARS + 30) < MAX_CHARS
    context = Context(search_documents=lambda query: "x" * 10_000)
    assert len(search_docs("needle", context)) == MAX_CHARS


def test_without_a_readme_the_rest_is_searched_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_installed(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(documents, "metadata", not_installed)
    monkeypatch.setattr(app, "__file__", str(tmp_path / "app" / "__init__.py"))
    (tmp_path / "README.md").write_text("# Another package\n\nIt has purple walnuts.\n")
    documentation = Documentation()
    assert documentation.search("max_num_seqs").endswith(f"[{documents.NO_README}]")
    with pytest.raises(ToolError, match="nothing found; the README is not installed"):
        documentation.search("purple walnuts")


def test_the_readme_is_found_beside_the_sources_and_in_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "GLASSCHAT_DATA" in Documentation().search("where everything is stored after a crash")
    monkeypatch.setattr(app, "__file__", str(tmp_path / "app" / "__init__.py"))
    assert "GLASSCHAT_DATA" in Documentation().search("where everything is stored after a crash")


async def test_a_session_with_tools_looks_things_up(launch: Callable[..., Any], work: Path) -> None:
    def script(command: Any) -> str:
        last = command.prompt.messages[-1]
        return "So it is." if last.role == "tool" else call("search_docs", query="max_num_seqs")

    async with launch(script=script) as rig:
        assert isinstance(rig, Rig)
        with_tools(rig, work)
        await rig.send("look it up")
        await until(rig, lambda: at_rest(rig) and "So it is." in rig.screen_text())
        (receipt,) = rig.session.receipts.values()
        assert "max_num_seqs: most requests in one batch" in receipt.result
        assert "search_docs" in [schema["function"]["name"] for schema in rig.session.tools.schemas]
