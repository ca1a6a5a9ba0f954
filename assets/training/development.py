"""The development set: lines and frames of the corpus that are kept out of training, as graded questions.

It is for finding weak categories while writing. Its wording comes from the same authors as the corpus, so the blind
set, written by somebody else, is the honest measure.
"""

import random
from dataclasses import dataclass, field

import alternatives
from calculations import Calculations
from chat_format import Conversation, Message, assistant, user
from conversations import OUT_OF_SCOPE, ConversationSampler, follow_up_held_out
from corpus import Corpus, HeldOutLine, Intent, chosen_by_hash, hold_out, hold_out_frames
from noise import pseudo_word

FRAME_SECTIONS = (
    "what",
    "why",
    "follow_why",
    "switch",
    "do",
    "calc_words",
    "calc_asked",
    "clock_time",
    "clock_date",
    "search",
)
SUBJECT_SHARE = 0.05
ITEMS_PER_FRAME = 4
CALCULATIONS = 60
TOOL_ANSWERS = 30
PSEUDO_WORDS = 15
LATE_QUESTIONS = 40


@dataclass
class Expectation:
    """What a good answer is: one of the texts, a refusal, or a tool call."""

    texts: list[str] = field(default_factory=list)
    call: dict[str, object] | None = None
    refusal: bool = False


@dataclass
class Item:
    """One graded question; the conversation ends with it."""

    identifier: str
    category: str
    messages: list[Message]
    expectation: Expectation


@dataclass
class HeldOut:
    """Everything that training must not see."""

    lines: list[HeldOutLine]
    frames: dict[str, list[str]]
    subjects: list[str]


def split_corpus(corpus: Corpus, share: float) -> HeldOut:
    """Take the held-out part out of the corpus (which is changed) and return it."""
    lines = hold_out(corpus, share)
    frames = hold_out_frames(corpus, share, lambda name: name in FRAME_SECTIONS)
    subjects = [s for s in corpus.subjects if share > 0 and chosen_by_hash("subject " + s, SUBJECT_SHARE)]
    corpus.subjects = [subject for subject in corpus.subjects if subject not in set(subjects)]
    return HeldOut(lines, frames, subjects)


def known_answers(corpus: Corpus) -> list[tuple[str, str]]:
    """All (key, answer) pairs; an answer is right when it is nearest to one of the expected texts."""
    return [(intent.key, text) for intent in corpus.intents.values() for text in intent.texts]


class DevelopmentSet:
    """Builds the items from what split_corpus took out."""

    def __init__(self, corpus: Corpus, held: HeldOut, share: float, seed: int = 77) -> None:
        self.corpus = corpus
        self.held = held
        self.share = share
        self.rng = random.Random(seed)
        self.sampler = ConversationSampler(corpus, noise_level=0.0, held_out_share=share)
        self.items: list[Item] = []

    def build(self) -> list[Item]:
        """All items in a fixed order."""
        self._add_lines()
        self._add_named_frames()
        self._add_follow_ups()
        self._add_tools()
        self._add_out_of_scope()
        return self.items

    def _add(self, category: str, messages: list[Message], expectation: Expectation) -> None:
        spoken = self.sampler.thoughts.spoken(Conversation(messages)).messages
        self.items.append(Item(f"{category}-{len(self.items)}", category, spoken, expectation))

    def _add_lines(self) -> None:
        late = 0
        for line in self.held.lines:
            text = alternatives.sample(line.text, self.rng)
            if line.key == OUT_OF_SCOPE:
                text = text.replace("<x>", self.rng.choice(self.corpus.subjects))
                self._add("out-of-scope", [user(text)], Expectation(refusal=True))
                continue
            expectation = Expectation(self.corpus.intents[line.key].answers)
            self._add(line.category, [user(text)], expectation)
            if line.category == "named" and late < LATE_QUESTIONS:
                late += 1
                self._add("late turn", [*self._earlier_turns(), user(text)], expectation)

    def _earlier_turns(self) -> list[Message]:
        """Two other questions with their answers."""
        messages: list[Message] = []
        for intent in self.rng.sample(self.sampler.known, 2):
            messages += [user(self.sampler.question(intent, self.rng)), assistant(intent.answers[0])]
        return messages

    def _add_named_frames(self) -> None:
        named = [intent for intent in self.corpus.intents.values() if intent.named]
        with_reason = [intent for intent in named if intent.reasons]
        with_verbs = [intent for intent in self.corpus.intents.values() if intent.verbs]
        for frame in self.held.frames.get("what", []):
            for intent in self.rng.sample(named, ITEMS_PER_FRAME * 3):
                self._add("named", [user(self._fill(frame, intent.aliases))], Expectation(intent.answers))
        for frame in self.held.frames.get("why", []):
            for intent in self.rng.sample(with_reason, min(len(with_reason), ITEMS_PER_FRAME * 2)):
                self._add("why", [user(self._fill(frame, intent.aliases))], Expectation(intent.reasons))
        for frame in self.held.frames.get("do", []):
            for intent in self.rng.sample(with_verbs, min(len(with_verbs), ITEMS_PER_FRAME * 2)):
                verb = alternatives.sample(self.rng.choice(intent.verbs), self.rng)
                text = alternatives.sample(frame, self.rng).replace("<v>", verb)
                self._add("app", [user(text)], Expectation(intent.answers))

    def _fill(self, frame: str, names: list[str]) -> str:
        return alternatives.sample(frame, self.rng).replace("<x>", self.rng.choice(names))

    def _add_follow_ups(self) -> None:
        with_reason = [i for i in self.corpus.intents.values() if i.named and i.reasons]
        named = [i for i in self.corpus.intents.values() if i.named]
        for frame in self.held.frames.get("follow_why", []):
            for intent in self.rng.sample(with_reason, min(len(with_reason), ITEMS_PER_FRAME * 2)):
                follow = user(alternatives.sample(frame, self.rng))
                self._add("follow-up", [*self._asked(intent), follow], Expectation(intent.reasons))
        for frame in self.held.frames.get("switch", []):
            for intent in self.rng.sample(named, min(len(named), ITEMS_PER_FRAME * 2)):
                follow = user(self._fill(frame, intent.aliases))
                before = self._asked(self.rng.choice(named))
                self._add("follow-up", [*before, follow], Expectation(intent.answers))
        for intent in self.corpus.intents.values():
            for follow_up in intent.follow_ups:
                wordings = {alternatives.sample(follow_up.question, self.rng) for _ in range(30)}
                held = sorted(w for w in wordings if follow_up_held_out(intent.key, w, self.share))
                if held and self.rng.random() < 0.5:
                    messages = [*self._asked(intent), user(held[0])]
                    self._add("specific follow-up", messages, Expectation([follow_up.answer]))

    def _asked(self, intent: Intent) -> list[Message]:
        question = self.sampler.question(intent, self.rng)
        return [user(question), assistant(self.rng.choice(intent.answers))]

    def _add_tools(self) -> None:
        tasks = self.sampler.tools
        saved = self.corpus.frames
        # The held-out frames alone, with the other sections as they are.
        self.corpus.frames = {**saved, **{name: held for name, held in self.held.frames.items() if held}}
        calculations = Calculations(self.corpus, self.sampler.noise)
        for _ in range(CALCULATIONS):
            asked = calculations.draw(self.rng)
            call = {"name": "calculator", "arguments": {"expression": asked.expression}}
            self._add("calculator", [user(asked.question)], Expectation(call=call))
        for kind, number in (("clock", 12), ("search", 24)):
            for _ in range(number):
                *messages, call = tasks.conversation(kind, self.rng, answered=0)
                self._add(kind, messages, Expectation(call=call["tool_calls"][0]))
        self.corpus.frames = saved
        for kind in ("calculator", "clock", "search"):
            for _ in range(TOOL_ANSWERS // 3):
                *asked, answer = tasks.conversation(kind, self.rng, answered=1)
                self._add("tool answer", asked, Expectation(self._tool_answers(asked, answer)))

    def _tool_answers(self, asked: list[Message], answer: Message) -> list[str]:
        """The answer in each of its wordings: the result must be copied exactly."""
        result = asked[-1]["content"]
        arguments = asked[-2]["tool_calls"][0]["arguments"]
        texts = [answer["content"]]
        for section in ("calc_answer", "time_answer", "date_answer", "search_answer", "search_nothing"):
            for frame in self.corpus.section(section):
                text = frame.replace("<e>", arguments.get("expression", "")).replace("<x>", arguments.get("query", ""))
                for slot in ("<r>", "<t>", "<d>"):
                    text = text.replace(slot, result)
                texts.append(text)
        return texts

    def _add_out_of_scope(self) -> None:
        frames = self.corpus.section("what")
        subjects = self.rng.sample(self.held.subjects, min(50, len(self.held.subjects)))
        subjects += [pseudo_word(self.rng) for _ in range(PSEUDO_WORDS)]
        for subject in subjects:
            text = self._fill(self.rng.choice(frames), [subject])
            self._add("out-of-scope", [user(text)], Expectation(refusal=True))
