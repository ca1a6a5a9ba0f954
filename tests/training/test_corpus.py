"""The corpus' files: what their lines mean, and what is said about those that mean nothing."""

from __future__ import annotations

from pathlib import Path

import corpus as corpus_files
import pytest
from thoughts import ThoughtBook

ROPE = """
# rope | rope
a Rope turns queries and keys.
t price => Nothing but a little arithmetic.
f is it slow => price
f does it cost memory => price
f who made it => Su and others.
"""


def load(folder: Path, text: str) -> corpus_files.Corpus:
    (folder / "subjects.txt").write_text(text)
    return corpus_files.load(folder)


def test_follow_ups_of_one_theme_have_one_answer_and_one_thought(tmp_path: Path) -> None:
    corpus = load(tmp_path, ROPE)
    answers = [follow_up.answer for follow_up in corpus.intents["rope"].follow_ups]
    assert answers == ["Nothing but a little arithmetic."] * 2 + ["Su and others."]
    book = ThoughtBook(corpus, ())
    assert book.names == ["rope", "rope: price", "rope: who made it"]


def test_a_theme_that_nobody_asks_for_is_told(tmp_path: Path) -> None:
    with pytest.raises(corpus_files.CorpusError, match="no question leads to the theme 'numbers' of 'rope'"):
        load(tmp_path, ROPE + "t numbers => Theta is 10,000.")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("f is it exact => how", "'rope' has no theme 'how' before this line"),
        ("t price => Said again.", "'price' is no word in lower case, or is there already"),
        ("t In Numbers => Two.", "'In Numbers' is no word in lower case"),
        ("t numbers", "a theme is written 't theme => answer'"),
        ("f is it exact", "a follow-up is written 'f question => answer'"),
        ("k", "a line must begin with"),
    ],
)
def test_a_line_that_means_nothing_is_told_with_its_place(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(corpus_files.CorpusError) as raised:
        load(tmp_path, ROPE + line)
    assert f"subjects.txt:{len(ROPE.splitlines()) + 1}: " in str(raised.value)
    assert complaint in str(raised.value)
