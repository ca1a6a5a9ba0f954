"""Follow-ups of one kind are asked in the same words, whatever the subject."""

from __future__ import annotations

import random
from pathlib import Path

import alternatives
import corpus as corpus_files
import pytest
from asked_kinds import AskedKinds
from conversations import ConversationSampler
from corpus import Corpus, FollowUp

FRAMES = """
@ asked drawback
any downside
what's the catch
is it bad
sounds great. what do i {pay|give} for it
@ asked inventor
who invented it
whose idea was it
which {head|mind} did it come from
"""
SUBJECTS = """
# rope | rope
a Rope turns queries and keys.
f {any downside?|what's {the|its} catch?} => It is tied to the lengths of training.
f {who invented it?|who invented them?} => Su and others.
# gqa | gqa
a Heads share keys.
f {any downside?|what's the catch?|is it bad?} => A little quality.
f {any downside?|what's the catch?|whose idea was it?} => Less than feared.
f whose idea was it?|who invented it? => Shazeer's, in part.
# mqa | mqa
a One head of keys.
t story => Made in 2019, at a price.
f {any downside|is it bad} => story
f {who invented it|whose idea was it} => story
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    (tmp_path / "frames.txt").write_text(FRAMES)
    (tmp_path / "subjects.txt").write_text(SUBJECTS)
    return corpus_files.load(tmp_path)


def of(corpus: Corpus, answer: str) -> FollowUp:
    return next(f for i in corpus.intents.values() for f in i.follow_ups if f.answer.startswith(answer))


def test_a_follow_up_with_two_wordings_of_a_kind_may_be_asked_in_all_of_them(corpus: Corpus) -> None:
    kinds, rng = AskedKinds(corpus), random.Random(1)
    drawn = {kinds.wording(of(corpus, "It is tied"), rng) for _ in range(100)}
    assert drawn == {
        "any downside",
        "what's the catch",
        "is it bad",
        "sounds great. what do i pay for it",
        "sounds great. what do i give for it",
    }


def test_one_wording_in_common_says_nothing(corpus: Corpus) -> None:
    kinds = AskedKinds(corpus)
    assert not kinds.has(of(corpus, "Su and others"))
    assert kinds.wording(of(corpus, "Su and others"), random.Random(1)) is None


def test_of_one_subject_only_the_follow_up_with_most_in_common_is_of_a_kind(corpus: Corpus) -> None:
    kinds = AskedKinds(corpus)
    assert kinds.of_answer == {
        "It is tied to the lengths of training.": ["drawback"],
        "A little quality.": ["drawback"],
        "Made in 2019, at a price.": ["drawback", "inventor"],
    }


def test_a_theme_that_answers_questions_of_two_kinds_is_asked_in_the_words_of_both(corpus: Corpus) -> None:
    kinds, rng = AskedKinds(corpus), random.Random(1)
    drawn = {kinds.wording(of(corpus, "Made in 2019"), rng) for _ in range(100)}
    assert {"any downside", "whose idea was it"} < drawn


def test_every_kind_of_the_corpus_is_asked_for(sampler: ConversationSampler) -> None:
    kinds = sampler.asked_kinds
    assert {kind for found in kinds.of_answer.values() for kind in found} == set(kinds.lines)
    assert all(len(lines) >= 40 for lines in kinds.lines.values())


def test_every_wording_is_made_of_one_option_at_each_choice() -> None:
    assert set(alternatives.every("{a|b{c|}} d{|!}")) == {"a d", "a d!", "bc d", "bc d!", "b d", "b d!"}
