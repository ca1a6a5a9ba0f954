"""Follow-ups asked at once: "who invented it?" after an answer is "who invented rope?" before one."""

import random
import re
from collections.abc import Iterator

import alternatives

# Whom they mean is said by the question before; elsewhere "that" and "this" are mostly something else.
LEANING = re.compile(r"\bit\b(?!')|\bthem\b|\bthat(?= ?[?.!]*$)|\bthis(?= ?[?.!]*$)", re.IGNORECASE)
LEANING_WORDS = ("it", "them", "that", "this")
CONNECTIVES = ("and", "but", "so", "ok", "okay", "then", "hm", "hmm", "ah", "oh", "well")
CONNECTIVE = re.compile(rf"^({'|'.join(CONNECTIVES)})\b,? ", re.IGNORECASE)
BESIDE = ("<x>: <q>", "<x>, <q>", "about <x>: <q>", "<q> (<x>)", "<q> i mean <x>", "with <x>, <q>", "for <x>, <q>")
"""Where no word leans on what was said."""


def with_name(question: str, name: str, rng: random.Random) -> str:
    """A follow-up that says whom it means."""
    question = CONNECTIVE.sub("", question)
    named, count = LEANING.subn(lambda found: name, question, count=1)
    if count:
        return named
    return rng.choice(BESIDE).replace("<q>", question).replace("<x>", name)


def follow_ups_of(form: str, name: str) -> Iterator[str]:
    """The follow-ups that might have become a question with this name; all squeezed."""
    if not name or name not in form:
        return
    before, _, after = form.partition(name)
    without = [before + word + after for word in LEANING_WORDS]
    for frame in BESIDE:
        opening, _, ending = frame.replace("<x>", name).partition("<q>")
        begin, end = alternatives.squeeze(opening), alternatives.squeeze(ending)
        if form.startswith(begin) and form.endswith(end):
            without.append(form[len(begin) : len(form) - len(end)])
    for follow_up in without:
        yield follow_up
        yield from (connective + follow_up for connective in CONNECTIVES)
