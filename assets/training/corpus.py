"""Loads and checks the hand-written text files that the model is trained on.

One block per intent; see the section "Corpus format" of README.md. Every mistake is reported as file:line.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import alternatives

CORPUS_FOLDER = Path(__file__).resolve().parent / "corpus"
SUBJECTS_FILE = "subjects.lst"
LINE_TAGS = "qdvnkawtf"
THEME = re.compile(r"[a-z]+")


class CorpusError(ValueError):
    """A line of the corpus that cannot be understood."""


@dataclass
class FollowUp:
    """A question that leans on the answer before it, and its answer."""

    question: str
    answer: str
    theme: str = ""
    """Of the answer, if it has one: then other questions have the same answer."""


@dataclass
class Intent:
    """One thing the model knows: the ways of asking and the answers."""

    key: str
    named: bool
    aliases: list[str]
    source: str
    questions: list[str] = field(default_factory=list)
    indirect: list[str] = field(default_factory=list)
    verbs: list[str] = field(default_factory=list)
    things: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    """Those of the keyboard that do it."""
    answers: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    themes: dict[str, str] = field(default_factory=dict)
    """Answers to follow-ups that many questions share: "price", "numbers" ..."""
    follow_ups: list[FollowUp] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        """All answers: to what it is, to why, and to follow-ups."""
        return [*self.answers, *self.reasons, *(follow_up.answer for follow_up in self.follow_ups)]

    @property
    def phrasings(self) -> int:
        """How many lines ask for the answer."""
        return len(self.questions) + len(self.indirect) + len(self.verbs) + len(self.things)


@dataclass
class Corpus:
    """All intents, the frames for their names, and the subjects that are out of scope."""

    intents: dict[str, Intent] = field(default_factory=dict)
    frames: dict[str, list[str]] = field(default_factory=dict)
    subjects: list[str] = field(default_factory=list)

    def section(self, name: str) -> list[str]:
        """The frames of a section that must be there."""
        if not self.frames.get(name):
            raise CorpusError(f"the corpus has no frames '@ {name}' (sections: {', '.join(self.frames)})")
        return self.frames[name]


def load(folder: Path = CORPUS_FOLDER) -> Corpus:
    """Read every *.txt of the folder (in the order of their names) and the list of subjects."""
    corpus = Corpus()
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise CorpusError(f"{folder}: no corpus files (*.txt)")
    for file in files:
        _Reader(corpus, file).read()
    _check(corpus)
    subjects = folder / SUBJECTS_FILE
    if subjects.exists():
        corpus.subjects = list(_read_subjects(subjects))
    return corpus


def _read_subjects(file: Path) -> Iterator[str]:
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith(("%", "#")):
            yield from (subject.strip() for subject in line.split(";") if subject.strip())


class _Reader:
    """Reads one file line by line into the corpus."""

    def __init__(self, corpus: Corpus, file: Path) -> None:
        self.corpus = corpus
        self.file = file
        self.line_number = 0
        self.intent: Intent | None = None
        self.frames: list[str] | None = None

    def read(self) -> None:
        for number, line in enumerate(self.file.read_text(encoding="utf-8").splitlines(), 1):
            self.line_number = number
            if line.strip() and not line.startswith("%"):
                self._read_line(line.rstrip())

    def fail(self, message: str) -> CorpusError:
        return CorpusError(f"{self.file.name}:{self.line_number}: {message}")

    def _read_line(self, line: str) -> None:
        tag, rest = line[0], line[1:].strip()
        tagged = line[1:2] == " "
        if tagged and tag in "#!":
            self._start_intent(rest, named=tag == "#")
        elif tagged and tag == "+":
            self.frames = None
            self.intent = self.corpus.intents.get(rest)
            if self.intent is None:
                raise self.fail(f"'+ {rest}' continues an intent that no earlier file has")
        elif tagged and tag == "@":
            self.intent = None
            self.frames = self.corpus.frames.setdefault(rest, [])
        elif self.frames is not None:
            self.frames.append(self._phrase(line.strip()))
        elif tagged and tag in LINE_TAGS:
            if self.intent is None:
                raise self.fail("a line before the first intent")
            self._add(self.intent, tag, rest)
        else:
            raise self.fail(f"a line must begin with # ! + @ % or one of {' '.join(LINE_TAGS)}: {line[:60]!r}")

    def _start_intent(self, rest: str, named: bool) -> None:
        key, _, names = rest.partition("|")
        key = key.strip()
        if not key:
            raise self.fail("an intent needs a key")
        if key in self.corpus.intents:
            raise self.fail(f"the intent '{key}' is already in {self.corpus.intents[key].source}")
        aliases = [alias.strip() for alias in names.split(";") if alias.strip()]
        if named and not aliases:
            raise self.fail(f"the named intent '{key}' has no alias")
        self.frames = None
        self.intent = Intent(key, named, aliases, source=self.file.name)
        self.corpus.intents[key] = self.intent

    def _add(self, intent: Intent, tag: str, rest: str) -> None:
        if not rest:
            raise self.fail(f"an empty '{tag}' line")
        if tag == "q":
            intent.questions.append(self._phrase(rest))
        elif tag == "d":
            intent.indirect.append(self._phrase(rest))
        elif tag == "v":
            intent.verbs += [self._phrase(verb) for verb in split_outside_braces(rest)]
        elif tag == "n":
            intent.things += [self._phrase(thing) for thing in split_outside_braces(rest)]
        elif tag == "k":
            intent.keys += split_outside_braces(rest)
        elif tag == "a":
            intent.answers.append(_unescape(rest))
        elif tag == "w":
            intent.reasons.append(_unescape(rest))
        elif tag == "t":
            theme, text = self._halves(rest, "a theme is written 't theme => answer'")
            if not THEME.fullmatch(theme) or theme in intent.themes:
                raise self.fail(f"the theme '{theme}' is no word in lower case, or is there already")
            intent.themes[theme] = _unescape(text)
        else:
            question, answer = self._halves(rest, "a follow-up is written 'f question => answer'")
            intent.follow_ups.append(self._follow_up(intent, self._phrase(question), answer))

    def _follow_up(self, intent: Intent, question: str, answer: str) -> FollowUp:
        """Its answer is a text, or the name of a theme that stands before it."""
        if not THEME.fullmatch(answer):
            return FollowUp(question, _unescape(answer))
        if answer not in intent.themes:
            raise self.fail(f"'{intent.key}' has no theme '{answer}' before this line")
        return FollowUp(question, intent.themes[answer], answer)

    def _halves(self, text: str, expected: str) -> tuple[str, str]:
        left, arrow, right = text.partition("=>")
        if not arrow or not left.strip() or not right.strip():
            raise self.fail(expected)
        return left.strip(), right.strip()

    def _phrase(self, text: str) -> str:
        try:
            alternatives.parse(text)
        except alternatives.PhraseError as error:
            raise self.fail(f"{error} in {text!r}") from None
        return text


def split_outside_braces(text: str) -> list[str]:
    """Split at semicolons that are not between braces."""
    pieces, depth, current = [], 0, ""
    for character in text:
        depth += (character == "{") - (character == "}")
        if character == ";" and depth == 0:
            pieces.append(current)
            current = ""
        else:
            current += character
    return [piece.strip() for piece in [*pieces, current] if piece.strip()]


def _unescape(text: str) -> str:
    return text.replace("\\n", "\n")


def _check(corpus: Corpus) -> None:
    """Every intent must have an answer and a way of asking for it, and every theme a question that leads to it."""
    for intent in corpus.intents.values():
        if not intent.answers:
            raise CorpusError(f"{intent.source}: the intent '{intent.key}' has no answer")
        if not intent.named and not intent.questions and not intent.indirect and not intent.verbs:
            raise CorpusError(f"{intent.source}: the intent '{intent.key}' cannot be asked for")
        for theme in intent.themes.keys() - {follow_up.theme for follow_up in intent.follow_ups}:
            raise CorpusError(f"{intent.source}: no question leads to the theme '{theme}' of '{intent.key}'")


def chosen_by_hash(text: str, share: float) -> bool:
    """A choice that depends on the text alone, so it is the same in every run."""
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32


@dataclass(frozen=True)
class HeldOutLine:
    """A line that is kept out of training and asked in the development evaluation."""

    category: str
    key: str
    text: str


MIN_LINES_LEFT = 3


def hold_out(corpus: Corpus, share: float) -> list[HeldOutLine]:
    """Move a share of the question lines (chosen by hash) out of the corpus; at least MIN_LINES_LEFT stay."""
    held: list[HeldOutLine] = []
    if share <= 0:
        return held
    for intent in corpus.intents.values():
        for name in ("questions", "indirect"):
            lines: list[str] = getattr(intent, name)
            category = "indirect" if name == "indirect" else direct_category(intent)
            chosen = [line for line in lines if chosen_by_hash(intent.key + line, share)]
            chosen = chosen[: max(0, len(lines) - MIN_LINES_LEFT)]
            setattr(intent, name, [line for line in lines if line not in chosen])
            held += [HeldOutLine(category, intent.key, line) for line in chosen]
    return held


def hold_out_frames(corpus: Corpus, share: float, wanted: Callable[[str], bool]) -> dict[str, list[str]]:
    """Move a share of the frames of the wanted sections (chosen by hash) out of the corpus."""
    held: dict[str, list[str]] = {}
    if share <= 0:
        return held
    for name, frames in corpus.frames.items():
        if wanted(name):
            chosen = [frame for frame in frames if chosen_by_hash(name + frame, share)]
            chosen = chosen[: max(0, len(frames) - MIN_LINES_LEFT)]
            corpus.frames[name] = [frame for frame in frames if frame not in chosen]
            held[name] = chosen
    return held


def direct_category(intent: Intent) -> str:
    """The category under which direct questions for this intent are reported."""
    if intent.named:
        return "app" if intent.source.startswith("c") else "named"
    return "talk" if intent.source.startswith("d") else "app"
