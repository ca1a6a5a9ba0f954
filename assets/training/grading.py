"""Grades answers: facts, tool calls, refusals, and closeness to the known answers."""

import json
import re
from collections import Counter
from typing import Any

from arithmetic import same_value

REFUSAL = "outside what i know"
CLOSE_ENOUGH = 0.8
CALL = re.compile(r"\s*<tool_call>\n(.*)\n</tool_call>\s*", re.DOTALL)


def has_facts(answer: str, groups: list[list[str]]) -> bool:
    """Every group must be found; a group is found if one of its regular expressions matches."""
    return all(any(re.search(regex, answer, re.IGNORECASE | re.DOTALL) for regex in group) for group in groups)


def is_refusal(answer: str) -> bool:
    """The answer says that the question is out of scope."""
    return REFUSAL in answer.lower()


def parse_call(answer: str) -> dict[str, Any] | None:
    """The tool call that the whole answer consists of, or None."""
    match = CALL.fullmatch(answer)
    if not match:
        return None
    try:
        call = json.loads(match.group(1))
    except json.JSONDecodeError:
        return None
    well_formed = isinstance(call, dict) and isinstance(call.get("arguments"), dict)
    return call if well_formed else None


def same_call(answer: str, expected: dict[str, Any]) -> bool:
    """The right tool with the right arguments: expressions by value, others by their words."""
    call = parse_call(answer)
    if call is None or call.get("name") != expected["name"]:
        return False
    if set(call["arguments"]) != set(expected["arguments"]):
        return False
    for name, wanted in expected["arguments"].items():
        given = str(call["arguments"][name])
        if name == "expression":
            if not same_value(given, str(wanted)):
                return False
        elif words(given) != words(str(wanted)):
            return False
    return True


def words(text: str) -> Counter[str]:
    """The words of a text, without case, order and punctuation."""
    return Counter(re.findall(r"\w+", text.lower()))


def likeness(left: Counter[str], right: Counter[str]) -> float:
    """F1 of the shared words."""
    shared = sum((left & right).values())
    return 2 * shared / max(1, left.total() + right.total())


class KnownAnswers:
    """All answers that were ever trained, to see which one an answer is."""

    def __init__(self, answers: list[tuple[str, str]]) -> None:
        self.answers = [(key, text, words(text)) for key, text in answers]

    def nearest(self, answer: str) -> tuple[str, str, float]:
        """Key and text of the most similar known answer, and the likeness."""
        given = words(answer)
        key, text, known = max(self.answers, key=lambda entry: likeness(given, entry[2]))
        return key, text, likeness(given, known)

    def is_one_of(self, answer: str, expected: list[str]) -> bool:
        """The nearest known answer (or an expected text itself) is one of the expected texts."""
        given = words(answer)
        if any(given == words(text) for text in expected):
            return True
        _, text, score = self.nearest(answer)
        return text in expected and score >= CLOSE_ENOUGH
