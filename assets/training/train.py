"""Makes the demo model and its draft model: tokenizer, training, export, evaluation.

    python assets/training/train.py

takes about 70 minutes on two CPU cores. With --resume an interrupted run goes on from its last checkpoint.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import Qwen2ForCausalLM

import corpus as corpus_files
import model as models
from answer_kinds import AnswerKinds
from batches import Batch, endless_batches, named, spoken
from conversations import DRILL_MIXTURE, ConversationSampler, Mixture
from development import split_corpus
from muon import Muon
from naming import ChoiceHead, hidden_at
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


ASKING = {**DRILL_MIXTURE, "follow_up": 0.2, "knowledge": 0.5}
ASKING_ALONE = {**DRILL_MIXTURE, "follow_up": 0.0, "knowledge": 0.7}

LIGHT_VEIL, HEAVY_VEIL = Veil(0.3, 0.15), Veil(0.5, 0.2)


@dataclass(frozen=True)
class Phase:
    """A part of the training with its own mixture and its own rise and fall of the learning rate."""

    tokens: int
    learning_rate: float
    batch_tokens: int
    noise: float
    drills: Mixture = field(default_factory=lambda: ASKING)
    """What the drills ask whose answers are learned in words."""
    drill_share: float = 0.85
    """Of the examples whose answers are learned in words; the rest are whole conversations."""
    naming_share: float = 0.0
    """Of the batches, those with questions alone, whose answers are only named."""
    named: Mixture = field(default_factory=lambda: ASKING)
    """What those ask."""
    naming_layers: int = 1
    """The layers that name the answer; the others turn its name into words."""
    choice_weight: float = 0.1
    """Of naming the answer, where it is learned in words as well."""
    veil: Veil = LIGHT_VEIL
    """What is hidden of the questions, and of what attention sees, so that no word is looked for alone."""
    attention_dropout: float = 0.0
    known_rate: float = 1.0
    """Of the learning rate, for the embedding and the first layer, once they know what they are for."""


@dataclass(frozen=True)
class Plan:
    """How one model is trained."""

    name: str
    shape: models.Shape
    phases: tuple[Phase, ...]
    seed: int

    @property
    def tokens(self) -> int:
        """All tokens of the training."""
        return sum(phase.tokens for phase in self.phases)


COPYING = {"copy": 0.5, "calculator": 0.25, "search": 0.2, "clock": 0.05}
DEMO_PHASES = (
    # To tell thousands of questions apart, by the first layer alone.
    Phase(10_000_000, 3e-3, 6144, noise=0.6, named=ASKING_ALONE, naming_share=1.0),
    # To copy, and to name what a follow-up asks for with three layers.
    Phase(
        4_500_000,
        3e-3,
        2048,
        noise=0.6,
        drills=COPYING,
        drill_share=1.0,
        named=ASKING,
        naming_share=0.35,
        naming_layers=3,
        known_rate=0.3,
    ),
    # To say the answers.
    Phase(
        11_000_000,
        3e-3,
        3072,
        noise=0.6,
        naming_share=0.25,
        naming_layers=3,
        veil=HEAVY_VEIL,
        attention_dropout=0.2,
        known_rate=0.3,
    ),
)
DRAFT_PHASES = (Phase(3_000_000, 6e-3, 2048, noise=0.6, drills=DRILL_MIXTURE, drill_share=0.7, veil=Veil()),)


def scaled(phases: tuple[Phase, ...], factor: float) -> tuple[Phase, ...]:
    """The same phases with more or fewer tokens."""
    return tuple(replace(phase, tokens=int(phase.tokens * factor)) for phase in phases)


@dataclass(frozen=True)
class Losses:
    """Mean losses of a batch: per token of the answers (if it has any), and of the choice of the answer."""

    answer: float | None
    choice: float


class Progress:
    """Prints a line every now and then: step, loss, speed and the time left."""

    def __init__(self, plan: Plan, seconds_between: float = 20.0) -> None:
        self.plan = plan
        self.seconds_between = seconds_between
        self.started = self.printed = time.monotonic()
        self.tokens_at_start: int | None = None
        self.answer = self.choice = 0.0

    def report(self, step: int, tokens: int, losses: Losses, learning_rate: float) -> None:
        """Update the running losses; print when it is time."""
        if self.tokens_at_start is None:
            self.tokens_at_start, self.choice = tokens, losses.choice
        if losses.answer is not None:
            self.answer += 0.02 * (losses.answer - self.answer)
        self.choice += 0.02 * (losses.choice - self.choice)
        now = time.monotonic()
        if now - self.printed < self.seconds_between:
            return
        self.printed = now
        speed = (tokens - self.tokens_at_start) / (now - self.started)
        left = (self.plan.tokens - tokens) / max(speed, 1)
        print(
            f"{self.plan.name} step {step} {tokens / 1e6:.2f}/{self.plan.tokens / 1e6:.1f}M tokens "
            f"loss: answers {self.answer:.3f}, choice {self.choice:.3f}, "
            f"lr {learning_rate:.1e}, {speed:.0f} tok/s, {left / 60:.1f} min left",
            flush=True,
        )


ParameterGroups = list[dict[str, Any]]


def parameter_groups(model: Qwen2ForCausalLM, choice: ChoiceHead) -> tuple[ParameterGroups, ParameterGroups]:
    """The layers' matrices, and all the rest; the embedding and the first layer apart, as they are learned first."""
    matrices: ParameterGroups = [{"params": [], "known": known} for known in (True, False)]
    others: ParameterGroups = [{"params": [], "known": known} for known in (True, False)]
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        groups = matrices if parameter.ndim == 2 and "embed" not in name else others
        known = "embed" in name or ".layers.0." in name
        groups[0 if known else 1]["params"].append(parameter)
    others[1]["params"] += choice.parameters()
    return matrices, others


class Trainer:
    """Trains one model; its whole state can be saved and loaded."""

    def __init__(self, plan: Plan, model: Qwen2ForCausalLM, kinds: int, device: torch.device) -> None:
        self.plan = plan
        self.device = device
        self.model = model.to(device).train()
        if plan.phases[0].naming_share == 1:
            models.average_first(self.model)
        self.choice = ChoiceHead(plan.shape.hidden, kinds).to(device)
        matrices, others = parameter_groups(self.model, self.choice)
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, lr=1e-3, weight_decay=WEIGHT_DECAY),
            torch.optim.AdamW(others, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
        ]
        self.step = 0
        self.tokens = 0
        self.conversations = 0
        self.seconds = 0.0

    def run(self, sampler: ConversationSampler, encoder: ConversationEncoder, checkpoint: Path) -> None:
        """Train through the phases until the planned number of tokens is reached."""
        progress = Progress(self.plan)
        last_time = saved = time.monotonic()
        end = 0
        for phase in self.plan.phases:
            start, end = end, end + phase.tokens
            # After a resume the stream of conversations is a new one, drawn from another seed.
            rng = random.Random(self.plan.seed * 1_000_003 + self.step)
            sampler.noise.level, encoder.veil = phase.noise, phase.veil
            for layer in self.model.model.layers:
                layer.self_attn.attention_dropout = phase.attention_dropout
            batches = mixed_batches(phase, sampler, encoder, rng)
            while self.tokens < end:
                learning_rate = self._set_learning_rate(phase, (self.tokens - start) / phase.tokens)
                losses = self.train_on(next(batches), phase)
                progress.report(self.step, self.tokens, losses, learning_rate)
                now = time.monotonic()
                self.seconds += now - last_time
                last_time = now
                if now - saved > CHECKPOINT_SECONDS:
                    self.save(checkpoint)
                    saved = now
        self.save(checkpoint)

    def train_on(self, batch: Batch, phase: Phase) -> Losses:
        """One optimizer step."""
        losses = self._speak(batch, phase) if len(batch.places) else self._name(batch, phase)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_CLIP)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += batch.tokens
        self.conversations += batch.conversations
        return losses

    def _speak(self, batch: Batch, phase: Phase) -> Losses:
        """Gradients of the answers' words, and of naming them."""
        device = self.device
        with torch.autocast(device.type, dtype=torch.bfloat16):
            output = self.model.model(batch.inputs.to(device), use_cache=False, output_hidden_states=True)
            hidden = output.last_hidden_state.flatten(0, 1)
            logits = self.model.lm_head(hidden[batch.places.to(device)])
            naming = output.hidden_states[phase.naming_layers].flatten(0, 1)
            choices = self.choice(naming[batch.starts.to(device)])
        weights = batch.weights.to(device)
        by_token = cross_entropy(logits.float(), batch.targets.to(device), reduction="none")
        choice_loss = cross_entropy(choices.float(), batch.kinds.to(device))
        loss = (by_token * weights).sum() / weights.sum() + phase.choice_weight * choice_loss
        loss.backward()
        answer_loss = (by_token.detach() * (weights > 0)).sum() / (weights > 0).sum()
        return Losses(answer_loss.item(), choice_loss.item())

    def _name(self, batch: Batch, phase: Phase) -> Losses:
        """Gradients of naming the answers alone."""
        device = self.device
        with torch.autocast(device.type, dtype=torch.bfloat16):
            hidden = hidden_at(self.model, batch.inputs.to(device), batch.starts.to(device), phase.naming_layers)
            choices = self.choice(hidden)
        loss = cross_entropy(choices.float(), batch.kinds.to(device))
        loss.backward()
        return Losses(None, loss.item())

    def _set_learning_rate(self, phase: Phase, done: float) -> float:
        """Linear warm-up, then a cosine down to a small rest."""
        if done < WARM_UP_SHARE:
            share = max(done, 1e-3) / WARM_UP_SHARE
        else:
            cosine = 0.5 * (1 + math.cos(math.pi * (done - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)))
            share = FINAL_LEARNING_RATE_SHARE + (1 - FINAL_LEARNING_RATE_SHARE) * cosine
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = phase.learning_rate * share * (phase.known_rate if group["known"] else 1.0)
        return phase.learning_rate * share

    def save(self, file: Path) -> None:
        """Write everything that --resume needs; the file is replaced at once."""
        state = {
            "model": self.model.state_dict(),
            "choice": self.choice.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "counters": (self.step, self.tokens, self.conversations, self.seconds),
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.replace(file)

    def load(self, file: Path) -> None:
        """Go on from a saved state."""
        state = torch.load(file, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.choice.load_state_dict(state["choice"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.tokens, self.conversations, self.seconds = state["counters"]

    def summary(self) -> dict[str, object]:
        """What the report says about the training."""
        return {
            "plan": asdict(self.plan),
            "parameters": models.parameter_count(self.model),
            "steps": self.step,
            "conversations": self.conversations,
            "minutes": round(self.seconds / 60, 1),
        }


def mixed_batches(
    phase: Phase, sampler: ConversationSampler, encoder: ConversationEncoder, rng: random.Random
) -> Iterator[Batch]:
    """Batches of answers in words, and of questions to name the answer of, in the phase's proportion."""
    speak = endless_batches(spoken(sampler, encoder, phase.drills, phase.drill_share), rng, phase.batch_tokens)
    name = endless_batches(named(sampler, encoder, phase.named), rng, phase.batch_tokens)
    while True:
        yield next(name if rng.random() < phase.naming_share else speak)


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
    kinds = AnswerKinds(sampler.corpus)
    trainer = Trainer(plan, models.build(plan.shape, tokenizer), kinds.count, device)
    checkpoint = arguments.runs / f"{plan.name}.pt"
    if arguments.resume and checkpoint.exists():
        trainer.load(checkpoint)
        print(f"{plan.name}: goes on at {trainer.tokens / 1e6:.2f}M tokens", flush=True)
    trainer.run(sampler, ConversationEncoder(tokenizer, kinds), checkpoint)
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
    torch.set_num_threads(arguments.threads)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    corpus = corpus_files.load(arguments.corpus)
    split_corpus(corpus, arguments.hold_out)
    sampler = ConversationSampler(corpus, held_out_share=arguments.hold_out)
    tokenizer = prepare_tokenizer(arguments, sampler)
    check_format(arguments.runs / "tokenizer", sampler)
    shape = models.Shape(*arguments.shape) if arguments.shape else models.DEMO_SHAPE
    demo = Plan("demo", shape, scaled(DEMO_PHASES, arguments.scale), arguments.seed)
    draft = Plan("draft", models.DRAFT_SHAPE, scaled(DRAFT_PHASES, arguments.scale), arguments.seed)
    if arguments.only in (None, "demo"):
        train_model(demo, arguments, sampler, tokenizer, arguments.out / "model")
    if arguments.only in (None, "draft"):
        train_model(draft, arguments, sampler, tokenizer, arguments.out / "draft")
    if arguments.only is None and not arguments.no_evaluation:
        import evaluate

        evaluate.report(arguments.out / "model", arguments.out / "draft", arguments.corpus, arguments.hold_out)


if __name__ == "__main__":
    main()
