"""Where chats are kept: one SQLite database, written while the answers stream.

The app hands rows to `save_session` and `save_turn`, which only put them into a dictionary; a thread of its own writes
the newest state of each row at most every half second, in one transaction. So the screen never waits for the disk, and
a killed app loses at most the last second of text. A full, locked or broken disk becomes `problem`, a sentence for the
user; the rows stay in memory and are tried again.

What a tool does outside must not be forgotten: its receipt is written at once, through to the disk, and `written` says
when it is there.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import platformdirs

from app.sessions.session import CUT_OFF, DEFAULT_PARAMS, ENDED_WHILE_WRITING, Session, Turn, TurnState
from app.sessions.windows import Window
from app.tools.use import ToolUse
from inference.errors import RequestError
from inference.paths import expanded
from inference.protocol import SamplingParams
from inference.tools.receipts import CallState, Receipt

SCHEMA_VERSION = 2
WRITE_EVERY = 0.5
"""Seconds between two writes: half of the second of text that a crash may cost."""

SCHEMA = """
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, system_prompt TEXT NOT NULL, params TEXT NOT NULL, draft TEXT NOT NULL,
    head TEXT, created REAL NOT NULL, updated REAL NOT NULL, open INTEGER NOT NULL, place INTEGER NOT NULL, owner TEXT,
    tools TEXT NOT NULL DEFAULT ''
);
CREATE TABLE turns (
    id TEXT PRIMARY KEY, session TEXT NOT NULL, parent TEXT, role TEXT NOT NULL, text TEXT NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL, note TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL, ttft REAL NOT NULL, speed REAL NOT NULL, created REAL NOT NULL
);
CREATE INDEX turns_of_session ON turns (session, created);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
TOOL_TABLES = """
CREATE TABLE tool_calls (id TEXT PRIMARY KEY, session TEXT NOT NULL, receipt TEXT NOT NULL, updated REAL NOT NULL);
CREATE INDEX tool_calls_of_session ON tool_calls (session);
CREATE TABLE tool_results (id TEXT PRIMARY KEY, session TEXT NOT NULL, text TEXT NOT NULL);
CREATE INDEX tool_results_of_session ON tool_results (session);
"""
MIGRATIONS = {
    0: SCHEMA + TOOL_TABLES,
    1: "ALTER TABLE sessions ADD COLUMN tools TEXT NOT NULL DEFAULT '';" + TOOL_TABLES,
}
"""From the version that is there, what leads to the present one."""

SESSION_COLUMNS = "id, name, system_prompt, params, draft, head, created, updated, open, place, owner, tools"
TURN_COLUMNS = (
    "id, session, parent, role, text, state, reason, note, prompt_tokens, output_tokens, ttft, speed, created"
)

Row = tuple[object, ...]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed:
    """A stored session as the session list shows it."""

    id: str
    name: str
    updated: float
    turns: int
    open: bool
    elsewhere: bool
    """Open in another window, and so not to be opened here."""


def data_folder() -> Path:
    """Where chats live: `GLASSCHAT_DATA`, or the platform's place for an application's data."""
    named = os.environ.get("GLASSCHAT_DATA")
    return expanded(named) if named else Path(platformdirs.user_data_dir("glasschat", appauthor=False))


def _insert(table: str, columns: str) -> str:
    names = columns.split(", ")
    changes = ", ".join(f"{n} = excluded.{n}" for n in names if n != "id")
    places = ", ".join("?" * len(names))
    return f"INSERT INTO {table} ({columns}) VALUES ({places}) ON CONFLICT (id) DO UPDATE SET {changes}"


_SAVE = {"session": _insert("sessions", SESSION_COLUMNS), "turn": _insert("turns", TURN_COLUMNS)}
_SAVE["call"] = _insert("tool_calls", "id, session, receipt, updated")
_SAVE["result"] = _insert("tool_results", "id, session, text")
_SAVE["setting"] = (
    "INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
_FORGET = (
    *(f"DELETE FROM {table} WHERE session = ?" for table in ("turns", "tool_calls", "tool_results")),
    "DELETE FROM sessions WHERE id = ?",
)


class Store:
    """The chats of one data directory, as this window sees them."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else data_folder()
        self.path = self.folder / "chats.db"
        self.problem = ""
        """Why nothing can be saved at the moment; empty while all is well."""
        self.notices: list[str] = []
        """What happened on opening that the user should hear once."""
        self._window: Window | None = None
        self._ready = False
        self._refused = False
        """Nothing will ever be written in this run: there is no place for it, or it belongs to a newer version."""
        self._pending: dict[tuple[str, str], Row] = {}
        self._forgotten: list[str] = []
        self._awaited: list[Future[None]] = []
        """To be told when what is pending now has been written."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._hurry = threading.Event()
        """The next write is not to wait for its time: it is awaited, or the last one."""
        self._thread: threading.Thread | None = None
        self._open()

    # --- opening ----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._window = Window(self.folder)
            if others := self._window.others():
                self.notices.append(
                    f"glasschat is also open in {others} other window{'s' if others > 1 else ''}: their tabs stay "
                    "theirs, and this window saves its own beside them"
                )
            self._prepare()
        except OSError as error:
            self._refused = True
            self.problem = f"Chats are not being saved: {self.path}: {error}"
        except sqlite3.Error as error:
            self.problem = self._trouble(error)
        if not self._refused:
            self._thread = threading.Thread(target=self._write_loop, name="glasschat-store", daemon=True)
            self._thread.start()

    def _prepare(self) -> None:
        """Create or check the database; set a broken one aside, and leave one of a newer version alone."""
        try:
            version = self._check_schema()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            aside = self._set_aside()
            self.notices.append(
                f"The chat database was unreadable ({error}); it is kept as {aside}, and a new one begun"
            )
            version = self._check_schema()
        if version > SCHEMA_VERSION:
            self.problem = (
                f"Chats are not being saved: {self.path} was written by a newer glasschat (version {version}, "
                f"this one knows {SCHEMA_VERSION}); update, or set GLASSCHAT_DATA to another directory"
            )
            self._refused = True
        else:
            self._ready = True

    def _trouble(self, error: sqlite3.Error) -> str:
        return f"Chats are not being saved ({error}): trying again; free the disk or the lock on {self.path}"

    def _check_schema(self) -> int:
        with closing(self._connect()) as db:
            db.execute("BEGIN IMMEDIATE")
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version in MIGRATIONS:
                for statement in MIGRATIONS[version].split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                version = SCHEMA_VERSION
            db.execute("COMMIT")
        os.chmod(self.path, 0o600)
        return version

    def _set_aside(self) -> Path:
        aside = self.path.with_name(f"chats-unreadable-{time.strftime('%Y%m%d-%H%M%S')}.db")
        self.path.rename(aside)
        for suffix in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").rename(f"{aside}{suffix}")
        return aside

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=2.0, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            # What is deleted must not remain readable in free pages.
            db.execute("PRAGMA secure_delete = ON")
        except sqlite3.Error:
            db.close()
            raise
        return db

    # --- saving -----------------------------------------------------------------------------------------------------

    def save_session(self, session: Session, *, is_open: bool, place: int) -> None:
        params = json.dumps(asdict(session.params) | {"priority": session.priority})
        owner = self._window.id if is_open and self._window is not None else None
        row = (session.id, session.name, session.system_prompt, params, session.draft, session.head, session.created)
        self._put("session", session.id, (*row, time.time(), int(is_open), place, owner, session.tools.to_json()))

    def save_turn(self, session: Session, turn: Turn) -> None:
        row = (turn.id, session.id, turn.parent, turn.role, turn.text, turn.state.value, turn.reason, turn.note)
        numbers = (turn.prompt_tokens, turn.output_tokens, turn.ttft, turn.speed, turn.created)
        self._put("turn", turn.id, (*row, *numbers))

    def save_receipt(self, session: Session, receipt: Receipt) -> None:
        self._put("call", receipt.call_id, (receipt.call_id, session.id, receipt.to_json(), time.time()))

    def save_result(self, session: Session, call_id: str, text: str) -> None:
        """Keep the whole result of a call."""
        self._put("result", call_id, (call_id, session.id, text.encode(errors="replace").decode()))

    async def written(self) -> None:
        """Returns when all that was saved so far is on disk; at once where nothing can be kept at all."""
        if self._refused:
            return
        future: Future[None] = Future()
        with self._lock:
            self._awaited.append(future)
        self._wake.set()
        self._hurry.set()
        await asyncio.wrap_future(future)

    def save_setting(self, name: str, value: str) -> None:
        self._put("setting", name, (name, value))

    def forget(self, session_id: str) -> None:
        """Delete a session for ever."""
        with self._lock:
            self._forgotten.append(session_id)
            self._pending = {
                key: row
                for key, row in self._pending.items()
                if key != ("session", session_id)
                and not (key[0] in ("turn", "call", "result") and row[1] == session_id)
            }
        self._wake.set()

    def _put(self, kind: str, key: str, row: Row) -> None:
        if not self._refused:
            with self._lock:
                self._pending[kind, key] = row
            self._wake.set()

    def _write_loop(self) -> None:
        db: sqlite3.Connection | None = None
        while True:
            self._wake.wait()
            self._wake.clear()
            # Asked before writing: what comes in while the last write runs must not be left behind.
            closing = self._closing.is_set()
            try:
                if not self._ready:
                    self._prepare()
                if self._refused:
                    self._told(self._awaited)
                    return
                db = db or self._connect()
                self._write(db)
                self.problem = ""
            except sqlite3.Error as error:
                self.problem = self._trouble(error)
                with suppress(sqlite3.Error):
                    if db is not None and db.in_transaction:
                        db.execute("ROLLBACK")
            if closing:
                break
            if self.problem:
                self._wake.set()
            self._hurry.wait(WRITE_EVERY)
            if not self._closing.is_set():
                self._hurry.clear()
        if db is not None:
            with suppress(sqlite3.Error):
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.close()

    def _write(self, db: sqlite3.Connection) -> None:
        with self._lock:
            rows, forgotten, awaited = dict(self._pending), list(self._forgotten), list(self._awaited)
        # What happened outside can't be asked again: not even a machine that loses its power may forget it.
        db.execute(f"PRAGMA synchronous = {'FULL' if awaited else 'NORMAL'}")
        db.execute("BEGIN IMMEDIATE")
        for (kind, _), row in rows.items():
            db.execute(_SAVE[kind], row)
        for session_id in forgotten:
            for statement in _FORGET:
                db.execute(statement, (session_id,))
        db.execute("COMMIT")
        with self._lock:
            # A row that changed while it was written stays pending.
            self._pending = {key: row for key, row in self._pending.items() if rows.get(key) is not row}
            self._forgotten = self._forgotten[len(forgotten) :]
        self._told(awaited)
        if forgotten:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _told(self, awaited: list[Future[None]]) -> None:
        with self._lock:
            self._awaited = [future for future in self._awaited if future not in awaited]
        for future in awaited:
            if future.set_running_or_notify_cancel():
                future.set_result(None)

    def close(self) -> None:
        """Write what is pending and let go of this window's sessions."""
        self._closing.set()
        if self._thread is not None:
            self._hurry.set()
            self._wake.set()
            self._thread.join(timeout=5.0)
        if self._window is not None:
            self._window.close()
            self._window = None

    # --- reading ----------------------------------------------------------------------------------------------------

    def restore(self) -> list[Session]:
        """The tabs to open: those that were open when their window closed or died. They are this window's from now."""
        return self._read(self._claim_open, [])

    def _claim_open(self, db: sqlite3.Connection) -> list[Session]:
        assert self._window is not None
        db.execute("BEGIN IMMEDIATE")
        rows = db.execute("SELECT id, owner FROM sessions WHERE open = 1 ORDER BY place, created").fetchall()
        mine = [row[0] for row in rows if row[1] is None or row[1] == self._window.id or not self._window.alive(row[1])]
        db.executemany("UPDATE sessions SET owner = ? WHERE id = ?", [(self._window.id, i) for i in mine])
        db.execute("COMMIT")
        return [session for i in mine if (session := self._load(db, i)) is not None]

    def claim(self, session_id: str) -> Session | None:
        """Open one stored session here; None if another window has it or it is gone."""

        def work(db: sqlite3.Connection) -> Session | None:
            assert self._window is not None
            db.execute("BEGIN IMMEDIATE")
            row = db.execute("SELECT owner FROM sessions WHERE id = ?", (session_id,)).fetchone()
            free = row is not None and (row[0] is None or row[0] == self._window.id or not self._window.alive(row[0]))
            if free:
                db.execute("UPDATE sessions SET owner = ?, open = 1 WHERE id = ?", (self._window.id, session_id))
            db.execute("COMMIT")
            return self._load(db, session_id) if free else None

        return self._read(work, None)

    def search(self, words: str, limit: int = 200) -> list[Listed]:
        """Stored sessions whose name or text holds `words`, the newest first."""

        def work(db: sqlite3.Connection) -> list[Listed]:
            escaped = words.strip().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            like = f"%{escaped}%"
            rows = db.execute(
                "SELECT id, name, updated, open, owner, (SELECT count(*) FROM turns WHERE session = sessions.id) "
                "FROM sessions WHERE name LIKE ?1 ESCAPE '\\' OR EXISTS (SELECT 1 FROM turns "
                "WHERE session = sessions.id AND text LIKE ?1 ESCAPE '\\') ORDER BY updated DESC LIMIT ?2",
                (like, limit),
            ).fetchall()
            return [self._listed(*row) for row in rows]

        return self._read(work, [])

    def _listed(self, id: str, name: str, updated: float, is_open: int, owner: str | None, turns: int) -> Listed:
        window = self._window
        foreign = window is not None and owner is not None and owner != window.id and window.alive(owner)
        return Listed(id, name, updated, turns, bool(is_open), foreign)

    def setting(self, name: str, default: str = "") -> str:
        def work(db: sqlite3.Connection) -> str:
            row = db.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
            return str(row[0]) if row else default

        return self._read(work, default)

    def result(self, call_id: str) -> str | None:
        """The whole result of a call, if it was long enough to be kept beside its receipt."""
        with self._lock:
            pending = self._pending.get(("result", call_id))
        if pending is not None:
            return str(pending[2])

        def work(db: sqlite3.Connection) -> str | None:
            row = db.execute("SELECT text FROM tool_results WHERE id = ?", (call_id,)).fetchone()
            return str(row[0]) if row else None

        return self._read(work, None)

    def _read(self, work: Callable[[sqlite3.Connection], T], default: T) -> T:
        if not self._ready:
            return default
        try:
            with closing(self._connect()) as db:
                return work(db)
        except sqlite3.Error as error:
            self.problem = f"Chats can't be read: {self.path}: {error}"
            return default

    def _load(self, db: sqlite3.Connection, session_id: str) -> Session | None:
        row = db.execute(
            "SELECT name, id, created, system_prompt, params, draft, head, tools FROM sessions WHERE id = ?",
            (session_id,),
        ).fetchone()
        if row is None:
            return None
        name, id, created, system_prompt, params, draft, head, tools = row
        found = db.execute(
            "SELECT role, text, parent, state, id, created, reason, note, prompt_tokens, output_tokens, ttft, speed "
            "FROM turns WHERE session = ? ORDER BY created, rowid",
            (session_id,),
        ).fetchall()
        turns = {turn.id: turn for turn in _turns(found)}
        if head is not None and head not in turns:
            # A crash may have kept the session but not yet its newest turn: show the newest one there is.
            head = next(reversed(turns), None)
        calls = db.execute("SELECT id, receipt FROM tool_calls WHERE session = ?", (session_id,)).fetchall()
        return Session(
            name, id, created, system_prompt, _params(params), _priority(params), draft, turns, head,
            ToolUse.from_json(tools), {receipt.call_id: receipt for receipt in _receipts(calls)},
        )  # fmt: skip


def _turns(rows: Iterable[tuple[object, ...]]) -> Iterable[Turn]:
    for row in rows:
        turn = Turn(*row)  # type: ignore[arg-type]
        turn.state = TurnState(turn.state)
        if turn.open:
            # Whoever wrote it died.
            turn.state, turn.reason, turn.note = TurnState.INTERRUPTED, CUT_OFF, ENDED_WHILE_WRITING
        yield turn


def _receipts(rows: Iterable[tuple[str, str]]) -> Iterable[Receipt]:
    for id, text in rows:
        try:
            yield Receipt.from_json(text)
        except ValueError:
            # Whatever call this was, it may have been made: with this it is never made again.
            yield Receipt(id, "", 0, "", {}, None, CallState.INTERRUPTED, result="error: what this came to is lost")


def _params(text: str) -> SamplingParams:
    """Sampling settings from a session's JSON. What this version can't read or accept gives the default."""
    try:
        raw = json.loads(text)
        raw["stop"] = tuple(raw.get("stop", ()))
        raw["logit_bias"] = {int(k): float(v) for k, v in raw.get("logit_bias", {}).items()}
        known = SamplingParams.__dataclass_fields__
        return SamplingParams(**{k: v for k, v in raw.items() if k in known})
    except (ValueError, TypeError, AttributeError, RequestError):
        return DEFAULT_PARAMS


def _priority(text: str) -> int:
    """The priority from a session's JSON: 0 if there is none, as in what older versions wrote."""
    try:
        found = json.loads(text).get("priority", 0)
    except (ValueError, AttributeError):
        return 0
    return found if type(found) is int else 0
