"""Folds belong to the turns and calls that they are of."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from app.sessions.session import Session
from app.sessions.store import Store
from app.tools.folds import KEPT_SUMMARIES, Folds
from app.tools.kit import Results
from inference.tools.receipts import CallState, Receipt

ids = st.sampled_from([f"turn {n}" for n in range(40)])


@given(st.lists(st.tuples(ids, st.text()), max_size=60))
def test_of_many_summaries_the_latest_are_kept(made: list[tuple[str, str]]) -> None:
    folds = Folds()
    for turn, summary in made:
        folds.sum_up(turn, summary)
    latest = list(dict.fromkeys(turn for turn, _ in reversed(made)))[:KEPT_SUMMARIES]
    assert folds.summaries == {turn: dict(made)[turn] for turn in latest}


@given(st.dictionaries(ids, st.text()), st.lists(ids, unique=True))
def test_the_last_summary_on_a_path_counts(summaries: dict[str, str], path: list[str]) -> None:
    end = Folds(summaries=summaries).end(path)
    if not end:
        assert not summaries.keys() & set(path)
    else:
        assert not summaries.keys() & set(path[path.index(end) + 1 :])


@given(*[st.dictionaries(ids, st.text())] * 3, st.dictionaries(ids, ids), st.booleans())
def test_a_copy_has_those_of_what_was_copied(
    results: dict[str, str], answers: dict[str, str], summaries: dict[str, str], copied: dict[str, str], no: bool
) -> None:
    folds = Folds(results, answers, summaries, no)
    there = {old: f"copy of {old}" for old in copied}
    copy = folds.carried(there, there)
    for old, new in ((results, copy.results), (answers, copy.answers), (summaries, copy.summaries)):
        assert new == {f"copy of {id}": text for id, text in old.items() if id in copied}
    assert copy.refused == no


def test_what_stands_in_a_receipt_can_be_read_as_well_as_what_is_stored(tmp_path: Path) -> None:
    session = Session("one")
    for name, state in (("done", CallState.DONE), ("running", CallState.RUNNING)):
        session.receipts[name] = Receipt(name, "a", 0, "clock", {}, None, state, result="noon")
    store = Store(tmp_path)
    results = Results(store, session)
    results.put("long", "much")
    assert [results.get(name) for name in ("done", "running", "long", "none")] == ["noon", None, "much", None]
    store.close()
