"""A session keeps every version of every turn, and shows one path through them."""

from app.sessions.session import Session, Turn


def chat() -> tuple[Session, Turn, Turn]:
    session = Session("plan", system_prompt="Be brief.")
    question = session.add(Turn("user", "why?"))
    answer = session.add(Turn("assistant", "because", parent=question.id))
    return session, question, answer


def test_the_path_runs_from_the_first_turn_to_the_head() -> None:
    session, question, answer = chat()
    assert session.path() == [question, answer]


def test_a_second_answer_stands_beside_the_first_and_both_can_be_shown() -> None:
    session, question, answer = chat()
    again = session.add(Turn("assistant", "since", parent=question.id))
    assert session.path() == [question, again]
    assert session.version_places()[again.id] == (2, 2)
    assert session.show_version(again, -1) is answer
    assert session.path() == [question, answer]
    assert session.show_version(answer, -1) is None


def test_going_back_to_a_version_brings_back_what_followed_it() -> None:
    session, question, answer = chat()
    follow = session.add(Turn("user", "and then?", parent=answer.id))
    edited = session.add(Turn("user", "how?", parent=None))
    assert session.path() == [edited]
    session.show_version(edited, -1)
    assert session.path() == [question, answer, follow]


def test_the_prompt_holds_system_prompt_path_and_draft_but_no_empty_answers() -> None:
    session, question, answer = chat()
    empty = session.add(Turn("assistant", "", parent=question.id))
    roles = [(m.role, m.content) for m in session.prompt(until=empty.id, draft="next").messages]
    assert roles == [("system", "Be brief."), ("user", "why?"), ("user", "next")]
    assert [m.content for m in session.prompt(until=answer.id).messages] == ["Be brief.", "why?", "because"]


def test_history_holds_each_sent_text_once() -> None:
    session, _, answer = chat()
    session.add(Turn("user", "why?", parent=answer.id))
    session.add(Turn("user", "more", parent=answer.id))
    assert session.sent() == ["why?", "more"]
