"""Measures the models by category: development set, blind and open set, and the draft model's acceptance rate.

python assets/training/evaluate.py [--failures] [--json FILE]
"""

import argparse
import json
import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import Qwen2ForCausalLM

import blind
import corpus as corpus_files
import grading
import model as models
from chat_format import APP_TOOLS, Conversation, Message, prompt_text
from conversations import ConversationSampler
from corpus import Corpus
from development import DevelopmentSet, Item, known_answers, split_corpus
from generation import Acceptance, Answer, answer_all, measure_acceptance
from memory import keep_freed_memory
from thoughts import without_thought
from tokenizer import load_tokenizer

ASSETS_FOLDER = Path(__file__).resolve().parent.parent
DRAFTED_TOKENS = 4
TOKENS_BEFORE = 1500
"""How much is talked about before the blind set is asked once more; the model's context holds 2048 tokens."""
NOISE_OF_TALKS = 0.5


@dataclass
class Scores:
    """Right and wrong answers by category."""

    by_category: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))

    def add(self, category: str, good: bool) -> None:
        """Count one answer."""
        self.by_category[category].append(good)

    def summary(self) -> dict[str, dict[str, float]]:
        """Percent and number of items by category, then overall."""
        rows = {
            name: {"percent": _percent(self.by_category[name]), "items": len(self.by_category[name])}
            for name in sorted(self.by_category)
        }
        everything = [good for grades in self.by_category.values() for good in grades]
        rows["overall"] = {"percent": _percent(everything), "items": len(everything)}
        return rows


def _percent(grades: list[bool]) -> float:
    return round(100 * sum(grades) / max(1, len(grades)), 1)


def grade_development(item: Item, answer: Answer, known: grading.KnownAnswers) -> bool:
    """Whether an answer to a development item is good."""
    expectation = item.expectation
    text = without_thought(answer.text)
    if expectation.refusal:
        return grading.is_refusal(text)
    if expectation.call is not None:
        return grading.same_call(text, expectation.call)
    if item.category == "tool answer":
        return text.strip() in expectation.texts
    return answer.ended and known.is_one_of(text, expectation.texts)


def evaluate_development(
    model: Qwen2ForCausalLM, tokenizer: Tokenizer, corpus_folder: Path, share: float, show_failures: bool
) -> Scores:
    """Scores on the lines that were held out; failures may be read here, for this set only."""
    corpus = corpus_files.load(corpus_folder)
    held = split_corpus(corpus, share)
    items = DevelopmentSet(corpus, held, share).build()
    known = grading.KnownAnswers(known_answers(corpus))
    prompts = [prompt_text(Conversation(item.messages)) for item in items]
    scores = Scores()
    for item, answer in zip(items, answer_all(model, tokenizer, prompts), strict=True):
        good = grade_development(item, answer, known)
        scores.add(item.category, good)
        if show_failures and not good:
            question = " // ".join(m["content"] for m in item.messages if m["role"] == "user")
            wanted = item.expectation.call or item.expectation.texts[:1] or "a refusal"
            print(f"[{item.category}] {question}\n    got    {answer.text!r}\n    wanted {wanted!r}")
    return scores


class Talks:
    """Draws what was talked about before a question, the same ones every time."""

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer) -> None:
        self.sampler = ConversationSampler(corpus, NOISE_OF_TALKS)
        self.tokenizer = tokenizer
        self.rng = random.Random(1)

    def of(self, tokens: int) -> list[Message]:
        """Whole exchanges, as many as that many tokens hold."""
        messages: list[Message] = []
        while True:
            more = [message for message in self.sampler.conversation(self.rng).messages if message["role"] != "system"]
            longer = [*messages, *more]
            if len(self.tokenizer.encode(prompt_text(Conversation(longer))).ids) > tokens:
                return messages
            # Where a tool was called without a result, nobody goes on in the app.
            if "tool_calls" not in more[-1]:
                messages = longer


@dataclass
class BlindResult:
    """Scores on the blind or the open set: all items, and those that training cannot produce word for word."""

    all_items: Scores
    unseen_items: Scores
    asked: list[blind.Asked]
    endless: int


def evaluate_blind(
    model: Qwen2ForCausalLM,
    tokenizer: Tokenizer,
    corpus_folder: Path,
    file: Path = blind.BLIND_FILE,
    show_failures: bool = False,
    tokens_before: int = 0,
    every: int = 1,
    tools: dict[str, list[str]] | None = None,
) -> BlindResult:
    """Scores on the blind set, or the open one; answers to the blind one are not shown, or one would tune on items.

    With `tokens_before` each is asked after about as many tokens of talk about other things; one in `every` items is
    taken. `tools` are those that the prompts list.
    """
    items = blind.load(file)[::every]
    corpus = corpus_files.load(corpus_folder)
    producible = blind.ProducibleQuestions(corpus)
    before: list[list[Message]] = []
    if tokens_before:
        talks = Talks(corpus, tokenizer)
        before = [talks.of(tokens_before) for _ in items]
    endless = 0

    def answer_prompts(prompts: list[str]) -> list[str]:
        nonlocal endless
        answers = answer_all(model, tokenizer, prompts)
        endless += sum(not answer.ended for answer in answers)
        return [answer.text for answer in answers]

    asked = blind.ask(items, answer_prompts, before, tools)
    all_items, unseen_items = Scores(), Scores()
    for item, result in zip(items, asked, strict=True):
        good = item.grade(result.answer)
        if show_failures and not good:
            print(f"[{item.category}] {item.turns}\n    got    {result.answer!r}\n    wanted {item.expect}")
        all_items.add(item.category, good)
        if not producible.can_produce(item.last_question):
            unseen_items.add(item.category, good)
    return BlindResult(all_items, unseen_items, asked, endless)


def evaluate_draft(
    draft: Qwen2ForCausalLM, tokenizer: Tokenizer, asked: list[blind.Asked], every: int = 3
) -> dict[str, float]:
    """Acceptance of greedy speculation on every third blind prompt."""
    counts = Acceptance()
    for result in asked[::every]:
        measure_acceptance(draft, tokenizer, result.prompt, Answer(result.answer, True), DRAFTED_TOKENS, counts)
    return counts.summary()


def report(
    model_folder: Path,
    draft_folder: Path | None,
    corpus_folder: Path = corpus_files.CORPUS_FOLDER,
    hold_out: float = 0.0,
    show_failures: bool = False,
) -> dict[str, Any]:
    """Evaluate everything, print tables, and return the numbers."""
    tokenizer = load_tokenizer(model_folder)
    model = models.load(model_folder).eval()
    results: dict[str, Any] = {}
    if hold_out > 0:
        scores = evaluate_development(model, tokenizer, corpus_folder, hold_out, show_failures)
        results["development"] = scores.summary()
        print_table("development set", results["development"])
    if blind.BLIND_FILE.exists():
        result = evaluate_blind(model, tokenizer, corpus_folder)
        results["blind"] = result.unseen_items.summary()
        results["blind_with_producible"] = result.all_items.summary()
        results["blind_endless_answers"] = result.endless
        print_table("blind set (without items that training can produce)", results["blind"])
        print_table("blind set (all items)", results["blind_with_producible"])
        print(f"answers that did not end: {result.endless}")
        equipped = evaluate_blind(model, tokenizer, corpus_folder, tools=APP_TOOLS)
        results["blind_with_tools"] = equipped.unseen_items.summary()
        print_table("blind set, with the app's tools listed (without those items)", results["blind_with_tools"])
        far = evaluate_blind(model, tokenizer, corpus_folder, tokens_before=TOKENS_BEFORE, every=6)
        results["blind_far"] = far.unseen_items.summary()
        print_table(f"blind set, after up to {TOKENS_BEFORE} tokens of talk about other things", results["blind_far"])
        opened = evaluate_blind(model, tokenizer, corpus_folder, blind.OPEN_FILE, show_failures)
        results["open"] = opened.unseen_items.summary()
        results["open_with_producible"] = opened.all_items.summary()
        print_table("open set (without items that training can produce)", results["open"])
        print_table("open set (all items)", results["open_with_producible"])
        calculated = evaluate_blind(model, tokenizer, corpus_folder, blind.CALCULATIONS_FILE, show_failures)
        results["calculations"] = calculated.unseen_items.summary()
        print_table("calculations (without those that training can produce)", results["calculations"])
        if draft_folder is not None and draft_folder.exists():
            draft = models.load(draft_folder).eval()
            results["draft"] = evaluate_draft(draft, tokenizer, result.asked)
            print(f"draft model, {DRAFTED_TOKENS} tokens ahead: {results['draft']}")
    return results


def print_table(title: str, rows: dict[str, dict[str, float]]) -> None:
    """One line per category."""
    print(f"\n{title}")
    for name, row in rows.items():
        print(f"  {name:20s} {row['percent']:5.1f} %  of {row['items']}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ASSETS_FOLDER / "model")
    parser.add_argument("--draft", type=Path, default=ASSETS_FOLDER / "draft")
    parser.add_argument("--corpus", type=Path, default=corpus_files.CORPUS_FOLDER)
    parser.add_argument("--hold-out", type=float, default=0.0, help="as in training; 0 leaves the dev set out")
    parser.add_argument("--failures", action="store_true", help="print wrong answers (not of the blind set)")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    results = report(arguments.model, arguments.draft, arguments.corpus, arguments.hold_out, arguments.failures)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
