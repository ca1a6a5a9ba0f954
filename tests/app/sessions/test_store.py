"""Chats survive: restarts, `kill -9`, a second window, a broken file and a full disk."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.sessions.session import Session, Turn, TurnState
from app.sessions.store import SCHEMA_VERSION, Store
from inference.protocol import SamplingParams


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Opens windows on one data directory and closes them all at the end."""
    stores: list[Store] = []

    def make() -> Store:
        stores.append(Store(tmp_path))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def saved(store: Store, name: str = "plan", *texts: str) -> Session:
    session = Session(name, params=SamplingParams(temperature=0.7, stop=("a", "b"), logit_bias={3: 1.5}))
    parent = None
    for index, text in enumerate(texts):
        turn = session.add(Turn("assistant" if index % 2 else "user", text, parent=parent))
        parent = turn.id
        store.save_turn(session, turn)
    store.save_session(session, is_open=True, place=0)
    return session


def test_a_session_comes_back_whole(opened: Callable[[], Store]) -> None:
    first = opened()
    session = saved(first, "plan", "why?", "because")
    session.draft = "half a thought"
    first.save_session(session, is_open=True, place=0)
    first.close()
    (back,) = opened().restore()
    assert (back.name, back.draft, back.params) == ("plan", "half a thought", session.params)
    assert [t.text for t in back.path()] == ["why?", "because"]


def with_params(store: Store, session: Session, params: str) -> None:
    """Put a session's settings there as another version might have written them."""
    wait_for(lambda: store.search(""))
    with closing(sqlite3.connect(store.path)) as db, db:
        db.execute("UPDATE sessions SET params = ? WHERE id = ?", (params, session.id))


@pytest.mark.parametrize(
    ("params", "temperature", "priority"),
    [
        ('{"temperature": 0.7, "priority": -3}', 0.7, -3),
        ('{"temperature": 0.7}', 0.7, 0),
        ('{"temperature": 0.7, "priority": "first", "mood": "good"}', 0.7, 0),
        ('{"temperature": "hot", "priority": 5}', 0.3, 5),
        ("[]", 0.3, 0),
        ("{", 0.3, 0),
    ],
)
def test_settings_of_other_versions_are_read_as_far_as_they_go(
    opened: Callable[[], Store], params: str, temperature: float, priority: int
) -> None:
    store = opened()
    session = saved(store)
    with_params(store, session, params)
    claimed = store.claim(session.id)
    assert claimed is not None
    assert (claimed.params.temperature, claimed.priority) == (temperature, priority)


def test_tabs_come_back_in_their_order_and_closed_ones_do_not(opened: Callable[[], Store]) -> None:
    first = opened()
    for place, (name, is_open) in enumerate([("b", True), ("a", True), ("gone", False)]):
        first.save_session(Session(name), is_open=is_open, place=place)
    first.close()
    assert [s.name for s in opened().restore()] == ["b", "a"]


def test_closed_sessions_are_found_by_name_and_by_text(opened: Callable[[], Store]) -> None:
    store = opened()
    session = saved(store, "100% plan", "where is the_key?")
    store.save_session(session, is_open=False, place=0)
    wait_for(lambda: store.search(""))
    for words, found in (("100%", 1), ("the_key", 1), ("theXkey", 0), ("PLAN", 1), ("nothing", 0)):
        assert len(store.search(words)) == found, words
    claimed = store.claim(session.id)
    assert claimed is not None
    assert claimed.path()[0].text == "where is the_key?"


def test_a_deleted_session_leaves_no_text_on_disk(opened: Callable[[], Store], tmp_path: Path) -> None:
    store = opened()
    session = saved(store, "secret", "the xylophone is under the bed " * 50)
    wait_for(lambda: store.search("xylophone"))
    store.forget(session.id)
    wait_for(lambda: not store.search(""))
    store.close()
    assert b"xylophone" not in b"".join(p.read_bytes() for p in tmp_path.glob("chats.db*"))


WRITER = """
import sys, time
from pathlib import Path
from app.sessions.session import Session, Turn, TurnState
from app.sessions.store import Store
store = Store(Path(sys.argv[1]))
session = Session("crash")
question = session.add(Turn("user", "count"))
answer = session.add(Turn("assistant", parent=question.id, state=TurnState.STREAMING))
store.save_turn(session, question)
store.save_session(session, is_open=True, place=0)
n = 0
while True:
    n += 1
    answer.text += f"{time.time():.3f} "
    store.save_turn(session, answer)
    if n == 100:
        print("streaming", flush=True)
    time.sleep(0.01)
"""


def test_kill_9_in_mid_stream_loses_at_most_the_last_second(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "streaming\n"
    time.sleep(0.3)
    killed = time.time()
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    store = Store(tmp_path)
    (session,) = store.restore()
    store.close()
    question, answer = session.path()
    assert question.text == "count"
    assert answer.state is TurnState.INTERRUPTED
    assert "closed before" in answer.note
    assert killed - float(answer.text.split()[-1]) < 1.0


def test_a_second_window_takes_nothing_from_the_first(opened: Callable[[], Store]) -> None:
    first = opened()
    mine = saved(first, "mine", "hello")
    wait_for(lambda: first.search("mine"))
    second = opened()
    assert "also open in 1 other window" in second.notices[0]
    assert second.restore() == []
    (listed,) = second.search("mine")
    assert listed.elsewhere
    assert second.claim(mine.id) is None
    theirs = saved(second, "theirs", "hi")
    second.close()
    wait_for(lambda: len(first.search("")) == 2)
    assert first.claim(theirs.id) is not None, "what a closed window leaves behind is free"


def test_a_broken_database_is_set_aside_and_said(opened: Callable[[], Store], tmp_path: Path) -> None:
    (tmp_path / "chats.db").write_bytes(b"this is no database at all" * 100)
    store = opened()
    assert "unreadable" in store.notices[0]
    assert (kept := list(tmp_path.glob("chats-unreadable-*.db")))
    assert kept[0].read_bytes().startswith(b"this is no")
    saved(store, "new", "works")
    wait_for(lambda: store.search("works"))
    assert store.problem == ""


def test_a_database_of_a_newer_version_is_left_alone(opened: Callable[[], Store], tmp_path: Path) -> None:
    opened().close()
    with sqlite3.connect(tmp_path / "chats.db") as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    store = opened()
    assert "newer glasschat" in store.problem
    saved(store, "not kept", "text")
    assert store.search("") == []


def test_a_locked_database_is_said_and_written_when_it_is_free(opened: Callable[[], Store], tmp_path: Path) -> None:
    store = opened()
    db = sqlite3.connect(tmp_path / "chats.db", isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    saved(store, "patient", "still here")
    wait_for(lambda: "locked" in store.problem)
    db.execute("ROLLBACK")
    db.close()
    wait_for(lambda: store.search("still here"))
    wait_for(lambda: store.problem == "")


def test_a_full_disk_is_said_and_nothing_is_forgotten(
    opened: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    write = Store._write

    def full(self: Store, db: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Store, "_write", full)
    saved(store, "patient", "kept in memory")
    wait_for(lambda: "disk is full" in store.problem)
    monkeypatch.setattr(Store, "_write", write)
    wait_for(lambda: store.search("kept in memory"))
    wait_for(lambda: store.problem == "")


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "data")
    assert "not being saved" in store.problem
    saved(store, "x", "y")
    assert store.restore() == []
    store.close()


def test_settings_of_an_unknown_kind_fall_back_to_the_defaults(opened: Callable[[], Store], tmp_path: Path) -> None:
    store = opened()
    saved(store, "odd", "q")
    store.close()
    with sqlite3.connect(tmp_path / "chats.db") as db:
        db.execute("UPDATE sessions SET params = '{\"temperature\": -4}'")
    db.close()
    (session,) = opened().restore()
    assert session.params.temperature == 0.3


VERSION_1 = """
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, system_prompt TEXT NOT NULL, params TEXT NOT NULL, draft TEXT NOT NULL,
    head TEXT, created REAL NOT NULL, updated REAL NOT NULL, open INTEGER NOT NULL, place INTEGER NOT NULL, owner TEXT
);
CREATE TABLE turns (
    id TEXT PRIMARY KEY, session TEXT NOT NULL, parent TEXT, role TEXT NOT NULL, text TEXT NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL, note TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL, ttft REAL NOT NULL, speed REAL NOT NULL, created REAL NOT NULL
);
CREATE INDEX turns_of_session ON turns (session, created);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO sessions VALUES ('s', 'from before', '', '{}', '', 't', 1, 1, 1, 0, NULL);
INSERT INTO turns VALUES ('t', 's', NULL, 'user', 'an old question', 'done', '', '', 0, 0, 0, 0, 1);
PRAGMA user_version = 1;
"""


def test_a_store_from_before_tools_is_read_and_gets_them(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "chats.db")) as db:
        db.executescript(VERSION_1)
    store = Store(tmp_path)
    (session,) = store.restore()
    assert (session.name, [turn.text for turn in session.path()]) == ("from before", ["an old question"])
    assert not session.tools.on
    session.tools.on, session.tools.directory = True, "/somewhere"
    store.save_session(session, is_open=True, place=0)
    store.close()
    again = Store(tmp_path)
    (session,) = again.restore()
    assert (session.tools.on, session.tools.directory) == (True, "/somewhere")
    again.close()
