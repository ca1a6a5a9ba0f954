"""Follow-ups asked at once: "who invented it?" after an answer is "who invented rope?" before one."""

import random
import re

# Whom they mean is said by the question before; elsewhere "that" and "this" are mostly something else.
LEANING = re.compile(r"\bit\b(?!')|\bthem\b|\bthat(?= ?[?.!]*$)|\bthis(?= ?[?.!]*$)", re.IGNORECASE)
CONNECTIVE = re.compile(r"^(and|but|so|ok|okay|then|hm|hmm|ah|oh|well)\b,? ", re.IGNORECASE)
BESIDE = ("<x>: <q>", "<x>, <q>", "about <x>: <q>", "<q> (<x>)", "<q> i mean <x>", "with <x>, <q>", "for <x>, <q>")
"""Where no word leans on what was said."""


def with_name(question: str, name: str, rng: random.Random) -> str:
    """A follow-up that says whom it means."""
    question = CONNECTIVE.sub("", question)
    named, count = LEANING.subn(lambda found: name, question, count=1)
    if count:
        return named
    return rng.choice(BESIDE).replace("<q>", question).replace("<x>", name)
