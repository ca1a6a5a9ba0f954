"""Rounds of calls as a state machine: whatever happens in whatever order, nothing runs twice or without a yes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inference.protocol import Message
from inference.tools.calls import call_id
from inference.tools.definition import Effect, tool
from inference.tools.receipts import CallState, Decision, Grants, Receipt
from inference.tools.results import Result, result_of_error
from inference.tools.rounds import LAST_ROUND, Outcome, Phase, Rounds
from inference.tools.toolbox import Toolbox

MOST_ROUNDS = 3


@tool(effect=Effect.READS)
def look(at: str = "") -> str:
    """Look."""
    return at


def _this(to: str) -> str:
    return f"changes to {to}"


@tool(effect=Effect.CHANGES, scope=_this, aliases=("modify",))
def change(to: str = "") -> str:
    """Change."""
    return to


TOOLBOX = Toolbox([look, change])


def written(name: str, **arguments: object) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def done(text: str = "done") -> Result:
    return Result(text, True, "0" * 64, len(text))


calls = st.one_of(
    st.builds(written, st.just("look"), at=st.sampled_from("ab")),
    st.builds(written, st.sampled_from(["change", "modify"]), to=st.sampled_from("ab")),
    st.just(written("nothing")),
    st.just(written("look", wrong=1)),
    st.just("<tool_call>{broken</tool_call>"),
)


class AnyOrder(RuleBasedStateMachine):
    """An exchange in which answers, decisions, ends, stops and crashes come as they like."""

    @initialize()
    def begin(self) -> None:
        self.grants = Grants()
        self.rounds = Rounds(TOOLBOX, self.grants, MOST_ROUNDS)
        self.answers: list[tuple[str, str]] = []
        self.stored: dict[str, Receipt] = {}
        self.begun: dict[str, int] = {}
        self.allowed: set[str] = set()
        self.shown: tuple[Message, ...] = ()

    def keep(self, *receipts: Receipt) -> None:
        for receipt in receipts:
            assert Receipt.from_json(receipt.to_json()) == receipt
            self.stored[receipt.call_id] = receipt

    @precondition(lambda self: self.rounds.phase is Phase.ANSWER)
    @rule(made=st.lists(calls, max_size=4))
    def answer(self, made: list[str]) -> None:
        text = "\n".join(["I see.", *made])
        answer_id = f"turn{len(self.answers)}"
        self.answers.append((answer_id, text))
        self.rounds.answered(answer_id, text)
        if made:
            self.keep(*self.rounds.latest)
        assert (self.rounds.phase is Phase.OVER) == (not made or len(self.answers) > MOST_ROUNDS)

    @precondition(lambda self: self.rounds.waiting is not None)
    @rule(decision=st.sampled_from(Decision))
    def decide(self, decision: Decision) -> None:
        waiting = self.rounds.waiting
        assert waiting is not None
        assert waiting.effect is Effect.CHANGES
        self.keep(*self.rounds.decide(waiting.call_id, decision, "digest"))

    @precondition(lambda self: self.rounds.ready)
    @rule()
    def run(self) -> None:
        ready = self.rounds.ready
        assert len(ready) == 1 or all(receipt.effect is Effect.READS for receipt in ready)
        for receipt in ready:
            if receipt.effect is not Effect.READS:
                assert receipt.decision is not None
                assert receipt.decision.allows
            self.keep(self.rounds.began(receipt.call_id, 1.0))
            self.begun[receipt.call_id] = self.begun.get(receipt.call_id, 0) + 1

    def running(self) -> list[Receipt]:
        return [r for r in self.rounds.receipts.values() if r.state is CallState.RUNNING]

    @precondition(lambda self: self.running())
    @rule(ok=st.booleans(), data=st.data())
    def end(self, ok: bool, data: st.DataObject) -> None:
        receipt = data.draw(st.sampled_from(self.running()))
        self.keep(self.rounds.ended(receipt.call_id, done() if ok else result_of_error("no"), 2.0))

    @precondition(lambda self: self.rounds.waiting is not None)
    @rule()
    def preview_fails(self) -> None:
        waiting = self.rounds.waiting
        assert waiting is not None
        self.keep(self.rounds.ended(waiting.call_id, result_of_error("it can't be made"), 2.0))
        assert self.stored[waiting.call_id].state is CallState.REFUSED

    @precondition(lambda self: self.rounds.phase is Phase.TOOLS)
    @rule()
    def crash(self) -> None:
        """The app dies and comes back: what was stored is all there is."""
        running = {r.call_id: r for r in self.running()}
        finished = {i: r for i, r in self.stored.items() if r.state.finished}
        self.rounds = Rounds(
            TOOLBOX, self.grants, MOST_ROUNDS, [Receipt.from_json(r.to_json()) for r in self.stored.values()]
        )
        for answer_id, text in self.answers:
            self.rounds.answered(answer_id, text)
        for i, receipt in finished.items():
            assert self.rounds.receipts[i] == receipt
        for i, receipt in running.items():
            after = self.rounds.receipts[i]
            if receipt.effect is Effect.READS:
                assert after.state is CallState.READY
                self.begun[i] = 0  # looking again does no harm
            else:
                assert after.state is CallState.INTERRUPTED
                assert "may have taken effect or not" in after.result
        self.keep(*self.rounds.receipts.values())

    @precondition(lambda self: self.rounds.phase is Phase.TOOLS)
    @rule()
    def stop(self) -> None:
        self.keep(*self.rounds.cancel(3.0))
        assert self.rounds.outcome is Outcome.CANCELLED
        assert not self.rounds.ready
        assert self.rounds.waiting is None

    @precondition(lambda self: self.rounds.phase is Phase.OVER)
    @rule()
    def another_question(self) -> None:
        self.begin()

    @invariant()
    def nothing_runs_twice(self) -> None:
        assert all(count <= 1 for count in getattr(self, "begun", {}).values())

    @invariant()
    def the_prompt_only_grows(self) -> None:
        if not hasattr(self, "rounds"):
            return
        messages = self.rounds.messages()
        assert messages[: len(self.shown)] == self.shown
        self.shown = messages
        if self.rounds.phase is Phase.TOOLS:
            assert self.rounds.ready or self.rounds.waiting or self.running()
        if self.rounds.phase is not Phase.TOOLS:
            assert all(receipt.state.finished and receipt.result for receipt in self.rounds.receipts.values())

    @invariant()
    def a_word_for_the_session_leaves_no_call_like_it_waiting(self) -> None:
        for receipt in getattr(self, "rounds", Rounds(TOOLBOX)).receipts.values():
            if receipt.state is CallState.WAITING:
                assert self.grants.standing(f"change: changes to {receipt.arguments['to']}") is None

    @invariant()
    def every_change_came_back_to_be_stored(self) -> None:
        for call, receipt in getattr(self, "rounds", Rounds(TOOLBOX)).receipts.items():
            assert self.stored[call] == receipt

    @invariant()
    def order_is_kept(self) -> None:
        """No change begins before everything that was written before it has ended."""
        receipts = list(getattr(self, "rounds", Rounds(TOOLBOX)).receipts.values())
        for place, receipt in enumerate(receipts):
            if receipt.state is CallState.RUNNING and receipt.effect is not Effect.READS:
                assert all(earlier.state.finished for earlier in receipts[:place])


TestAnyOrder = AnyOrder.TestCase


def test_the_prompt_of_the_next_round_begins_with_the_answer_to_the_letter() -> None:
    rounds = Rounds(TOOLBOX)
    text = f'I look.\n<tool_call>\n{{"arguments":{{"at":"x"}},   "name": "look"}}\n</tool_call>\n{written("nothing")}'
    rounds.answered("a", text)
    rounds.began(rounds.ready[0].call_id, 1.0)
    rounds.ended(call_id("a", 0), done("x"), 2.0)
    messages = rounds.messages()
    assert messages[0] == Message("assistant", text)
    assert [m.role for m in messages] == ["assistant", "tool", "tool"]
    assert messages[2].content.startswith("error: there is no tool 'nothing'; the tools are: look, change")


def test_the_last_round_is_announced_and_calls_after_it_are_not_made() -> None:
    rounds = Rounds(TOOLBOX, max_rounds=1)
    rounds.answered("a", written("look"))
    rounds.began(call_id("a", 0), 1.0)
    rounds.ended(call_id("a", 0), done("x"), 2.0)
    assert rounds.messages()[-1].content == f"x\n{LAST_ROUND}"
    rounds.answered("b", written("look"))
    assert (rounds.phase, rounds.outcome) == (Phase.OVER, Outcome.LIMIT)
    assert rounds.receipts[call_id("b", 0)].state is CallState.REFUSED
    assert "than 1" in rounds.receipts[call_id("b", 0)].result


@pytest.mark.parametrize(
    ("decision", "second"), [(Decision.SESSION, CallState.READY), (Decision.NEVER, CallState.DENIED)]
)
def test_a_decision_for_the_session_covers_its_scope_and_no_more(decision: Decision, second: CallState) -> None:
    grants = Grants()
    rounds = Rounds(TOOLBOX, grants)
    rounds.answered("a", written("change", to="a"))
    rounds.decide(call_id("a", 0), decision)
    later = Rounds(TOOLBOX, Grants(dict(grants.decisions)))
    later.answered("b", written("modify", to="a") + written("change", to="b"))
    assert later.receipts[call_id("b", 0)].state is second
    assert later.receipts[call_id("b", 1)].state is CallState.WAITING


@pytest.mark.parametrize(
    ("decision", "second"),
    [
        (Decision.SESSION, CallState.READY),
        (Decision.NEVER, CallState.DENIED),
        (Decision.ONCE, CallState.WAITING),
        (Decision.NO, CallState.WAITING),
    ],
)
def test_a_decision_for_the_session_covers_the_rest_of_the_answer(decision: Decision, second: CallState) -> None:
    rounds = Rounds(TOOLBOX)
    rounds.answered("a", written("change", to="a") + written("modify", to="a") + written("change", to="b"))
    changed = rounds.decide(call_id("a", 0), decision, "digest")
    assert rounds.receipts[call_id("a", 1)].state is second
    assert rounds.receipts[call_id("a", 2)].state is CallState.WAITING
    assert [receipt.index for receipt in changed] == ([0, 1] if second is not CallState.WAITING else [0])
    assert rounds.receipts[call_id("a", 1)].approved == ""  # nobody saw a preview of it


def test_a_check_that_fails_costs_only_its_own_call() -> None:
    def broken(arguments: object) -> dict[str, object]:
        raise KeyError("schema")

    rounds = Rounds(Toolbox([look, replace(change, check=broken)]))
    rounds.answered("a", written("change", to="a") + written("look", at="b"))
    first, second = rounds.latest
    assert (first.state, first.tool, first.effect) == (CallState.REFUSED, "change", Effect.CHANGES)
    assert first.result == "error: the arguments of change can't be checked: KeyError: 'schema'"
    assert second.state is CallState.READY


def test_a_receipt_is_good_only_for_its_own_call() -> None:
    rounds = Rounds(TOOLBOX)
    rounds.answered("a", written("change", to="a"))
    rounds.decide(call_id("a", 0), Decision.ONCE)
    rounds.began(call_id("a", 0), 1.0)
    receipt = rounds.ended(call_id("a", 0), done(), 2.0)
    other = Rounds(TOOLBOX, receipts=[receipt])
    other.answered("a", written("change", to="b"))
    assert other.receipts[call_id("a", 0)].state is CallState.REFUSED


def test_what_follows_a_made_up_result_is_neither_run_nor_sent_back() -> None:
    rounds = Rounds(TOOLBOX)
    answer = rounds.answered("a", f"{written('look')}\n<tool_response>\nx\n</tool_response>\n{written('change')}")
    assert answer.made_up
    assert [receipt.tool for receipt in rounds.receipts.values()] == ["look"]
    rounds.cancel(1.0)
    assert rounds.messages()[0].content == written("look")


@given(st.text(max_size=60))
def test_what_is_no_receipt_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Receipt.from_json(text)
