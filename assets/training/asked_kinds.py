"""Kinds of follow-ups: the drawback, the default, an example... are asked for in the same words, whatever the subject.

A section "@ asked drawback" of the corpus holds wordings of one kind. A follow-up belongs to a kind if several of its
own wordings stand there; then it may be asked in all the others, too. So what is learned of one subject's follow-ups
serves those of every other.
"""

import random
from collections.abc import Iterable, Mapping

import alternatives
from corpus import Corpus, FollowUp, Intent

SECTION = "asked "
FEWEST_IN_COMMON = 2
"""So many wordings in common make a follow-up one of a kind."""
MOST_WORDINGS = 20_000
"""A follow-up with more of them is not looked through."""


def sections(corpus: Corpus) -> list[str]:
    """Those with the wordings of a kind."""
    return [name for name in corpus.frames if name.startswith(SECTION)]


class AskedKinds:
    """Finds the follow-ups of each kind, and draws wordings for them."""

    def __init__(self, corpus: Corpus) -> None:
        self.lines = {name.removeprefix(SECTION): corpus.section(name) for name in sections(corpus)}
        plain = {
            kind: {alternatives.squeeze(line) for line in lines if alternatives.count(line) == 1}
            for kind, lines in self.lines.items()
        }
        self.of_answer: dict[str, list[str]] = {}
        """The kinds of follow-ups, by their answer."""
        for intent in corpus.intents.values():
            for kind, follow_up in _by_kind(intent, plain):
                self.of_answer.setdefault(follow_up.answer, []).append(kind)

    def has(self, follow_up: FollowUp) -> bool:
        """Whether a follow-up is one of a kind."""
        return follow_up.answer in self.of_answer

    def wording(self, follow_up: FollowUp, rng: random.Random) -> str | None:
        """One of its kinds; None for a follow-up of no kind."""
        kinds = self.of_answer.get(follow_up.answer)
        return alternatives.sample(rng.choice(self.lines[rng.choice(kinds)]), rng) if kinds else None


def _by_kind(intent: Intent, plain: Mapping[str, set[str]]) -> Iterable[tuple[str, FollowUp]]:
    """Of each kind at most one follow-up of an intent, or it could not be told which is meant."""
    found: list[tuple[int, str, FollowUp]] = []
    for follow_up in intent.follow_ups:
        wordings = _wordings(follow_up)
        shared = sorted(((len(wordings & known), kind) for kind, known in plain.items()), reverse=True)
        if shared and shared[0][0] >= FEWEST_IN_COMMON:
            found.append((*shared[0], follow_up))
    found.sort(key=lambda each: each[0])
    # A later one, with more in common, takes the place of an earlier one.
    return {kind: follow_up for _, kind, follow_up in found}.items()


def _wordings(follow_up: FollowUp) -> set[str]:
    if alternatives.count(follow_up.question) > MOST_WORDINGS:
        return set()
    return {alternatives.squeeze(wording) for wording in alternatives.every(follow_up.question)}
