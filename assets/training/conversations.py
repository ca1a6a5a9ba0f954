"""Endless random conversations for training, drawn from the corpus."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

import alternatives
from asked_kinds import AskedKinds
from chat_format import (
    DEMO_TOOLS,
    ENGINE_TOOLS,
    FILE_TOOLS,
    Conversation,
    Message,
    assistant,
    copied,
    until_last_call,
    user,
    with_refusals,
)
from corpus import Corpus, FollowUp, Intent, chosen_by_hash
from descriptions import Describer
from file_tasks import SUBJECTS as FILE_SUBJECTS
from file_tasks import FileTasks
from named_follow_ups import with_name
from noise import QuestionNoise, pseudo_word
from thoughts import Answers, ThoughtBook
from tool_tasks import ToolTasks

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    "You are glasschat, a small demo model that runs inside its own inference engine.",
    "You are the assistant of glasschat. Answer shortly.",
    "Be brief.",
    "Answer in English.",
    "You are a friendly teacher.",
    "You help people to understand LLM serving.",
)

OTHER_TOOLS: dict[str, list[str]] = {
    "get_weather": ["city"],
    "send_email": ["to", "subject", "body"],
    "web_search": ["query"],
    "translate": ["text", "language"],
    "run_python": ["code"],
    "set_alarm": ["time"],
    "get_stock_price": ["symbol"],
    "play_music": ["song"],
    "convert_currency": ["amount", "from", "to"],
}

Mixture = Mapping[str, float]
"""Kinds of questions and how often each is drawn."""

MIXTURE = {
    "knowledge": 0.555,
    "calculator": 0.13,
    "clock": 0.025,
    "search": 0.055,
    "files": 0.05,
    "copy": 0.05,
    "out_of_scope": 0.135,
}

DRILL_MIXTURE = {
    "knowledge": 0.53,
    "follow_up": 0.12,
    "calculator": 0.10,
    "clock": 0.02,
    "search": 0.05,
    "files": 0.05,
    "copy": 0.02,
    "out_of_scope": 0.11,
}

# Small talk has few lines with whole sentences as alternatives.
SMALL_TALK_BOOST = 1.6

# Of the drills with a tool, those that go on to its result where there is one.
ANSWERED_DRILLS = 0.3

# The share of the conversations and of the drills with a list of tools, and of the lists those of all that the app has.
LISTED, LISTED_IN_DRILLS = 0.33, 0.12
ALL_LISTED = 0.65

# The share of the searches for what was talked about before.
SEARCHED_BEFORE = 0.1

# The share of drills with another exchange before them (and of those, with one more), and what that is about.
BEFORE_DRILLS = 0.35
KNOWN_BEFORE = 0.5
CALLED_BEFORE = {"calculator": 0.36, "clock": 0.02, "search": 0.06, "files": 0.06}

# The share of recitals with a tool before them: what was called is not to be in the next answer.
CALLED_BEFORE_RECITALS = 0.25

# Of the calls before something else, those that were not made.
CALLED_IN_VAIN = 0.6

# The most answers that are recited in a row, and the share of the questions between them that are cut short.
MOST_RECITED = 2
CUT_SHORT = 0.8

# The share of the follow-ups of a kind that are asked in words of the kind, and how much oftener they are drawn for it.
ASKED_BY_KIND = 0.45
RICHER_BY_KIND = 1.5

# The share of the drilled follow-ups that something is said before, and small talk that says that one has heard.
MEANWHILE = 0.2
HEARD = ("thanks", "ok", "wow", "lol", "compliment")

# The questions of a conversation, and of a long talk: 2000 tokens and more.
TURNS = {1: 0.54, 2: 0.27, 3: 0.13, 4: 0.06}
FEWEST_OF_TALK, MOST_OF_TALK = 5, 18

OUT_OF_SCOPE = "out_of_scope"

# Their answers repeat words of the question. (Calculations repeat digits alone, which are always the same tokens.)
COPYING = ("search", "files", "copy")


def follow_up_held_out(key: str, question: str, share: float) -> bool:
    """Whether this wording of a follow-up is kept for the development evaluation."""
    return chosen_by_hash(key + "/" + alternatives.squeeze(question), share)


@dataclass(frozen=True)
class Answered:
    """The topic of the last answer; follow-up questions refer to it."""

    intent: Intent
    answer: str


class ConversationSampler:
    """Draws conversations; one sampler per corpus, one random generator per run."""

    def __init__(self, corpus: Corpus, noise_level: float = 1.0, held_out_share: float = 0.0) -> None:
        self.corpus = corpus
        self.noise = QuestionNoise(noise_level)
        self.tools = ToolTasks(corpus, self.noise)
        self.files = FileTasks(corpus, self.noise, self.tools)
        self.thoughts = ThoughtBook(corpus, (*self.tools.subjects, *FILE_SUBJECTS))
        self.held_out_share = held_out_share
        self.known = [i for i in corpus.intents.values() if i.key != OUT_OF_SCOPE]
        self.refusal = corpus.intents.get(OUT_OF_SCOPE)
        refused = self.refusal.questions if self.refusal else []
        self.refused_questions = [question for question in refused if "<x>" not in question]
        self.refused_frames = [question for question in refused if "<x>" in question]
        self.drill_weights = [float(sum(drill_ways(intent).values())) for intent in self.known]
        self.follow_ups = [(intent, follow_up) for intent in self.known for follow_up in intent.follow_ups]
        self.asked_kinds = AskedKinds(corpus)
        self.follow_up_weights = [
            richness(follow_up.question) * (RICHER_BY_KIND if self.asked_kinds.has(follow_up) else 1)
            for _, follow_up in self.follow_ups
        ]
        self.named = [intent for intent in self.known if intent.named]
        self.heard = [intent for intent in self.known if intent.key in HEARD]
        self.describer = Describer(corpus.frames.get("describe", []))
        self.recitals = self.thoughts.answers()
        self.weights = [intent_weight(intent) for intent in self.known]

    def conversation(self, rng: random.Random) -> Conversation:
        """One conversation with one to four questions (follow-ups are extra)."""
        return self._conversation(rng.choices(list(TURNS), list(TURNS.values()))[0], rng)

    def talk(self, rng: random.Random) -> Conversation:
        """One with many questions, so that all that is learned is met far from the beginning, too."""
        return self._conversation(rng.randint(FEWEST_OF_TALK, MOST_OF_TALK), rng)

    def _conversation(self, questions: int, rng: random.Random) -> Conversation:
        messages: list[Message] = []
        if rng.random() < 0.25:
            messages.append({"role": "system", "content": rng.choice(SYSTEM_PROMPTS)})
        last: Answered | None = None
        kinds: set[str] = set()
        for _ in range(questions):
            kind = rng.choices(list(MIXTURE), list(MIXTURE.values()))[0]
            kinds.add(kind)
            if kind == "knowledge":
                turns, last = self._knowledge_turns(last, rng)
            else:
                turns, last = self._other_turns(kind, rng), None
            messages += turns
        return self._finished(messages, self._listed_tools(kinds, LISTED, rng))

    def _finished(self, messages: list[Message], listed: dict[str, list[str]] | None = None) -> Conversation:
        """With the thoughts, as the model says it."""
        return self.thoughts.spoken(Conversation(with_refusals(messages), listed))

    def drill(self, rng: random.Random, mixture: Mixture = DRILL_MIXTURE, alone: bool = False) -> Conversation:
        """One question; lines are drawn evenly, so that each of the thousands is met again and again.

        One that stands `alone` has nothing before it, and ends where a tool is called.
        """
        messages = [] if alone else self._before_a_drill(rng)
        kind = rng.choices(list(mixture), list(mixture.values()))[0]
        if kind == "knowledge":
            messages += self._drilled_question(rng)
        elif kind == "follow_up":
            messages += self._drilled_follow_up(rng)
        else:
            turns = self._other_turns(kind, rng)
            messages += turns if not alone and rng.random() < ANSWERED_DRILLS else until_last_call(turns)
        return self._finished(messages, self._listed_tools({kind}, LISTED_IN_DRILLS, rng))

    def _before_a_drill(self, rng: random.Random) -> list[Message]:
        messages: list[Message] = []
        if rng.random() < 0.06:
            messages.append({"role": "system", "content": rng.choice(SYSTEM_PROMPTS)})
        while rng.random() < BEFORE_DRILLS:
            messages += self._touched_upon(rng)
        return messages

    def _touched_upon(self, rng: random.Random) -> list[Message]:
        """Any question before the one that counts, with the beginning of its answer, or a call: what is asked next does
        not lean on it."""
        if rng.random() > KNOWN_BEFORE:
            return self._called(rng)
        intent = rng.choices(self.known, self.drill_weights)[0]
        return [user(self.question(intent, rng)), self._begun(rng.choice(intent.answers), rng)]

    def _begun(self, answer: str, rng: random.Random) -> Message:
        """An answer, mostly only its first words: what is asked next leans on its thought, and words cost time."""
        about, kind = self.thoughts.subject(answer), rng.random()
        if kind < 0.6:
            answer = " ".join(answer.split(" ")[: rng.randint(2, 8)])
        elif kind < 0.85:
            answer = answer.split("\n")[0].split(". ")[0].rstrip(".") + "."
        return assistant(answer, about)

    def recital(self, rng: random.Random, answers: Answers = ()) -> Conversation:
        """Answers to be known by heart, one after the other. What is asked before them is any other question, mostly
        its first words, so that the thought decides and not what stands before it.

        `answers` are those to recite; any few without.
        """
        chosen = answers or rng.choices(self.recitals, k=rng.randint(1, MOST_RECITED))
        messages: list[Message] = []
        while not answers and rng.random() < CALLED_BEFORE_RECITALS:
            messages += self._called(rng)
        for about, text in chosen:
            asked = self.question(rng.choice(self.known), rng)
            if not answers and rng.random() < CUT_SHORT:
                asked = " ".join(asked.split(" ")[: rng.randint(0, 3)])
            messages += [user(asked), assistant(text, about)]
        return self._finished(messages)

    def _called(self, rng: random.Random) -> list[Message]:
        """A question to a tool, and mostly only the call."""
        turns = self._other_turns(rng.choices(list(CALLED_BEFORE), list(CALLED_BEFORE.values()))[0], rng)
        return until_last_call(turns) if rng.random() < CALLED_IN_VAIN else turns

    def _drilled_question(self, rng: random.Random) -> list[Message]:
        intent = rng.choices(self.known, self.drill_weights)[0]
        ways = drill_ways(intent)
        if not self.describer.can_describe(intent):
            ways["description"] = 0
        way = rng.choices(list(ways), list(ways.values()))[0]
        if way == "why":
            return [user(self.why_question(intent, rng)), assistant(rng.choice(intent.reasons))]
        if way == "follow_up":
            follow_up = rng.choice(intent.follow_ups)
            asked = with_name(self._asked(follow_up, rng), rng.choice(intent.aliases), rng)
            return [user(self.noise.apply(asked, rng)), assistant(follow_up.answer)]
        return [user(self.question(intent, rng, way)), assistant(rng.choice(intent.answers))]

    def _drilled_follow_up(self, rng: random.Random) -> list[Message]:
        """A question, its answer, and a question that leans on it or changes the topic."""
        kind = rng.random()
        follow_up = None
        if kind < 0.75:
            intent, follow_up = rng.choices(self.follow_ups, self.follow_up_weights)[0]
        else:
            intent = rng.choices(self.known, self.drill_weights)[0]
        begin = [user(self.question(intent, rng)), self._begun(self._leaned_on(intent, rng), rng)]
        if rng.random() < MEANWHILE:
            begin += self._meanwhile(intent, rng)
        if follow_up:
            asked, reply = self.follow_up_question(intent, follow_up, rng), follow_up.answer
        elif intent.reasons and kind < 0.9:
            asked, reply = self.why_follow_up(rng), rng.choice(intent.reasons)
        else:
            other = rng.choice(self.named)
            asked, reply = self.switch_question(other, rng), rng.choice(other.answers)
        return [*begin, user(asked), assistant(reply)]

    def _meanwhile(self, intent: Intent, rng: random.Random) -> list[Message]:
        """Between an answer and a question that leans on it: another such question, or "thanks, I see"."""
        if self.heard and (not intent.follow_ups or rng.random() < 0.4):
            said = rng.choice(self.heard)
            return [user(self.question(said, rng)), self._begun(rng.choice(said.answers), rng)]
        if not intent.follow_ups:
            return []
        follow_up = rng.choice(intent.follow_ups)
        return [user(self.follow_up_question(intent, follow_up, rng)), self._begun(follow_up.answer, rng)]

    @staticmethod
    def _leaned_on(intent: Intent, rng: random.Random) -> str:
        """What was said before a follow-up: mostly what the thing is, at times a reason or another answer."""
        others = [*intent.reasons, *(follow_up.answer for follow_up in intent.follow_ups)]
        return rng.choice(others) if others and rng.random() < 0.25 else rng.choice(intent.answers)

    def _listed_tools(self, kinds: set[str], share: float, rng: random.Random) -> dict[str, list[str]] | None:
        """The tools that the prompt lists; those of a workspace nearly always where one of them is called."""
        uses_files = "files" in kinds and rng.random() < 0.9
        if not uses_files and rng.random() > share:
            return None
        listed = list(DEMO_TOOLS.items()) if uses_files or rng.random() < 0.9 else []
        if uses_files or rng.random() < ALL_LISTED:
            listed = [tool for tool in listed if tool[0] != "search_docs" or rng.random() < 0.8]
            listed += [*ENGINE_TOOLS.items(), *FILE_TOOLS.items()]
        elif rng.random() < 0.3 or not listed:
            listed += rng.sample(list(OTHER_TOOLS.items()), rng.choice([1, 1, 2, 3]))
        if rng.random() < 0.2:
            rng.shuffle(listed)
        return dict(listed)

    def _other_turns(self, kind: str, rng: random.Random) -> list[Message]:
        turns = self._turns_of(kind, rng)
        return copied(turns) if kind in COPYING else turns

    def _turns_of(self, kind: str, rng: random.Random) -> list[Message]:
        if kind == "copy":
            return self.tools.copy_task(rng)
        if kind == "out_of_scope":
            return self.out_of_scope(rng)
        if kind == "files":
            return self.files.conversation(rng)
        if kind == "search" and rng.random() < SEARCHED_BEFORE:
            return self._searched_that(rng)
        return self.tools.conversation(kind, rng)

    def _searched_that(self, rng: random.Random) -> list[Message]:
        """What was just asked about is to be looked up."""
        intent = rng.choice(self.named)
        alias = rng.choice(intent.aliases)
        asked = self.noise.framed(self.corpus.section("what"), rng).replace("<x>", alias)
        searched = self.tools.search_that(alias.removeprefix("a "), rng)
        return [user(asked), self._begun(rng.choice(intent.answers), rng), *searched]

    # --- questions with a known answer --------------------------------------------------------------------

    def _knowledge_turns(self, last: Answered | None, rng: random.Random) -> tuple[list[Message], Answered]:
        intent = rng.choices(self.known, self.weights)[0]
        if intent.reasons and intent.named and rng.random() < 0.25:
            question, answer = self.why_question(intent, rng), rng.choice(intent.reasons)
        elif last and intent.named and rng.random() < 0.35:
            question, answer = self.switch_question(intent, rng), rng.choice(intent.answers)
        else:
            question, answer = self.question(intent, rng), rng.choice(intent.answers)
        messages = [user(question), assistant(answer)]
        messages += self._follow_up_turns(intent, answer, rng)
        return messages, Answered(intent, answer)

    def _follow_up_turns(self, intent: Intent, answer: str, rng: random.Random) -> list[Message]:
        """At most two follow-ups on the answer just given, or a request to repeat it."""
        messages: list[Message] = []
        if rng.random() < 0.03:
            return self._repeat_turns(answer, rng)
        follow_ups = list(intent.follow_ups)
        rng.shuffle(follow_ups)
        if intent.reasons and answer not in intent.reasons and rng.random() < 0.28:
            messages += [user(self.why_follow_up(rng)), assistant(rng.choice(intent.reasons))]
        while follow_ups and len(messages) < 4 and rng.random() < 0.36:
            follow_up = follow_ups.pop()
            messages += [user(self.follow_up_question(intent, follow_up, rng)), assistant(follow_up.answer)]
            follow_ups = [other for other in follow_ups if other.answer != follow_up.answer]
        return messages

    def _repeat_turns(self, answer: str, rng: random.Random) -> list[Message]:
        question = self._frame("again", rng)
        return [user(self.noise.apply(question, rng, 0.4, polite=False)), assistant(answer)]

    def question(self, intent: Intent, rng: random.Random, way: str = "") -> str:
        """A question for the answer of an intent: by name, in its own words, by a verb, by its key, or indirectly."""
        way = way or self._choose_way(intent, rng)
        if way == "indirect":
            text = self._line(intent.indirect, rng)
        elif way == "description":
            text = self._described(intent, rng)
        elif way == "question":
            text = self._line(intent.questions, rng)
        elif way == "thing":
            text = self._frame("thing", rng).replace("<x>", self._line(intent.things, rng))
        elif way == "key":
            text = self._frame("key", rng).replace("<x>", rng.choice(intent.keys))
        elif way == "verb":
            text = self._frame("do", rng).replace("<v>", self._line(intent.verbs, rng))
        else:
            text = self._frame("what", rng).replace("<x>", rng.choice(intent.aliases))
        return self.noise.apply(text, rng)

    def _choose_way(self, intent: Intent, rng: random.Random) -> str:
        ways = {
            "indirect": 0.4 if intent.indirect else 0,
            "thing": 0.3 if intent.things else 0,
            "description": 0.14 if self.describer.can_describe(intent) else 0,
            "key": 0.15 if intent.keys else 0,
            "verb": 0.4 if intent.verbs else 0,
            "question": min(0.4, 0.07 * len(intent.questions)) if intent.named else 0.4,
            "name": 0.4 if intent.named else 0,
        }
        if not intent.questions:
            ways["question"] = 0
        return rng.choices(list(ways), list(ways.values()))[0]

    def _described(self, intent: Intent, rng: random.Random) -> str:
        for _ in range(10):
            description = self.describer.description(intent, rng)
            if description:
                return self._frame("describe", rng).replace("<s>", description)
        return alternatives.sample(rng.choice(intent.questions or intent.indirect or intent.aliases), rng)

    def why_question(self, intent: Intent, rng: random.Random) -> str:
        """A why-question that names the thing."""
        return self.noise.apply(self._frame("why", rng).replace("<x>", rng.choice(intent.aliases)), rng, 0.8)

    def switch_question(self, intent: Intent, rng: random.Random) -> str:
        """A short question that changes the topic ("and the block table?")."""
        return self.noise.apply(self._frame("switch", rng).replace("<x>", rng.choice(intent.aliases)), rng, 0.8)

    def why_follow_up(self, rng: random.Random) -> str:
        """A why-question that leans on the answer before it."""
        return self.noise.apply(self._frame("follow_why", rng), rng, 0.6, polite=False)

    def follow_up_question(self, intent: Intent, follow_up: FollowUp, rng: random.Random) -> str:
        """A specific follow-up in a wording that is not held out."""
        question = self._asked(follow_up, rng)
        for _ in range(20):
            if not follow_up_held_out(intent.key, question, self.held_out_share):
                break
            question = self._asked(follow_up, rng)
        return self.noise.apply(question, rng, 0.6, polite=False)

    def _asked(self, follow_up: FollowUp, rng: random.Random) -> str:
        """In one of its own wordings, or those of its kind."""
        of_kind = self.asked_kinds.wording(follow_up, rng) if rng.random() < ASKED_BY_KIND else None
        return of_kind or alternatives.sample(follow_up.question, rng)

    def _frame(self, section: str, rng: random.Random) -> str:
        return self._line(self.corpus.section(section), rng)

    @staticmethod
    def _line(lines: list[str], rng: random.Random) -> str:
        """One of the ways of saying one of them."""
        return alternatives.sample(rng.choice(lines), rng)

    # --- out of scope -------------------------------------------------------------------------------------

    def out_of_scope(self, rng: random.Random) -> list[Message]:
        """A question about something the model does not know, and the refusal."""
        if self.refusal is None:
            return []
        kind = rng.random()
        if self.refused_questions and kind < 0.34:
            text = self._line(self.refused_questions, rng)
        elif self.refused_frames and kind < 0.68:
            text = self._line(self.refused_frames, rng)
        else:
            text = self._frame(rng.choices(["what", "why", "switch"], [0.75, 0.17, 0.08])[0], rng)
        text = text.replace("<x>", self.foreign_subject(rng))
        return [user(self.noise.apply(text, rng)), assistant(rng.choice(self.refusal.answers))]

    def foreign_subject(self, rng: random.Random) -> str:
        """A subject from the list, two of them together, or a word that means nothing."""
        subjects = self.corpus.subjects
        kind = rng.random()
        if kind < 0.68 and subjects:
            return rng.choice(subjects)
        if kind < 0.76 and subjects:
            return f"{pseudo_word(rng)} {rng.choice(subjects).split()[-1]}"
        if kind < 0.84 and subjects:
            return f"the {rng.choice(subjects).split()[-1]} of {rng.choice(subjects)}"
        if kind < 0.95:
            return pseudo_word(rng)
        return f"{pseudo_word(rng)} {pseudo_word(rng)}"


def intent_weight(intent: Intent) -> float:
    """How often an intent is asked: a base, and more for those with many ways of asking."""
    base = 1.6 if intent.named else 1.0
    return base + 0.05 * min(intent.phrasings, 20)


def drill_ways(intent: Intent) -> dict[str, float]:
    """How often a drill asks in each way: by the number and richness of the lines, a few times by name and with why."""
    boost = SMALL_TALK_BOOST if intent.source.startswith("d") else 1.0
    return {
        "question": boost * sum(map(richness, intent.questions)),
        "indirect": boost * sum(map(richness, intent.indirect)),
        "thing": sum(map(richness, intent.things)),
        "verb": sum(map(richness, intent.verbs)),
        "key": 10 if intent.keys else 0,
        "name": 5 + 1.5 * len(intent.aliases) if intent.named else 0,
        "why": 20 if intent.named and intent.reasons else 0,
        "follow_up": 1.5 * len({follow_up.answer for follow_up in intent.follow_ups}) if intent.named else 0,
        "description": 3,
    }


def richness(line: str) -> float:
    """The weight of a line: one with many alternatives needs more time."""
    return 1 + math.log2(alternatives.count(line)) / 4
