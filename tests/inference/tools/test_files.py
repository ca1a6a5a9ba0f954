"""Listing, reading, searching and editing below a workspace."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.tools.builtin.edit import create_file, edit_file
from inference.tools.builtin.files import MAX_FOUND, MAX_LISTED, list_files, read_file, search_files
from inference.tools.context import Context
from inference.tools.definition import ToolError
from inference.tools.workspace import Workspace


@pytest.fixture
def context(tmp_path: Path) -> Context:
    (tmp_path / "notes.md").write_text("".join(f"line {i}\n" for i in range(1, 21)))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "code.py").write_text("x = 1\nprint(X)\n")
    (tmp_path / "sub" / "data.bin").write_bytes(b"\0\1\2")
    (tmp_path / ".env").write_text("TOKEN=x = 1")
    return Context(workspace=Workspace(tmp_path))


def test_listing(context: Context) -> None:
    assert list_files(context).splitlines() == [
        "sub/",
        ".env  11 bytes  (secret: not to be opened)",
        "notes.md  151 bytes",
    ]
    assert "sub/code.py  15 bytes" in list_files(context, deep=True)
    assert list_files(context, pattern="*.py", deep=True) == "sub/code.py  15 bytes"
    assert list_files(context, pattern="*.c") == "no files"


def test_what_programs_made_is_named_but_not_entered(context: Context, tmp_path: Path) -> None:
    (tmp_path / "node_modules" / "a").mkdir(parents=True)
    (tmp_path / "node_modules" / "a" / "b.js").write_text("x = 1")
    assert "node_modules/" in list_files(context, deep=True).splitlines()
    assert "b.js" not in list_files(context, deep=True) + search_files("x = 1", context)
    assert "b.js" in list_files(context, "node_modules/a") + search_files("x = 1", context, "node_modules/a")


def test_long_listings_are_cut(context: Context, tmp_path: Path) -> None:
    for number in range(MAX_LISTED + 5):
        (tmp_path / f"f{number}").touch()
    lines = list_files(context).splitlines()
    assert len(lines) == MAX_LISTED + 1
    assert "more than" in lines[-1]


def test_names_that_steer_a_terminal_are_spelled_out(context: Context, tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2Jb\nc").touch()
    assert "a\\x1b[2Jb" in list_files(context)


def test_reading_by_range(context: Context) -> None:
    assert read_file("notes.md", context).splitlines() == [f"line {i}" for i in range(1, 21)]
    assert read_file("notes.md", context, start=19, lines=1) == "line 19\n[lines 19 to 19 of 20]"
    with pytest.raises(ToolError, match="20 lines"):
        read_file("notes.md", context, start=21)
    with pytest.raises(ToolError, match="binary"):
        read_file("sub/data.bin", context)


def test_searching_finds_text_and_leaves_secrets_and_binaries_out(context: Context) -> None:
    assert search_files("x = 1", context).splitlines() == [
        "sub/code.py:1: x = 1",
        "[1 binary, too large or unreadable file left out]",
    ]
    assert "sub/code.py:2: print(X)" in search_files("(x)", context)
    assert "code.py" not in search_files("(x)", context, ignore_case=False)
    assert search_files("line 1", context, pattern="*.py") == "nothing found"


def test_searching_ends(context: Context, tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("needle\n" * 1000)
    (tmp_path / "wide.txt").write_text("a" * 100_000 + "needle" + "b" * 100_000)
    assert len(search_files("needle", context).splitlines()) <= MAX_FOUND + 2
    assert max(map(len, search_files("needle", context).splitlines())) < 400


def test_a_cancelled_search_stops(context: Context) -> None:
    context.cancelled.set()
    with pytest.raises(ToolError, match="stopped"):
        search_files("x", context)


def test_an_edit_is_shown_and_then_made(context: Context, tmp_path: Path) -> None:
    arguments = {"path": "notes.md", "old": "line 7\n", "new": "line seven\n", "everywhere": False}
    assert edit_file.preview is not None
    shown = edit_file.preview(**arguments, context=context)
    assert shown.kind == "diff"
    assert "-line 7" in shown.text.splitlines()
    assert "+line seven" in shown.text.splitlines()
    assert (tmp_path / "notes.md").read_text().count("seven") == 0
    edit_file(**arguments, context=replace(context, approved=shown.digest))
    assert (tmp_path / "notes.md").read_text().splitlines()[5:8] == ["line 6", "line seven", "line 8"]


def test_an_edit_says_that_other_names_keep_the_old_content(context: Context, tmp_path: Path) -> None:
    arguments = {"path": "notes.md", "old": "line 7\n", "new": "line seven\n", "everywhere": False}
    assert edit_file.preview is not None
    assert edit_file.preview(**arguments, context=context).warnings == ()
    os.link(tmp_path / "notes.md", tmp_path / "other name")
    (warning,) = edit_file.preview(**arguments, context=context).warnings
    assert warning.startswith("notes.md has other names")


def test_what_was_approved_is_what_is_made(context: Context, tmp_path: Path) -> None:
    arguments = {"path": "notes.md", "old": "line 7\n", "new": "line seven\n", "everywhere": False}
    assert edit_file.preview is not None
    approved = edit_file.preview(**arguments, context=context).digest
    other = (tmp_path / "notes.md").read_text() + "line 21\n"
    (tmp_path / "notes.md").write_text(other)
    with pytest.raises(ToolError, match="changed since"):
        edit_file(**arguments, context=replace(context, approved=approved))
    with pytest.raises(ToolError, match="changed since"):
        edit_file(**{**arguments, "new": "other"}, context=replace(context, approved=approved))
    assert (tmp_path / "notes.md").read_text() == other


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("line 1", "x", "11 times"),
        ("nothing", "x", "does not contain"),
        ("line 7", "line 7", "the same"),
    ],
)
def test_edits_that_cannot_be_made(context: Context, old: str, new: str, said: str) -> None:
    with pytest.raises(ToolError, match=said):
        edit_file("notes.md", old, new, context)


def test_everywhere(context: Context, tmp_path: Path) -> None:
    edit_file("notes.md", "line", "row", context, everywhere=True)
    assert (tmp_path / "notes.md").read_text().count("row") == 20


def test_line_ends_and_marks_of_a_file_stay(context: Context, tmp_path: Path) -> None:
    (tmp_path / "dos.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\nthree\r\n")
    edit_file("dos.txt", "one\ntwo\n", "1\n2\n", context)
    assert (tmp_path / "dos.txt").read_bytes() == b"\xef\xbb\xbf1\r\n2\r\nthree\r\n"


def test_creating(context: Context, tmp_path: Path) -> None:
    assert create_file.preview is not None
    shown = create_file.preview(path="new/a.txt", content="one\ntwo", context=context)
    assert shown.text.splitlines()[:2] == ["--- /dev/null", "+++ new/a.txt"]
    assert not (tmp_path / "new").exists()
    assert create_file("new/a.txt", "one\ntwo", context) == "new/a.txt was written: 2 lines, 7 bytes"
    with pytest.raises(ToolError, match="there already"):
        create_file("new/a.txt", "", context)


lines = st.lists(st.text("ab \u2028\x0b\x1b\u202e", max_size=4), max_size=8).map("\n".join)


def patched(before: str, diff: str) -> str:
    """The text after a unified diff was applied by hand: an oracle that knows nothing of how it was made."""
    old = before.splitlines(keepends=True)
    result: list[str] = []
    at = 0
    for row in diff.split("\n")[2:]:
        if row.startswith("@@"):
            begin, _, count = row.split()[1][1:].partition(",")
            start = int(begin) - (count != "0")
            result += old[at:start]
            at = start
        elif row.startswith("\\"):
            result[-1] = result[-1].removesuffix("\n")
        elif row.startswith("+"):
            result.append(f"{row[1:]}\n")
        else:
            if row.startswith(" "):
                result.append(f"{row[1:]}\n")
            at += 1
    return "".join([*result, *old[at:]])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=lines, new=lines, data=st.data())
def test_the_diff_tells_all_that_changes(tmp_path: Path, before: str, new: str, data: st.DataObject) -> None:
    before += "\n"
    (tmp_path / "f").write_bytes(before.encode())
    context = Context(workspace=Workspace(tmp_path))
    begin = data.draw(st.integers(0, len(before) - 1))
    old = before[begin : data.draw(st.integers(begin + 1, len(before)))]
    assert edit_file.preview is not None
    if old == new:
        return
    shown = edit_file.preview(path="f", old=old, new=new, context=context, everywhere=True)
    edit_file("f", old, new, replace(context, approved=shown.digest), everywhere=True)
    after = (tmp_path / "f").read_bytes().decode()
    assert after == before.replace(old, new)
    assert "\x1b" not in shown.text
    assert "\u202e" not in shown.text
    if not any(odd in before + new for odd in "\x1b\u202e\u2028\x0b"):
        assert patched(before, shown.text) == after
