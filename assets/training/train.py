"""Makes the demo model and its draft model: tokenizer, training, export, evaluation.

    python assets/training/train.py

takes, by the speeds of its parts, some four hours on one CPU core that multiplies bfloat16, and three on two, where one
trains the namer while the other trains the writer; up to twice as long on others.
With --resume an interrupted run goes on from its last checkpoint.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

import corpus as corpus_files
import model as models
from assembly import assemble
from batches import DISTURBED, LONGEST_CONVERSATION, Batch, Diet, Examples, endless_batches, named, spoken
from calculations import NO_PRACTICE, Practice
from continuation import Earlier, continue_from
from conversations import DRILL_MIXTURE, ConversationSampler
from development import split_corpus
from learner import Learner, Losses, can_compile
from memory import keep_freed_memory
from muon import Muon
from naming import Namer
from precision import rounds_products
from reckoning import Reckoner
from self_check import check_format
from thoughts import Answers
from tokenizer import (
    ConversationEncoder,
    Veil,
    continued_tokenizer,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
)
from writing import Plain, Writer

TRAINING_FOLDER = Path(__file__).resolve().parent
ASSETS_FOLDER = TRAINING_FOLDER.parent

WARM_UP_SHARE = 0.02
FINAL_LEARNING_RATE_SHARE = 0.03
WEIGHT_DECAY = 0.05
GRADIENT_CLIP = 1.0
TOKENIZER_CONVERSATIONS = 25_000
CHECKPOINT_SECONDS = 180.0
EXAMPLES, TALKS = 300, 150
"""The conversations and long talks that the assembled model's head is adjusted by, besides all answers that are known
by heart."""


Draw = Callable[[ConversationSampler, ConversationEncoder, Diet], Examples]

NO_VEIL, SLIGHT_VEIL, LIGHT_VEIL = Veil(), Veil(0.3, 0.12), Veil(0.4, 0.18)
ASKING = {
    "knowledge": 0.35,
    "follow_up": 0.33,
    "calculator": 0.155,
    "clock": 0.01,
    "search": 0.03,
    "files": 0.02,
    "copy": 0.005,
    "out_of_scope": 0.1,
}
RECKONING = {
    "calculator": 0.82,
    "knowledge": 0.08,
    "follow_up": 0.02,
    "clock": 0.005,
    "search": 0.03,
    "files": 0.005,
    "copy": 0.005,
    "out_of_scope": 0.035,
}
COPYING = {"copy": 0.05, "calculator": 0.53, "search": 0.28, "files": 0.11, "clock": 0.03}


@dataclass(frozen=True)
class Schedule:
    """How long a learner learns, and how the learning rate rises and falls."""

    cycles: Sequence[int]
    """In each the learning rate rises and falls, after the first time half as high: how many tokens they take."""
    learning_rate: float
    averaged: int = 1
    """The weights are the mean of those at the ends of so many last cycles (Izmailov et al. 2018): such a mean holds
    for more unseen wordings than any of them. Only ends that lie close together have one that is any good."""
    kept: float = 0.0
    """The share of the weights that it went on from in those at the end (Wortsman et al. 2022): so what a new mixture
    teaches is added, and the rest not lost."""

    @property
    def tokens(self) -> int:
        """All that is met."""
        return sum(self.cycles)

    def scaled(self, factor: float) -> "Schedule":
        """The same with more tokens, or fewer."""
        return replace(self, cycles=[int(factor * tokens) for tokens in self.cycles])


@dataclass(frozen=True)
class Basis:
    """What a learner is made of: the tokenizer, all answers with their names, and the learners below it."""

    tokenizer: Tokenizer
    answers: Answers
    learned: Mapping[str, Learner] = field(default_factory=dict)


def build_reckoner(basis: Basis) -> Reckoner:
    """On a namer and a writer."""
    match basis.learned:
        case {"namer": Namer() as namer, "writer": Writer() as writer}:
            return Reckoner(basis.tokenizer, namer, writer)
    raise ValueError("the reckoner stands on a namer and a writer")


@dataclass(frozen=True)
class Plan:
    """How one learner is trained, and what it meets."""

    name: str
    build: Callable[[Basis], Learner]
    draw: Draw
    diet: Diet
    batch_tokens: int
    from_nothing: Schedule
    going_on: Schedule
    """With what an earlier model knows: at a rate as high as the first a writer forgets the answers, and needs as long
    as before to know them again."""
    veil: Veil = NO_VEIL
    noise: float = 0.6
    practice: Practice = NO_PRACTICE
    model: str = "model"
    """Of which it is a part."""
    stands_on: Sequence[str] = ()
    """The learners that have to have learned all before it begins."""


PLANS = (
    Plan(
        "namer",
        lambda basis: Namer(basis.tokenizer, basis.answers),
        named,
        Diet(ASKING, drills=0.94, talks=0.012),
        3072,
        Schedule([17_000_000] * 3, 3e-3, averaged=3),
        Schedule([11_000_000, 7_000_000, 7_000_000, 7_000_000, 5_000_000], 3e-3, averaged=3, kept=0.79),
        LIGHT_VEIL,
    ),
    Plan(
        "writer",
        lambda basis: Writer(basis.tokenizer),
        spoken,
        Diet(COPYING, drills=0.64, drills_alone=0.55, recitals=0.31, disturbed_recitals=0.4, talks=0.025),
        2048,
        Schedule([20_000_000, 4_700_000, 4_700_000], 4e-3, averaged=2),
        Schedule([2_000_000, 1_200_000, 1_200_000, 1_200_000], 1.2e-3, averaged=3),
        SLIGHT_VEIL,
        practice=Practice(any_recipe=0.5, alike=0.35, rows=0.08),
    ),
    Plan(
        "reckoner",
        build_reckoner,
        named,
        Diet(RECKONING, drills=0.99, drills_alone=0.9, talks=0.002),
        3072,
        Schedule([18_000_000, 15_000_000, 1_500_000, 1_500_000, 1_500_000], 3e-3, averaged=3),
        Schedule([8_000_000, 1_500_000, 1_500_000, 1_500_000], 3e-3, averaged=3),
        LIGHT_VEIL,
        stands_on=("namer", "writer"),
    ),
    Plan(
        "draft",
        lambda basis: Plain(models.DRAFT_SHAPE, basis.tokenizer),
        spoken,
        Diet(DRILL_MIXTURE, drills=0.5, recitals=0.2, cut_drills=0.9, cut_conversations=0.6, talks=0.03),
        2048,
        Schedule([6_000_000], 6e-3),
        Schedule([4_500_000], 3e-3),
        model="draft",
    ),
)


class Progress:
    """Prints a line every now and then: losses, speed and the time left."""

    def __init__(self, name: str, goal: int, tokens: int, seconds_between: float = 20.0) -> None:
        self.name, self.goal, self.seconds_between = name, goal, seconds_between
        self.started = self.printed = time.monotonic()
        self.tokens_at_start = tokens
        self.means: dict[str, float] = {}

    def report(self, tokens: int, losses: Losses, learning_rate: float) -> None:
        """Update the running losses; print when it is time."""
        for name, loss in losses.parts.items():
            self.means[name] = self.means.get(name, loss) + 0.02 * (loss - self.means.get(name, loss))
        now = time.monotonic()
        if now - self.printed < self.seconds_between:
            return
        self.printed = now
        speed = (tokens - self.tokens_at_start) / (now - self.started)
        left = (self.goal - tokens) / max(speed, 1)
        print(
            f"{self.name}: {tokens / 1e6:.2f}/{self.goal / 1e6:.1f}M tokens, "
            f"loss {', '.join(f'{name} {mean:.3f}' for name, mean in self.means.items())}, "
            f"lr {learning_rate:.1e}, {speed:.0f} tok/s, {left / 60:.1f} min left",
            flush=True,
        )


class Trainer:
    """Takes one learner through its plan; its whole state can be saved and loaded."""

    def __init__(self, plan: Plan, schedule: Schedule, learner: Learner, device: torch.device) -> None:
        self.plan, self.schedule, self.device = plan, schedule, device
        self.learner = learner.to(device).train()
        self.tokens = self.conversations = 0
        self.seconds = 0.0
        self.ends: list[dict[str, Tensor]] = []
        """Of the last cycles, the weights."""
        matrices = [parameter for name, parameter in learner.named_parameters() if is_matrix(name, parameter)]
        others = [parameter for name, parameter in learner.named_parameters() if not is_matrix(name, parameter)]
        self.learning = [*matrices, *others]
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, lr=1e-3, weight_decay=WEIGHT_DECAY),
            torch.optim.AdamW(others, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
        ]

    def run(self, sampler: ConversationSampler, encoder: ConversationEncoder, checkpoint: Path) -> None:
        """Train until the planned number of tokens is reached."""
        progress = Progress(self.plan.name, self.schedule.tokens, self.tokens)
        # After a resume the stream of conversations is a new one, drawn from another seed.
        rng = random.Random(f"{self.plan.name} {self.tokens} {torch.initial_seed()}")
        sampler.noise.level, encoder.veil = self.plan.noise, self.plan.veil
        sampler.tools.calculations.practice = self.plan.practice
        batches = endless_batches(self.plan.draw(sampler, encoder, self.plan.diet), rng, self.plan.batch_tokens)
        last_time = saved = time.monotonic()
        while self.tokens < self.schedule.tokens:
            learning_rate = self._set_learning_rate()
            cycle = self.cycle
            losses = self._learn(next(batches))
            if self.cycle > cycle:
                self.ends.append({name: value.clone() for name, value in self.learner.state_dict().items()})
                self.ends = self.ends[-self.schedule.averaged :]
            progress.report(self.tokens, losses, learning_rate)
            now = time.monotonic()
            self.seconds += now - last_time
            last_time = now
            if now - saved > CHECKPOINT_SECONDS:
                self.save(checkpoint)
                saved = now
        self.save(checkpoint)
        self.learner.load_state_dict(mean_of(self.ends))

    @property
    def cycle(self) -> int:
        """The number of cycles that have ended."""
        return sum(end <= self.tokens for end in accumulate(self.schedule.cycles))

    def _learn(self, batch: Batch) -> Losses:
        """One optimizer step."""
        losses = self.learner.losses(batch.to(self.device))
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(self.learning, GRADIENT_CLIP)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.tokens += batch.tokens
        self.conversations += batch.conversations
        return losses

    def _set_learning_rate(self) -> float:
        """In each cycle a linear warm-up, then a cosine down to a small rest."""
        cycles = self.schedule.cycles
        done = (self.tokens - sum(cycles[: self.cycle])) / cycles[self.cycle]
        if done < WARM_UP_SHARE:
            share = max(done, 1e-3) / WARM_UP_SHARE
        else:
            cosine = 0.5 * (1 + math.cos(math.pi * (done - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)))
            share = FINAL_LEARNING_RATE_SHARE + (1 - FINAL_LEARNING_RATE_SHARE) * cosine
        learning_rate = self.schedule.learning_rate * share * (0.5 if self.cycle else 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
        return learning_rate

    def save(self, file: Path) -> None:
        """Write everything that --resume needs; the file is replaced at once."""
        state = {
            "learner": self.learner.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "counters": (self.tokens, self.conversations, self.seconds),
            "ends": self.ends,
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.replace(file)

    def load(self, file: Path) -> None:
        """Go on from a saved state."""
        state = torch.load(file, map_location=self.device, weights_only=True)
        self.tokens, self.conversations, self.seconds = state["counters"]
        self.ends = state["ends"]
        self.learner.load_state_dict(state["learner"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def summary(self) -> dict[str, object]:
        """What the report says about the training."""
        return {
            "tokens": self.schedule.tokens,
            "parameters": models.parameter_count(self.learner),
            "conversations": self.conversations,
            "minutes": round(self.seconds / 60, 1),
        }


def mean_of(states: Sequence[Mapping[str, Tensor]], shares: Sequence[float] = ()) -> dict[str, Tensor]:
    """Of several states of one module, all alike or by their shares; what is no number is the last one's."""
    shares = shares or [1 / len(states)] * len(states)
    return {
        name: sum(share * state[name] for share, state in zip(shares, states, strict=True))
        if value.is_floating_point()
        else value
        for name, value in states[-1].items()
    }


def is_matrix(name: str, parameter: torch.nn.Parameter) -> bool:
    """Whether Muon trains it: the matrices of the layers, not those that have a row for each token or name."""
    in_a_layer = parameter.ndim == 2 and name.endswith(".weight")
    return in_a_layer and "embed_tokens" not in name and "lm_head" not in name


def prepare_tokenizer(arguments: argparse.Namespace, sampler: ConversationSampler) -> Tokenizer:
    """Train the tokenizer, or take the one that is there when a run goes on."""
    folder = arguments.runs / "tokenizer"
    if arguments.resume and (folder / "tokenizer.json").exists():
        return load_tokenizer(folder)
    if arguments.go_on_from:
        tokenizer = continued_tokenizer(arguments.go_on_from / "model", sampler)
    else:
        tokenizer = train_tokenizer(sampler, arguments.vocabulary, arguments.seed, TOKENIZER_CONVERSATIONS)
    save_tokenizer(tokenizer, folder)
    print(f"tokenizer: {tokenizer.get_vocab_size()} tokens", flush=True)
    return tokenizer


def as_it_was(plan: Plan, arguments: argparse.Namespace, basis: Basis) -> Learner:
    """A learner that knows what the earlier model knows."""
    learner = plan.build(basis)
    continue_from(learner, Earlier(arguments.go_on_from / plan.model, basis.tokenizer))
    return learner


def train(plan: Plan, arguments: argparse.Namespace, sampler: ConversationSampler, basis: Basis) -> Learner:
    """Train one learner, or go on with it, or take it as it is when it has met all its tokens."""
    torch.manual_seed(arguments.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    checkpoint = arguments.runs / f"{plan.name}.pt"
    begun = arguments.resume and checkpoint.exists()
    learner = as_it_was(plan, arguments, basis) if arguments.go_on_from and not begun else plan.build(basis)
    torch.set_num_threads(min(arguments.threads, learner.threads))
    schedule = plan.going_on if arguments.go_on_from else plan.from_nothing
    trainer = Trainer(plan, schedule.scaled(arguments.scale), learner, device)
    if begun:
        trainer.load(checkpoint)
        print(f"{plan.name}: goes on at {trainer.tokens / 1e6:.2f}M tokens", flush=True)
    if not arguments.eager:
        learner.compile_parts()
    trainer.run(sampler, ConversationEncoder(basis.tokenizer), checkpoint)
    if arguments.go_on_from and schedule.kept:
        before = as_it_was(plan, arguments, basis).to(device)
        learner.load_state_dict(
            mean_of([before.state_dict(), learner.state_dict()], [schedule.kept, 1 - schedule.kept])
        )
    summary = json.dumps(trainer.summary(), indent=2)
    (arguments.runs / f"{plan.name}.json").write_text(summary + "\n", encoding="utf-8")
    print(f"{plan.name}: {summary}", flush=True)
    return learner.cpu().eval()


def learn(arguments: argparse.Namespace, sampler: ConversationSampler, tokenizer: Tokenizer) -> dict[str, Learner]:
    """All learners, or the one that is wanted and those that it stands on, as far as they have come."""
    wanted = [plan for plan in PLANS if arguments.only in (None, plan.name)]
    below = {name for plan in wanted for name in plan.stands_on}
    learned: dict[str, Learner] = {}
    for plan in PLANS:
        basis = Basis(tokenizer, sampler.thoughts.answers(), learned)
        if plan.name in arguments.keep:
            learned[plan.name] = as_it_was(plan, arguments, basis).eval()
        elif plan in wanted:
            learned[plan.name] = train(plan, arguments, sampler, basis)
        elif plan.name in below:
            goes_on = argparse.Namespace(**{**vars(arguments), "resume": True})
            learned[plan.name] = train(plan, goes_on, sampler, basis)
    return learned


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, or what is given in its place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["tokenizer", *(plan.name for plan in PLANS)], help="do this part alone")
    parser.add_argument("--scale", type=float, default=1.0, help="factor for all numbers of tokens")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--hold-out", type=float, default=0.0, help="share of the lines kept for a development set")
    parser.add_argument(
        "--go-on-from", type=Path, metavar="FOLDER", help="begin with what model/ and draft/ there have learned"
    )
    parser.add_argument(
        "--keep",
        nargs="+",
        default=[],
        choices=[plan.name for plan in PLANS],
        help="with --go-on-from: leave these as they are there",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoints")
    parser.add_argument("--eager", action="store_true", help="compile nothing: slower, but begins at once")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, default=corpus_files.CORPUS_FOLDER)
    parser.add_argument("--runs", type=Path, default=TRAINING_FOLDER / "runs" / "main", help="checkpoints")
    parser.add_argument("--out", type=Path, default=ASSETS_FOLDER, help="where model/ and draft/ are written")
    parser.add_argument("--no-evaluation", action="store_true")
    arguments = parser.parse_args(given)
    if arguments.go_on_from and not (arguments.go_on_from / "model" / "tokenizer.json").exists():
        parser.error(f"--go-on-from: {arguments.go_on_from} has no model/tokenizer.json; give the folder above model/")
    if arguments.keep and not arguments.go_on_from:
        parser.error("--keep: say with --go-on-from what they are to be taken from")
    return arguments


def main() -> None:
    """Tokenizer, demo model, draft model, evaluation."""
    arguments = parse_arguments()
    keep_freed_memory()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    if not rounds_products():
        # What is done number by number is then the smaller part, and what is compiled was even slower.
        arguments.eager = True
    elif not arguments.eager and not can_compile():
        print("no working C++ compiler: the learners are not compiled and need up to twice the time", flush=True)
        arguments.eager = True
    corpus = corpus_files.load(arguments.corpus)
    split_corpus(corpus, arguments.hold_out)
    sampler = ConversationSampler(corpus, held_out_share=arguments.hold_out)
    tokenizer = prepare_tokenizer(arguments, sampler)
    check_format(arguments.runs / "tokenizer", sampler)
    learned = learn(arguments, sampler, tokenizer)
    match learned:
        case {"namer": Namer() as namer, "writer": Writer() as writer, "reckoner": Reckoner() as reckoner}:
            rng, encoder = random.Random(arguments.seed), ConversationEncoder(tokenizer)
            examples = [encoder.encode(sampler.conversation(rng), rng) for _ in range(EXAMPLES)]
            examples += [encoder.encode(sampler.talk(rng), rng).cut(LONGEST_CONVERSATION) for _ in range(TALKS)]
            for answer in sampler.recitals:
                # One that said a wrong word is not to take it for the end, nor for the beginning of another answer.
                recited = encoder.encode(sampler.recital(rng, [answer]), rng).with_given_thoughts()
                examples.append(recited.disturbed(DISTURBED, rng))
            models.export(assemble(namer, writer, reckoner, tokenizer, examples), tokenizer, arguments.out / "model")
    match learned:
        case {"draft": Plain() as draft}:
            models.export(draft.model, tokenizer, arguments.out / "draft")
    if arguments.only is None and not arguments.no_evaluation:
        import evaluate

        evaluate.report(arguments.out / "model", arguments.out / "draft", arguments.corpus, arguments.hold_out)


if __name__ == "__main__":
    main()
