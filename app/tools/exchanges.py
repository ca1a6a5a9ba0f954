"""Tool calls under way, one exchange for each session that has called: served in a task of its own.

An exchange begins when an answer with calls is complete, and ends when all of them have. It waits for the user where a
call asks first; nobody else waits with it. The session says which answer it is for, and the task writes every state of
every receipt through to the disk before it goes on. So `resume` finds after a crash, or after the user left, what was
finished, what had begun, and what had not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from app.sessions.session import Session, Turn
from app.sessions.store import Store
from app.tools.kit import Kit
from app.tools.messages import taken_apart
from inference.tools.definition import Preview
from inference.tools.receipts import CallState, Decision, Receipt
from inference.tools.rounds import Phase, Rounds
from inference.tools.running import serve


@dataclass(slots=True)
class Asking:
    """A call that waits for the user."""

    receipt: Receipt
    preview: Preview
    answer: asyncio.Future[Decision]
    since: float


@dataclass(slots=True)
class Exchange:
    """The calls of a session's last answer, while they are made."""

    session: Session
    turn: Turn
    rounds: Rounds | None = None
    """None while the tools are still being loaded."""
    asking: Asking | None = None
    stopped: bool = False
    """By the user; otherwise only the app's end ends it early."""
    began: float = field(default_factory=time.time)
    task: asyncio.Task[None] | None = None

    def why(self) -> str:
        """Why the session rests, as a phrase."""
        if self.asking is not None:
            return f"waiting for a tool: {self.asking.receipt.tool} asks"
        names = [r.tool for r in self.session.receipts_of(self.turn) if r.state is CallState.RUNNING]
        return f"waiting for a tool: {', '.join(names)}" if names else "waiting for a tool"


class Exchanges:
    """All that are under way. `done` is called when one is over, with whether the model is to go on."""

    def __init__(
        self,
        kit: Kit,
        store: Store,
        save: Callable[[Session], None],
        done: Callable[[Session, Turn, bool], None],
    ) -> None:
        self._kit, self._store, self._save, self._done = kit, store, save, done
        self._open: dict[str, Exchange] = {}
        self.changed: set[str] = set()
        """Sessions in which something happened since the last look."""

    def of(self, session: Session) -> Exchange | None:
        return self._open.get(session.id)

    def all(self) -> list[Exchange]:
        return list(self._open.values())

    def begin(self, session: Session, turn: Turn) -> bool:
        """Make the calls of a complete answer; says whether there is anything to do."""
        before = self.of(session)
        if not taken_apart(turn.text).calls or (before is not None and before.turn is turn):
            return False
        exchange = self._open[session.id] = Exchange(session, turn)
        earlier = None if before is None else before.task
        exchange.task = asyncio.get_running_loop().create_task(self._work(exchange, earlier))
        session.tools.calling = turn.id
        self._save(session)
        return True

    def resume(self, session: Session) -> bool:
        """Go on where the app ended in the middle of calls; says whether there is anything to do.

        Calls that had not begun, and reads that had, are made now. A change that had begun is not made again.
        """
        turn = session.turns.get(session.head or "")
        return turn is not None and session.tools.on and turn.id == session.tools.calling and self.begin(session, turn)

    def decide(self, asking: Asking, decision: Decision) -> None:
        """The user's word on a call that waits. Once is enough: what comes later answers nothing."""
        if not asking.answer.done():
            asking.answer.set_result(decision)

    def stop(self, session: Session) -> bool:
        """Stop what runs, with its children, and what waits; says whether there was anything."""
        exchange = self.of(session)
        if exchange is None or exchange.stopped or exchange.task is None:
            return False
        exchange.stopped = True
        exchange.task.cancel()
        return True

    async def close(self) -> None:
        """The app ends: what runs is stopped. The next start finds it as it would after a crash."""
        tasks = [exchange.task for exchange in self._open.values() if exchange.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=3)

    # --- inside -----------------------------------------------------------------------------------------------------

    async def _work(self, exchange: Exchange, earlier: asyncio.Task[None] | None) -> None:
        session, goes_on = exchange.session, False
        try:
            if earlier is not None:
                await asyncio.wait([earlier])  # it was stopped; what it stops first is not to meet what begins now
            await self._kit.loaded()
            self._kit.equip(session)
            exchange.rounds = rounds = self._rounds(exchange)
            await serve(
                rounds,
                self._kit.context(session),
                lambda receipt, preview: self._ask(exchange, receipt, preview),
                lambda receipt: self._keep(exchange, receipt),
            )
            goes_on = rounds.phase is Phase.ANSWER
        except asyncio.CancelledError:
            if not exchange.stopped:
                raise  # the app ends, and so does its loop
        except Exception as error:
            exchange.turn.note = f"the tool calls broke off: {type(error).__name__}: {error}"
        finally:
            if self.of(session) is exchange:
                del self._open[session.id]
            self.changed.add(session.id)
        if session.tools.calling == exchange.turn.id:
            session.tools.calling = ""
        self._done(session, exchange.turn, goes_on)

    def _rounds(self, exchange: Exchange) -> Rounds:
        """The question's rounds so far, ready for the calls of the last answer."""
        session = exchange.session
        rounds = Rounds(
            self._kit.toolbox, session.tools.grants, session.tools.max_rounds, tuple(session.receipts.values())
        )
        answers: list[Turn] = []
        for turn in reversed(session.upto(exchange.turn.id)):
            if turn.is_question:
                break
            answers.insert(0, turn)
        for turn in answers:
            if rounds.phase is Phase.ANSWER:
                rounds.answered(turn.id, turn.text)
        return rounds

    async def _ask(self, exchange: Exchange, receipt: Receipt, preview: Preview) -> Decision:
        exchange.asking = Asking(receipt, preview, asyncio.get_running_loop().create_future(), time.time())
        self.changed.add(exchange.session.id)
        try:
            return await exchange.asking.answer
        finally:
            exchange.asking = None
            self.changed.add(exchange.session.id)

    async def _keep(self, exchange: Exchange, receipt: Receipt) -> None:
        session = exchange.session
        if session.receipts.get(receipt.call_id) == receipt:
            return
        stopped = receipt.state is CallState.CANCELLED
        if stopped and not exchange.stopped:
            return  # only the app ends, of which the receipt on disk says enough
        session.receipts[receipt.call_id] = receipt
        self.changed.add(session.id)
        self._store.save_receipt(session, receipt)
        if receipt.decision in (Decision.SESSION, Decision.NEVER):
            self._save(session)
        if not stopped:  # after which nothing begins: a full disk must not hold up who stops it
            await self._store.written()
