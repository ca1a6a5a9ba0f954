"""Names of answers, which stand above them in the app."""

from __future__ import annotations

import pytest
from thoughts import short_name


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("what is the drawback?", "what is the drawback"),
        ("{and what happens to it when i close the tab?|so is it kept?|{is|would} it {lost|gone}?}", "is it kept"),
        (
            "{cost?|ok but what does it cost in memory?|and if somebody asks me about what it costs?}",
            "what does it cost in memory",
        ),
        ("{why|how come} is it slow?", "why is it slow"),
    ],
)
def test_an_answer_is_named_by_a_short_question_that_says_something(question: str, name: str) -> None:
    assert short_name(question) == name
