"""Export writes readable Markdown and never over an existing file."""

from datetime import datetime
from pathlib import Path

from app.sessions.export import export, to_markdown
from app.sessions.session import Session, Turn
from inference.tools.calls import call_id
from inference.tools.definition import Effect
from inference.tools.receipts import CallState, Receipt

NOW = datetime(2026, 1, 2, 3, 4, 5)


def chat() -> Session:
    session = Session("a/b: plan?", system_prompt="Be\nbrief.")
    question = session.add(Turn("user", "why?"))
    answer = Turn("assistant", "**because**", parent=question.id, reason="stop", output_tokens=3, ttft=0.25, speed=12.0)
    session.add(answer)
    return session


def test_questions_answers_and_statistics_are_written() -> None:
    assert to_markdown(chat()) == (
        "# a/b: plan?\n\n> System prompt: Be brief.\n\n## You\n\nwhy?\n\n## Answer\n\n**because**\n\n"
        "*3 tokens · TTFT 0.25 s · 12.0 tok/s · stop*\n"
    )


def test_the_file_is_named_after_the_session_and_never_overwrites(tmp_path: Path) -> None:
    first, second = export(chat(), tmp_path, NOW), export(chat(), tmp_path, NOW)
    assert (first.name, second.name) == ("a-b-plan-20260102-030405.md", "a-b-plan-20260102-030405-2.md")


def test_tool_calls_are_blocks_without_markup() -> None:
    session = Session("one")
    question = session.add(Turn("user", "compute"))
    call = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "12 * 7"}}\n</tool_call>'
    answer = session.add(Turn("assistant", f"I compute.\n{call}", parent=question.id))
    name = call_id(answer.id, 0)
    session.receipts[name] = Receipt(
        name, answer.id, 0, "calculator", {"expression": "12 * 7"}, Effect.READS, CallState.DONE, result="84"
    )
    text = to_markdown(session)
    assert 'I compute.\n\n    calculator (done)\n    expression: "12 * 7"\n    → 84\n' in text
    assert "tool_call" not in text


def test_a_thought_is_a_quotation_above_its_answer() -> None:
    session = Session("one")
    question = session.add(Turn("user", "what does <think> mean?"))
    session.add(Turn("assistant", "<think>\nfirst\n\nthen\n</think>\n\nIt opens a thought.", parent=question.id))
    text = to_markdown(session)
    assert "## You\n\nwhat does <think> mean?\n" in text
    assert "## Answer\n\n> ∴ first\n>\n> then\n\nIt opens a thought.\n" in text
