"""Rounds of tool calls within one exchange: a pure state machine, from answer to calls to results to the next prompt.

    rounds = Rounds(toolbox, grants)
    rounds.answered(turn_id, text)              # a whole answer of the model: its calls become receipts
    while rounds.phase is Phase.TOOLS:          # `running.serve` is this loop
        for receipt in rounds.ready: …          # begin, run, end
        if rounds.waiting: …                    # ask the user: decide
    rounds.messages()                           # what the next prompt has after the question

It runs nothing, asks nobody and reads no clock. Calls are made in the order in which they were written: neighbouring
reads together, everything else alone. Every change of a receipt comes back as a value for the store to keep. To resume
after a crash: a new `Rounds` with the stored receipts, and the stored answers fed in again in order. What had finished
keeps its result and is never made again; a change that was running is reported to the model as interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from inference.protocol import Message
from inference.tools.calls import Call, CallError, arguments_digest, call_id
from inference.tools.definition import Effect, Tool, ToolError
from inference.tools.markup import Answer, parse_answer
from inference.tools.receipts import CallState, Decision, Grants, Receipt
from inference.tools.results import MAX_ERROR_CHARS, Result, result_of_error
from inference.tools.toolbox import Toolbox

MAX_ROUNDS = 8

LAST_ROUND = "(That was the last round of tool calls. Answer now, without calling a tool.)"
TOO_MANY_ROUNDS = "the call was not made: one question gets no more rounds of tool calls than {}"
INTERRUPTED = (
    "glasschat ended while this call ran: it may have taken effect or not; look at what is there before doing it again"
)


class Phase(StrEnum):
    ANSWER = "answer"
    """The model is to answer: to the question, or to the results."""
    TOOLS = "tools"
    """Calls are to be made, or wait for the user."""
    OVER = "over"


class Outcome(StrEnum):
    OPEN = "open"
    ANSWERED = "answered"
    LIMIT = "limit"
    """The model called again after the last round."""
    CANCELLED = "cancelled"


@dataclass(slots=True)
class _Round:
    answer: Answer
    call_ids: list[str] = field(default_factory=list)


class Rounds:
    """One question of the user, until it is answered in words."""

    def __init__(
        self,
        toolbox: Toolbox,
        grants: Grants | None = None,
        max_rounds: int = MAX_ROUNDS,
        receipts: Iterable[Receipt] = (),
    ) -> None:
        """`receipts` are those that are known from before, if this resumes."""
        self.toolbox = toolbox
        self.grants = grants if grants is not None else Grants()
        self.max_rounds = max_rounds
        self.phase = Phase.ANSWER
        self.outcome = Outcome.OPEN
        self.receipts: dict[str, Receipt] = {}
        """Of this exchange's calls, by id, in order."""
        self._known = {receipt.call_id: receipt for receipt in receipts}
        self._scopes: dict[str, str] = {}
        """Of each call that asks, by id: what a decision for the session covers, as `Tool.grant_key` says."""
        self._rounds: list[_Round] = []
        self._latest: list[str] = []

    # --- what happened -----------------------------------------------------------------------------------------------

    def answered(self, answer_id: str, text: str) -> Answer:
        """The model's whole answer. Its calls get receipts, those that can't be made with their errors as results.

        `answer_id` must be the same whenever this answer is fed in, and no other's: the calls' ids are made from it.
        """
        if self.phase is not Phase.ANSWER:
            raise ValueError(f"an answer came in phase {self.phase}")
        answer = parse_answer(text)
        self._latest = []
        if not answer.calls:
            self.phase, self.outcome = Phase.OVER, Outcome.ANSWERED
            return answer
        beyond = len(self._rounds) >= self.max_rounds
        this = _Round(answer)
        for call in answer.calls:
            receipt = self._refused(answer_id, call) if beyond else self._receipt(answer_id, call)
            self.receipts[receipt.call_id] = receipt
            this.call_ids.append(receipt.call_id)
        self._rounds.append(this)
        self._latest = this.call_ids
        if beyond:
            self.phase, self.outcome = Phase.OVER, Outcome.LIMIT
        else:
            self._settle()
        return answer

    def decide(self, call_id: str, decision: Decision, approved: str = "", reason: str = "") -> list[Receipt]:
        """The user's answer about a waiting call. `approved` is the digest of the preview; `reason` goes to the model
        with a no. Returns this call's receipt, then those of the waiting calls that a word for the session covers."""
        receipt = self._in_state(call_id, CallState.WAITING)
        scope = self._scopes[call_id]
        self.grants.remember(scope, decision)
        if decision.allows:
            decided = self._put(replace(receipt, state=CallState.READY, decision=decision, approved=approved))
        else:
            said = f"the user said no to this call: {reason}" if reason else "the user said no to this call"
            decided = self._end(replace(receipt, decision=decision), CallState.DENIED, result_of_error(said))
        waiting = [r for r in self._open() if r.state is CallState.WAITING and self._scopes[r.call_id] == scope]
        covered = [] if self.grants.standing(scope) is None else [self._put(self._granted(r)) for r in waiting]
        return [decided, *covered]

    def began(self, call_id: str, at: float) -> Receipt:
        """A call begins at Unix time `at`. The store must have the receipt before it does."""
        return self._put(replace(self._in_state(call_id, CallState.READY), state=CallState.RUNNING, began=at))

    def ended(self, call_id: str, result: Result, at: float) -> Receipt:
        """A running call has ended; or one that waits can't be made, as its preview found out."""
        receipt = self._in_state(call_id, CallState.RUNNING, CallState.WAITING)
        ran = receipt.state is CallState.RUNNING
        failed = CallState.FAILED if ran else CallState.REFUSED
        return self._end(receipt, CallState.DONE if result.ok and ran else failed, result, at)

    def cancel(self, at: float) -> list[Receipt]:
        """The user stops the exchange: calls that have not ended never will."""
        open_calls = [r for r in self.receipts.values() if not r.state.finished]
        self.phase, self.outcome = Phase.OVER, Outcome.CANCELLED
        stopped = []
        for receipt in open_calls:
            began = receipt.state is CallState.RUNNING
            said = "the user stopped this call" + (
                ": it may have taken effect in part" if began else " before it began"
            )
            stopped.append(self._end(receipt, CallState.CANCELLED, result_of_error(said), at))
        return stopped

    # --- what is to be done ------------------------------------------------------------------------------------------

    @property
    def ready(self) -> tuple[Receipt, ...]:
        """The calls that may begin now: the next one, with the reads that stand directly after a read."""
        found: list[Receipt] = []
        for receipt in self._open():
            if receipt.state is CallState.RUNNING and receipt.effect is Effect.READS:
                continue
            if receipt.state is not CallState.READY or (found and receipt.effect is not Effect.READS):
                break
            found.append(receipt)
            if receipt.effect is not Effect.READS:
                break
        running = any(r.state is CallState.RUNNING for r in self._open())
        if found and found[0].effect is not Effect.READS and running:
            return ()
        return tuple(found)

    @property
    def waiting(self) -> Receipt | None:
        """The call that the user is to decide on now, if nothing stands before it."""
        first = next(iter(self._open()), None)
        return first if first is not None and first.state is CallState.WAITING else None

    @property
    def latest(self) -> tuple[Receipt, ...]:
        """Those of the last answer's calls."""
        return tuple(self.receipts[i] for i in self._latest)

    @property
    def rounds(self) -> int:
        """How many answers with calls there were."""
        return len(self._rounds)

    def messages(self) -> tuple[Message, ...]:
        """What follows the question in the next prompt: each answer as the model wrote it, and its calls' results.

        The round whose calls have not all ended is left out.
        """
        found: list[Message] = []
        for number, each in enumerate(self._rounds, 1):
            receipts = [self.receipts[i] for i in each.call_ids]
            if not all(receipt.state.finished for receipt in receipts):
                break
            results = [receipt.result for receipt in receipts]
            if number == self.max_rounds:
                results[-1] += f"\n{LAST_ROUND}"
            found.append(Message("assistant", each.answer.kept))
            found += [Message("tool", result) for result in results]
        return tuple(found)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _receipt(self, answer_id: str, call: Call) -> Receipt:
        """A new call's receipt, or the one from before, made whole."""
        known = self._known.get(call_id(answer_id, call.index))
        if known is not None and not self._same(known, call):
            return self._refuse(answer_id, call, "another call was made under this one's id: make the call again")
        if known is None or known.state in (CallState.WAITING, CallState.READY):
            return self._new(answer_id, call)
        if known.state is CallState.RUNNING:
            if known.effect is Effect.READS:
                return replace(known, state=CallState.READY, began=None)
            return _ended(known, CallState.INTERRUPTED, result_of_error(INTERRUPTED))
        return known

    def _new(self, answer_id: str, call: Call) -> Receipt:
        if call.error:
            return self._refuse(answer_id, call, call.error)
        tool = self.toolbox.get(call.name)
        if tool is None:
            names = ", ".join(self.toolbox.names) or "none"
            return self._refuse(answer_id, call, f"there is no tool {call.name!r}; the tools are: {names}")
        try:
            scope = tool.grant_key(tool.check(call.arguments))
        except (CallError, ToolError) as error:
            return self._refuse(answer_id, call, str(error), tool)
        except Exception as error:  # a check from elsewhere that fails must not cost the other calls
            said = f"the arguments of {tool.name} can't be checked: {type(error).__name__}: {error}"
            return self._refuse(answer_id, call, said[:MAX_ERROR_CHARS], tool)
        receipt = Receipt(
            call_id(answer_id, call.index),
            answer_id,
            call.index,
            tool.name,
            call.arguments,
            tool.effect,
            CallState.READY,
        )
        if not tool.asks:
            return receipt
        self._scopes[receipt.call_id] = scope
        return self._granted(receipt)

    def _granted(self, receipt: Receipt) -> Receipt:
        """A call that asks, with what was said for the session about calls like it; it waits if nothing was."""
        standing = self.grants.standing(self._scopes[receipt.call_id])
        if standing is Decision.NEVER:
            refusal = result_of_error("the user said no to calls like this one for the whole session")
            return _ended(replace(receipt, decision=standing), CallState.DENIED, refusal)
        return replace(receipt, state=CallState.WAITING if standing is None else CallState.READY, decision=standing)

    def _refused(self, answer_id: str, call: Call) -> Receipt:
        return self._refuse(answer_id, call, TOO_MANY_ROUNDS.format(self.max_rounds))

    def _refuse(self, answer_id: str, call: Call, why: str, tool: Tool | None = None) -> Receipt:
        name, effect = (tool.name, tool.effect) if tool is not None else (call.name, None)
        receipt = Receipt(
            call_id(answer_id, call.index), answer_id, call.index, name, call.arguments, effect, CallState.REFUSED
        )
        return _ended(receipt, CallState.REFUSED, result_of_error(why))

    def _same(self, known: Receipt, call: Call) -> bool:
        tool = self.toolbox.get(call.name)
        name = tool.name if tool is not None and known.tool == tool.name else call.name
        return arguments_digest(known.tool, known.arguments) == arguments_digest(name, call.arguments)

    def _open(self) -> list[Receipt]:
        return [r for r in self.receipts.values() if not r.state.finished]

    def _in_state(self, call_id: str, *states: CallState) -> Receipt:
        receipt = self.receipts[call_id]
        if receipt.state not in states:
            raise ValueError(f"call {call_id} is {receipt.state}, not {' or '.join(states)}")
        return receipt

    def _end(self, receipt: Receipt, state: CallState, result: Result, at: float | None = None) -> Receipt:
        return self._put(_ended(receipt, state, result, at))

    def _put(self, receipt: Receipt) -> Receipt:
        self.receipts[receipt.call_id] = receipt
        self._settle()
        return receipt

    def _settle(self) -> None:
        if self.phase is not Phase.OVER:
            self.phase = Phase.TOOLS if self._open() else Phase.ANSWER


def _ended(receipt: Receipt, state: CallState, result: Result, at: float | None = None) -> Receipt:
    return replace(
        receipt, state=state, ended=at, result=result.text, result_digest=result.digest, result_chars=result.chars
    )
