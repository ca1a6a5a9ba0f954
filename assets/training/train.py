"""Makes the demo model and its draft model: tokenizer, training, export, evaluation.

    python assets/training/train.py

takes about 70 minutes on two CPU cores. With --resume an interrupted run goes on from its last checkpoint.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

import corpus as corpus_files
import model as models
from batches import Batch, Diet, Examples, endless_batches, named, spoken
from conversations import DRILL_MIXTURE, ConversationSampler
from development import split_corpus
from lessons import Answers, Everything, Lesson, Losses, Naming, Writing
from muon import Muon
from self_check import check_format
from tokenizer import ConversationEncoder, Veil, load_tokenizer, save_tokenizer, train_tokenizer

TRAINING_FOLDER = Path(__file__).resolve().parent
ASSETS_FOLDER = TRAINING_FOLDER.parent

WARM_UP_SHARE = 0.02
FINAL_LEARNING_RATE_SHARE = 0.03
WEIGHT_DECAY = 0.05
GRADIENT_CLIP = 1.0
TOKENIZER_CONVERSATIONS = 25_000
CHECKPOINT_SECONDS = 180.0


Draw = Callable[[ConversationSampler, ConversationEncoder, Diet], Examples]

NO_VEIL, LIGHT_VEIL = Veil(), Veil(0.4, 0.18)
ASKING = {
    "knowledge": 0.48,
    "follow_up": 0.26,
    "calculator": 0.06,
    "clock": 0.02,
    "search": 0.04,
    "files": 0.05,
    "copy": 0.02,
    "out_of_scope": 0.13,
}
COPYING = {"copy": 0.3, "calculator": 0.25, "search": 0.15, "files": 0.25, "clock": 0.05}


@dataclass(frozen=True)
class Stage:
    """A part of the training: what learns, what it meets, and one rise and fall of the learning rate."""

    lesson: type[Lesson]
    draw: Draw
    diet: Diet
    tokens: int
    learning_rate: float
    batch_tokens: int
    veil: Veil = NO_VEIL
    noise: float = 0.6


@dataclass(frozen=True)
class Plan:
    """How one model is trained."""

    name: str
    shape: models.Shape
    tied: bool
    stages: tuple[Stage, ...]
    seed: int

    @property
    def tokens(self) -> int:
        """All tokens of the training."""
        return sum(stage.tokens for stage in self.stages)


DEMO_STAGES = (
    Stage(Naming, named, Diet(ASKING, drills=0.94), 24_000_000, 3e-3, 3072, LIGHT_VEIL),
    Stage(Writing, spoken, Diet(COPYING, drills=0.45, recitals=0.35), 9_000_000, 3e-3, 2048),
)
DRAFT_STAGES = (
    Stage(
        Everything,
        spoken,
        Diet(DRILL_MIXTURE, drills=0.5, recitals=0.2, cut_drills=0.9, cut_conversations=0.6),
        3_000_000,
        6e-3,
        2048,
    ),
)


def scaled(stages: tuple[Stage, ...], factor: float) -> tuple[Stage, ...]:
    """The same stages with more or fewer tokens."""
    return tuple(replace(stage, tokens=int(stage.tokens * factor)) for stage in stages)


class Progress:
    """Prints a line every now and then: step, losses, speed and the time left of the stage."""

    def __init__(self, name: str, stage: Stage, seconds_between: float = 20.0) -> None:
        self.name, self.stage = name, stage
        self.seconds_between = seconds_between
        self.started = self.printed = time.monotonic()
        self.tokens_at_start: int | None = None
        self.naming: float | None = None
        self.writing: float | None = None

    def report(self, tokens: int, losses: Losses, learning_rate: float) -> None:
        """Update the running losses; print when it is time. `tokens` are those of the stage."""
        if self.tokens_at_start is None:
            self.tokens_at_start = tokens
        self.naming, self.writing = _running(self.naming, losses.naming), _running(self.writing, losses.writing)
        now = time.monotonic()
        if now - self.printed < self.seconds_between:
            return
        self.printed = now
        speed = (tokens - self.tokens_at_start) / (now - self.started)
        left = (self.stage.tokens - tokens) / max(speed, 1)
        means = [("naming", self.naming), ("writing", self.writing)]
        print(
            f"{self.name}, {self.stage.lesson.__name__.lower()}: "
            f"{tokens / 1e6:.2f}/{self.stage.tokens / 1e6:.1f}M tokens, "
            f"loss {', '.join(f'{what} {mean:.3f}' for what, mean in means if mean is not None)}, "
            f"lr {learning_rate:.1e}, {speed:.0f} tok/s, {left / 60:.1f} min left",
            flush=True,
        )


def _running(mean: float | None, new: float | None) -> float | None:
    if mean is None or new is None:
        return new if mean is None else mean
    return mean + 0.02 * (new - mean)


class Trainer:
    """Takes one model through its stages; its whole state can be saved and loaded."""

    def __init__(self, plan: Plan, tokenizer: Tokenizer, answers: Answers, device: torch.device, threads: int) -> None:
        self.plan, self.tokenizer, self.answers = plan, tokenizer, answers
        self.device, self.threads = device, threads
        self.model = models.build(plan.shape, tokenizer, plan.tied).to(device).train()
        self.stage = -1
        self.tokens = 0
        """Of the present stage."""
        self.conversations = 0
        self.seconds = 0.0
        self._enter(0)

    def _enter(self, stage: int) -> None:
        self.stage, self.tokens = stage, 0
        self.lesson = self.plan.stages[stage].lesson(self.model, self.tokenizer, self.answers)
        matrices, others = [], []
        self.lesson.extras.to(self.device)
        torch.set_num_threads(min(self.threads, self.lesson.threads))
        for name, parameter in self.lesson.parameters():
            is_matrix = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
            (matrices if is_matrix else others).append(parameter)
        others += self.lesson.extras.parameters()
        self.learning = [*matrices, *others]
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, lr=1e-3, weight_decay=WEIGHT_DECAY),
            torch.optim.AdamW(others, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
        ]

    def run(self, sampler: ConversationSampler, encoder: ConversationEncoder, checkpoint: Path) -> None:
        """Train through the stages until the planned number of tokens is reached."""
        while True:
            self._run_stage(sampler, encoder, checkpoint)
            self.save(checkpoint)
            self.lesson.finish()
            if self.stage + 1 == len(self.plan.stages):
                return
            self._enter(self.stage + 1)

    def _run_stage(self, sampler: ConversationSampler, encoder: ConversationEncoder, checkpoint: Path) -> None:
        stage = self.plan.stages[self.stage]
        progress = Progress(self.plan.name, stage)
        # After a resume the stream of conversations is a new one, drawn from another seed.
        rng = random.Random(f"{self.plan.seed} {self.stage} {self.tokens}")
        sampler.noise.level, encoder.veil = stage.noise, stage.veil
        batches = endless_batches(stage.draw(sampler, encoder, stage.diet), rng, stage.batch_tokens)
        last_time = saved = time.monotonic()
        while self.tokens < stage.tokens:
            learning_rate = self._set_learning_rate(stage)
            losses = self._learn(next(batches))
            progress.report(self.tokens, losses, learning_rate)
            now = time.monotonic()
            self.seconds += now - last_time
            last_time = now
            if now - saved > CHECKPOINT_SECONDS:
                self.save(checkpoint)
                saved = now

    def _learn(self, batch: Batch) -> Losses:
        """One optimizer step."""
        losses = self.lesson.losses(batch.to(self.device))
        losses.total.backward()
        for bound in self.lesson.bounds:
            bound.bound_gradient()
        torch.nn.utils.clip_grad_norm_(self.learning, GRADIENT_CLIP)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.tokens += batch.tokens
        self.conversations += batch.conversations
        return losses

    def _set_learning_rate(self, stage: Stage) -> float:
        """Linear warm-up, then a cosine down to a small rest."""
        done = self.tokens / stage.tokens
        if done < WARM_UP_SHARE:
            share = max(done, 1e-3) / WARM_UP_SHARE
        else:
            cosine = 0.5 * (1 + math.cos(math.pi * (done - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)))
            share = FINAL_LEARNING_RATE_SHARE + (1 - FINAL_LEARNING_RATE_SHARE) * cosine
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = stage.learning_rate * share
        return stage.learning_rate * share

    def save(self, file: Path) -> None:
        """Write everything that --resume needs; the file is replaced at once."""
        state = {
            "model": self.model.state_dict(),
            "extras": self.lesson.extras.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "counters": (self.stage, self.tokens, self.conversations, self.seconds),
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.replace(file)

    def load(self, file: Path) -> None:
        """Go on from a saved state."""
        state = torch.load(file, map_location=self.device, weights_only=True)
        stage, tokens, self.conversations, self.seconds = state["counters"]
        self._enter(stage)
        self.tokens = tokens
        self.model.load_state_dict(state["model"])
        self.lesson.extras.load_state_dict(state["extras"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def summary(self) -> dict[str, object]:
        """What the report says about the training."""
        return {
            "shape": asdict(self.plan.shape),
            "tokens": self.plan.tokens,
            "parameters": models.parameter_count(self.model),
            "conversations": self.conversations,
            "minutes": round(self.seconds / 60, 1),
        }


def prepare_tokenizer(arguments: argparse.Namespace, sampler: ConversationSampler) -> Tokenizer:
    """Train the tokenizer, or take the one that is there when a run goes on."""
    folder = arguments.runs / "tokenizer"
    if arguments.resume and (folder / "tokenizer.json").exists():
        return load_tokenizer(folder)
    tokenizer = train_tokenizer(sampler, arguments.vocabulary, arguments.seed, TOKENIZER_CONVERSATIONS)
    save_tokenizer(tokenizer, folder)
    print(f"tokenizer: {tokenizer.get_vocab_size()} tokens", flush=True)
    return tokenizer


def train_model(
    plan: Plan, arguments: argparse.Namespace, sampler: ConversationSampler, tokenizer: Tokenizer, out: Path
) -> None:
    """Train one model and export it."""
    torch.manual_seed(plan.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = Trainer(plan, tokenizer, sampler.thoughts.answers(), device, arguments.threads)
    checkpoint = arguments.runs / f"{plan.name}.pt"
    if arguments.resume and checkpoint.exists():
        trainer.load(checkpoint)
        print(f"{plan.name}: goes on in stage {trainer.stage + 1} at {trainer.tokens / 1e6:.2f}M tokens", flush=True)
    trainer.run(sampler, ConversationEncoder(tokenizer), checkpoint)
    models.export(trainer.model, tokenizer, out)
    summary = json.dumps(trainer.summary(), indent=2)
    (arguments.runs / f"{plan.name}.json").write_text(summary + "\n", encoding="utf-8")
    print(f"{plan.name}: {summary}\nwritten to {out}", flush=True)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["tokenizer", "demo", "draft"], help="do this part alone")
    parser.add_argument("--scale", type=float, default=1.0, help="factor for all numbers of tokens")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--hold-out", type=float, default=0.0, help="share of the lines kept for a development set")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoints")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, default=corpus_files.CORPUS_FOLDER)
    parser.add_argument("--runs", type=Path, default=TRAINING_FOLDER / "runs" / "main", help="checkpoints")
    parser.add_argument("--out", type=Path, default=ASSETS_FOLDER, help="where model/ and draft/ are written")
    parser.add_argument("--shape", type=int, nargs=5, metavar="N", help="hidden, layers, heads, KV heads, MLP")
    parser.add_argument("--no-evaluation", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Tokenizer, demo model, draft model, evaluation."""
    arguments = parse_arguments()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    corpus = corpus_files.load(arguments.corpus)
    split_corpus(corpus, arguments.hold_out)
    sampler = ConversationSampler(corpus, held_out_share=arguments.hold_out)
    tokenizer = prepare_tokenizer(arguments, sampler)
    check_format(arguments.runs / "tokenizer", sampler)
    shape = models.Shape(*arguments.shape) if arguments.shape else models.DEMO_SHAPE
    demo = Plan("demo", shape, False, scaled(DEMO_STAGES, arguments.scale), arguments.seed)
    draft = Plan("draft", models.DRAFT_SHAPE, True, scaled(DRAFT_STAGES, arguments.scale), arguments.seed)
    if arguments.only in (None, "demo"):
        train_model(demo, arguments, sampler, tokenizer, arguments.out / "model")
    if arguments.only in (None, "draft"):
        train_model(draft, arguments, sampler, tokenizer, arguments.out / "draft")
    if arguments.only is None and not arguments.no_evaluation:
        import evaluate

        evaluate.report(arguments.out / "model", arguments.out / "draft", arguments.corpus, arguments.hold_out)


if __name__ == "__main__":
    main()
