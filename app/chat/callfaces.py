"""From the workspace to the transcript: what is known of each call in a turn, and what was folded above it."""

from __future__ import annotations

import time
from collections.abc import Set
from dataclasses import replace

from app.chat.message import Face
from app.chat.toolcard import CallFace
from app.sessions.session import Session, Turn
from app.sessions.workspace import Workspace
from app.tools.folds import Folds
from inference.tools.calls import call_id
from inference.tools.definition import visible
from inference.tools.markup import OPEN
from inference.tools.receipts import CallState, Receipt
from inference.tools.shortening import long_arguments

OFF = "not made: tools are off in this session (Ctrl+S)"


def call_faces(workspace: Workspace, turn: Turn, opened: Set[str]) -> tuple[CallFace, ...]:
    """One for each call that the turn can hold; `opened` are the turns whose cards show everything."""
    if turn.is_question or OPEN not in turn.text:
        return ()
    if (session := _session_of(workspace, turn)) is None:
        return ()
    names = [call_id(turn.id, index) for index in range(turn.text.count(OPEN))]
    return tuple(_face(workspace, session, turn, session.receipts.get(name), turn.id in opened) for name in names)


def with_fold(plain: Face, workspace: Workspace, turn: Turn, opened: Set[str]) -> Face:
    """The face with a word on the turns above, if the model gets them as a summary; the summary itself when opened."""
    session = _session_of(workspace, turn)
    if session is None or not (summary := session.summary_above(turn)):
        return plain
    head = (*plain.head, (" · what is above is summed up for the model (Enter shows how)", "warn"))
    shown = ((f"the summary: {visible(summary)}", "dim"),)
    return replace(plain, head=head, foot=(*plain.foot, shown) if turn.id in opened else plain.foot)


def _session_of(workspace: Workspace, turn: Turn) -> Session | None:
    return next((session for session in workspace.sessions if turn.id in session.turns), None)


def _face(workspace: Workspace, session: Session, turn: Turn, receipt: Receipt | None, opened: bool) -> CallFace:
    if receipt is None:
        exchange = workspace.exchanges.of(session)
        coming = turn.open or (exchange is not None and exchange.turn is turn)
        return CallFace(
            missing=OFF if not session.tools.on else "… made when the answer ends" if coming else "not made"
        )
    running = receipt.state is CallState.RUNNING and receipt.began is not None
    return CallFace(
        receipt,
        seconds=int(time.time() - receipt.began) if running and receipt.began is not None else 0,
        folded=_folded(session.tools.folds, turn, receipt),
        opened=opened,
        whole=(workspace.store.result(receipt.call_id) or "") if opened else "",
    )


def _folded(folds: Folds, turn: Turn, receipt: Receipt) -> str:
    parts = []
    if receipt.call_id in folds.results:
        parts.append("one line of it")
    if turn.id in folds.answers and long_arguments(receipt.arguments):
        parts.append("no long arguments of it")
    return f"the model sees {' and '.join(parts)}" if parts else ""
