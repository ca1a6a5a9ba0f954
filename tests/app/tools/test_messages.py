"""What the model is sent: the same as the rounds say, whatever came of the calls, and in short where it was folded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.sessions.session import Session, Turn
from app.tools.folds import Folds
from app.tools.messages import NOT_MADE, taken_apart
from app.tools.use import ToolUse
from inference.protocol import Message
from inference.tools.calls import call_id
from inference.tools.compaction import LEFT_OUT
from inference.tools.context import Context
from inference.tools.receipts import Decision, Grants
from inference.tools.results import Result
from inference.tools.rounds import Phase, Rounds
from inference.tools.toolbox import standard_tools
from tests.app.tools.conftest import call

ROUNDS = st.lists(
    st.lists(
        st.sampled_from(["words", call("calculator", expression="1 + 1"), call("nonsense"), "<tool_call>{"]), max_size=3
    ),
    min_size=1,
    max_size=5,
)


def test_an_answer_goes_back_with_its_thought_and_calls_what_it_calls_behind_it() -> None:
    session = Session("one")
    session.add(Turn("user", "compute"))
    text = f"<think>\nperhaps {call('clock')}\n</think>\n\n{call('calculator', expression='1 + 1')}"
    answer = session.add(Turn("assistant", text, parent=session.head))
    assert [c.name for c in taken_apart(text).calls] == ["calculator"]
    assert taken_apart("<think>cut off").thought == "cut off"
    session.add(Turn("user", "and now?", parent=answer.id))
    assert [m.content for m in session.prompt(until=session.head).messages] == ["compute", text, NOT_MADE, "and now?"]


@given(ROUNDS, st.integers(1, 4))
def test_a_session_sends_what_the_rounds_say(answers: list[list[str]], max_rounds: int) -> None:
    session = Session("one", tools=ToolUse(on=True, max_rounds=max_rounds))
    session.add(Turn("user", "a question"))
    rounds = Rounds(standard_tools(Context()), max_rounds=max_rounds)
    for number, pieces in enumerate(answers):
        turn = session.add(Turn("assistant", "\n".join(pieces) or "nothing", parent=session.head))
        rounds.answered(turn.id, turn.text)
        while rounds.phase is Phase.TOOLS:
            receipt = rounds.ready[0]
            rounds.began(receipt.call_id, 0.0)
            rounds.ended(receipt.call_id, Result(f"result {number}", True, "", 8), 1.0)
        session.receipts |= rounds.receipts
        if rounds.phase is Phase.OVER:
            break
    sent = session.prompt(until=session.head).messages
    expected = (Message("user", "a question"), *rounds.messages())
    # The rounds leave out an answer in words: it ends them.
    assert sent[: len(expected)] == expected
    assert [m.role for m in sent[len(expected) :]] in ([], ["assistant"])


def test_a_call_that_was_never_made_is_said_to_be_so_once_the_talk_goes_on() -> None:
    session = Session("one")
    session.add(Turn("user", "compute"))
    answer = session.add(Turn("assistant", call("calculator", expression="1 + 1"), parent=session.head))
    assert [m.role for m in session.prompt(until=answer.id).messages] == ["user", "assistant"]
    session.add(Turn("user", "and now?", parent=answer.id))
    assert session.prompt(until=session.head).messages[2] == Message("tool", NOT_MADE)


def test_folded_results_and_a_summary_stand_in_for_what_they_fold_and_can_be_undone() -> None:
    session = Session("one", system_prompt="Be brief.")
    for n in range(3):
        session.add(Turn("user", f"question {n}", parent=session.head))
        session.add(Turn("assistant", f"answer {n}", parent=session.head))
    whole = session.prompt(until=session.head)
    path = session.path()
    session.tools.folds = Folds(summaries={path[1].id: "We began.", path[3].id: "We spoke."})
    short = session.prompt(until=session.head).messages
    assert [m.content for m in short] == ["Be brief.", LEFT_OUT, "We spoke.", "question 2", "answer 2"]
    assert [turn.id for turn in path if session.summary_above(turn)] == [path[4].id]
    earlier = session.prompt(until=path[2].id).messages
    assert [m.content for m in earlier] == ["Be brief.", LEFT_OUT, "We began.", "question 1"]
    assert session.prompt(until=path[0].id).messages == whole.messages[:2]
    session.tools.folds = Folds()
    assert session.prompt(until=session.head) == whole


def test_a_folded_result_is_one_line() -> None:
    session = Session("one")
    session.add(Turn("user", "compute"))
    answer = session.add(Turn("assistant", call("calculator", expression="1 + 1"), parent=session.head))
    rounds = Rounds(standard_tools(Context()))
    rounds.answered(answer.id, answer.text)
    name = call_id(answer.id, 0)
    rounds.began(name, 0.0)
    rounds.ended(name, Result("x" * 5000, True, "", 5000), 1.0)
    session.receipts |= rounds.receipts
    session.tools.folds = Folds(results={name: "[left out]"})
    assert session.prompt(until=answer.id).messages[-1] == Message("tool", "[left out]")
    session.tools.folds = Folds(answers={answer.id: "I computed."})
    assert session.prompt(until=answer.id).messages[1] == Message("assistant", "I computed.")


@given(
    st.booleans(), st.text(), st.dictionaries(st.text(), st.sampled_from([Decision.SESSION, Decision.NEVER])),
    st.lists(st.dictionaries(st.text(), st.text()), min_size=3, max_size=3), st.booleans(),
)  # fmt: skip
def test_what_is_stored_of_a_session_comes_back(
    on: bool, directory: str, grants: dict[str, Decision], folds: list[dict[str, str]], no: bool
) -> None:
    use = ToolUse(on, directory, Grants(grants), Folds(*folds, no))
    assert ToolUse.from_json(use.to_json()) == use


def test_what_cannot_be_read_allows_nothing() -> None:
    for text in ("", "garbage", "[]", '{"grants": {"edit_file": "maybe"}, "on": true}', '{"grants": 3}'):
        assert ToolUse.from_json(text) == ToolUse()
