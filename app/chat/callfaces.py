"""From the workspace to the cards: what is known of each call in a turn."""

from __future__ import annotations

import time
from collections.abc import Set

from app.chat.toolcard import CallFace
from app.sessions.session import Session, Turn
from app.sessions.workspace import Workspace
from inference.tools.calls import call_id
from inference.tools.markup import OPEN
from inference.tools.receipts import CallState, Receipt

OFF = "not made: tools are off in this session (Ctrl+S)"


def call_faces(workspace: Workspace, turn: Turn, opened: Set[str]) -> tuple[CallFace, ...]:
    """One for each call that the turn can hold; `opened` are the turns whose cards show everything."""
    if turn.is_question or OPEN not in turn.text:
        return ()
    session = next((s for s in workspace.sessions if turn.id in s.turns), None)
    if session is None:
        return ()
    names = [call_id(turn.id, index) for index in range(turn.text.count(OPEN))]
    return tuple(_face(workspace, session, turn, session.receipts.get(name), turn.id in opened) for name in names)


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
        folded=receipt.call_id in session.tools.folds.results,
        opened=opened,
        whole=(workspace.store.result(receipt.call_id) or "") if opened else "",
    )
