"""An engine for tests: the client's surface, a scripted text instead of a model, and step records that add up.

Nothing runs by itself unless `rate` is given: a test calls `run(steps)` and knows exactly what was sent. With a rate,
every `drain` makes as many steps as the time since the last one asks for, which is what the development entry and the
cost measurements use.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from inference.protocol import (
    BlockChange,
    BlockCounts,
    ChatPrompt,
    Configured,
    Delta,
    EngineConfig,
    EngineDied,
    Event,
    Finished,
    FinishReason,
    KernelState,
    Message,
    MessageCounts,
    ModelInfo,
    OptionState,
    PhaseTimes,
    PrefixExplained,
    Prompt,
    Ready,
    Recorded,
    RequestRow,
    RequestState,
    Resume,
    Scheduled,
    SetBreakpoints,
    Speculation,
    Started,
    Stepping,
    StepRecord,
    Submit,
    Timings,
    TokenCount,
    TokenPrompt,
    Unscheduled,
    Until,
    Verified,
    WaitReason,
)

ANSWER = """\
**Paged attention** keeps the KV cache in blocks of 16 tokens, so memory is taken as it is needed:

1. each sequence has a *block table*,
2. blocks come from one pool,
3. two sequences may share a block.

```python
def slots(table: list[int], position: int, size: int = 16) -> int:
    # which place of the pool holds this token
    return table[position // size] * size + position % size
```

| option | default |
|---|---:|
| `block_size` | 16 |
| `max_num_seqs` | 16 |
"""

MODEL = ModelInfo("demo", "assets/demo", "Qwen2", 7_340_032, 14_680_064, 4096, 6, 8192, 3072, "none")
_TOKEN = re.compile(r"\s*\S+\s?|\s+")


def tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def accepted(place: int, drafts: int) -> int:
    """How many of so many drafts at a place of the answer are right: now more, now fewer."""
    return (place * 7 + 3) % (drafts + 1)


def _decided(config: EngineConfig) -> Speculation:
    depth = config.num_speculative_tokens
    rates = tuple(0.9 * 0.92**place for place in range(depth))
    reason = f"{1 + depth} tokens take 1.3 times as long as one and give 3.1"
    return Speculation(config.speculation, depth, reason, rates, 3.1, depth)


@dataclass
class Running:
    command: Submit
    prompt: int
    answer: list[str]
    computed: int = 0
    output: int = 0
    steps: int = 0

    @property
    def blocks(self) -> int:
        return -(-self.computed // 16)


@dataclass
class FakeEngine:
    """`script` gives the text that answers a prompt."""

    config: EngineConfig = field(default_factory=EngineConfig)
    script: Callable[[Submit], str] = lambda command: ANSWER
    rate: float = 0.0
    """Steps per second of real time; 0: only `run` makes steps."""
    auto_ready: bool = True
    num_blocks: int = 256
    context: int = MODEL.context_length
    step_seconds: float = 0.02
    slower: Mapping[str, float] = field(default_factory=dict)
    """How many times as long a step takes with an option's value, such as {"kernels=mlx": 1.3}."""
    commands: list[object] = field(default_factory=list)
    """Everything the app asked for, in order."""
    running: dict[str, Running] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    starts: int = 0
    alive: bool = False
    silence: float = 0.0
    step: int = 0
    recording: str = ""
    no_recording: str = ""
    """Why none can begin."""
    draft: str = ""
    """The draft model's name; without one nobody drafts. Of its guesses as many are right as `accepted` says."""
    kernels: tuple[KernelState, ...] = ()
    """What it says of the option of that name."""
    left: int | None = None
    """Steps before it pauses; conditions are not understood, and breakpoints kept but not looked for."""
    breakpoints: tuple[Until, ...] = ()
    tables: dict[str, list[int]] = field(default_factory=dict)
    """Of each request; blocks are taken in order, and those of ended requests stay cached until they are needed."""
    known: dict[int, BlockChange] = field(default_factory=dict)
    _last: float = field(default_factory=time.monotonic)

    # --- the client's surface ---------------------------------------------------------------------------------------

    def start(self) -> None:
        self.alive, self.starts = True, self.starts + 1
        self.breakpoints = ()
        if self.auto_ready:
            self.become_ready()

    def submit(self, command: Submit) -> None:
        assert self.alive, "a dead engine was given a request"
        self.commands.append(command)
        prompt = self._count(command.prompt)
        if prompt >= self.context:
            message = f"the prompt has {prompt} tokens, but only {self.context} fit the context"
            timings = Timings(0.0, 0.0, 0.0, prompt, 0)
            self.events.append(Finished(command.request_id, FinishReason.ERROR, timings, message))
            return
        self.running[command.request_id] = Running(command, prompt, tokens(self.script(command)))
        self.events.append(Started(command.request_id, prompt, command.params.seed or 7))

    def abort(self, request_id: str) -> None:
        self.commands.append(("abort", request_id))
        if (request := self.running.pop(request_id, None)) is not None:
            self._finish(request, FinishReason.ABORTED)

    def configure(self, changes: Mapping[str, Any]) -> None:
        self.commands.append(("configure", dict(changes)))
        if changes.get("kernels") == "nonsense":
            self.events.append(Configured(self.options(), self.step, "there are no kernels called 'nonsense'"))
            return
        self.config = replace(self.config, **changes)
        self.events.append(Configured(self.options(), self.step + 1))

    def explain_prefix(self, session: str) -> None:
        self.events.append(PrefixExplained(session, "48 of 60 prompt tokens were cached."))

    def record(self, path: str) -> None:
        self.commands.append(("record", path))
        if path and self.no_recording:
            self.events.append(Recorded(path, False, self.no_recording))
        else:
            again = f"{len(self.running)} answers under way: computed again from the start" if self.running else ""
            self.events.append(Recorded(path or self.recording, bool(path), again if path else ""))
            self.recording = path

    def pause(self) -> None:
        self.commands.append("pause")
        self.left = 0
        self.events.append(Stepping(True, self.step, "asked to", self.breakpoints))

    def set_breakpoints(self, command: SetBreakpoints) -> None:
        self.commands.append(command)
        self.breakpoints = command.points
        self.events.append(Stepping(self.left == 0, self.step, "", self.breakpoints))

    def resume(self, command: Resume) -> None:
        self.commands.append(command)
        self.left = command.steps
        reason = f"for {command.steps} steps" if command.steps else f"until {command.until}" if command.until else ""
        self.events.append(Stepping(False, self.step, reason, self.breakpoints))

    def count_tokens(self, query_id: str, prompt: Prompt) -> None:
        self.commands.append(("count", query_id))
        self.events.append(TokenCount(query_id, self._count(prompt)))

    def count_messages(self, query_id: str, prompt: ChatPrompt) -> None:
        self.commands.append(("count messages", query_id))
        bare = replace(prompt, messages=(Message("user", ""),))
        contents = tuple(len(tokens(m.content)) for m in prompt.messages)
        self.events.append(MessageCounts(query_id, self._count(prompt), self._count(bare), contents))

    def drain(self) -> list[Event]:
        if self.rate and self.alive:
            now = time.monotonic()
            steps = int((now - self._last) * self.rate)
            self._last += steps / self.rate
            self.run(steps)
        found, self.events = self.events, []
        return found

    def seconds_since_heartbeat(self) -> float:
        return self.silence

    def restart(self, config: EngineConfig | None = None) -> None:
        self.config = config or self.config
        self.running.clear()
        self.start()

    def close(self) -> None:
        self.alive = False

    # --- what a test makes happen -----------------------------------------------------------------------------------

    def become_ready(self) -> None:
        self.events.append(
            Ready(
                replace(MODEL, draft=self.draft, context_length=self.context),
                self.options(),
                self.num_blocks,
                self.context,
            )
        )

    def die(self, message: str = "the engine was killed by SIGKILL", *, restartable: bool = True) -> None:
        self.alive = False
        self.running.clear()
        self.events.append(EngineDied(message, restartable))

    def run(self, steps: int = 1) -> None:
        for _ in range(steps):
            self._step()

    def finish_all(self) -> None:
        while self.running:
            self._step()

    def options(self) -> tuple[OptionState, ...]:
        states = []
        for f in fields(EngineConfig):
            value = getattr(self.config, f.name)
            requested = ("on" if value else "off") if isinstance(value, bool) else str(value)
            effective, reason = requested, ""
            if f.name == "num_kv_blocks":
                effective, reason = str(self.num_blocks), "a quarter of the free memory"
            if f.name == "draft":
                effective, reason = self.draft or "none", "" if self.draft else "this model has none that comes with it"
            if f.name == "speculation":
                effective, reason = self.drafting, "there is no draft model: start with --draft, or choose ngram"
                reason = reason if self.drafting != requested == "auto" and not self.draft else ""
            if f.name == "kernels" and requested == "auto":
                effective, reason = "mlx", "the fused operations agree with the reference on this device"
            if f.name == "attention" and requested == "auto":
                effective, reason = "flash", "MLX's kernel, by what kernels says"
            kernels = self.kernels if f.name == "kernels" else ()
            states.append(OptionState(f.name, requested, effective, reason, f.metadata["live"], kernels))
        return tuple(states)

    @property
    def drafting(self) -> str:
        """Who drafts, whatever is asked for: a draft model only where there is one."""
        asked = self.config.speculation
        if asked in ("off", "ngram"):
            return asked
        return "draft" if self.draft else "off"

    def _count(self, prompt: Prompt) -> int:
        if isinstance(prompt, TokenPrompt):
            return len(prompt.token_ids)
        assert isinstance(prompt, ChatPrompt)
        return sum(len(tokens(m.content)) + 5 for m in prompt.messages) + 3

    def _finish(self, request: Running, reason: FinishReason) -> None:
        seconds = self.step_seconds
        timings = Timings(0.0, 3 * seconds, (3 + request.output) * seconds, request.prompt, request.output)
        self.events.append(Finished(request.command.request_id, reason, timings))

    def _seconds(self) -> float:
        factors = (self.slower.get(f"{f.name}={getattr(self.config, f.name)}", 1.0) for f in fields(EngineConfig))
        return self.step_seconds * math.prod(factors)

    def _block_changes(self) -> tuple[BlockChange, ...]:
        """Blocks of the requests that run: the first one shared by all whose prompts have a whole block."""
        self.tables = {name: table for name, table in self.tables.items() if name in self.running}
        for name, request in self.running.items():
            table = self.tables.setdefault(name, [])
            held = {block for each in self.tables.values() for block in each}
            free = [block for block in range(1, self.num_blocks) if block not in held]
            while len(table) < request.blocks:
                shared = not free or (not table and request.prompt > 16)
                table.append(0 if shared else free.pop(0))
        now = {}
        for block in range(self.num_blocks):
            holders = tuple(name for name, table in self.tables.items() if block in table)
            index = self.tables[holders[0]].index(block) if holders else 0
            full = all(self.running[name].computed >= 16 * (index + 1) for name in holders)
            content = f"{block:08x}" if full and (holders or block in self.known) else ""
            now[block] = BlockChange(block, holders, index, content)
        changed = tuple(now[block] for block in now if self.known.get(block, BlockChange(block, ())) != now[block])
        self.known |= {change.block: change for change in changed}
        return changed

    def _step(self) -> None:
        """Decodes first, then prefill with what the budget leaves; one record."""
        if not self.running or self.left == 0:
            return
        self.step += 1
        self.left = None if self.left is None else self.left - 1
        budget = self.config.max_num_batched_tokens
        scheduled: list[Scheduled] = []
        unscheduled: list[Unscheduled] = []
        finished: list[tuple[str, FinishReason]] = []
        verified: list[Verified] = []
        config = replace(self.config, speculation=self.drafting)
        depth = config.num_speculative_tokens if config.speculation != "off" else 0
        decoding = any(r.computed >= r.prompt for r in self.running.values())
        ordered = sorted(self.running.values(), key=lambda r: r.computed < r.prompt)
        for place, request in enumerate(ordered):
            id, session = request.command.request_id, request.command.session
            missing = request.prompt - request.computed
            if place >= self.config.max_num_seqs:
                unscheduled.append(Unscheduled(id, session, WaitReason.BATCH_FULL, 1))
                continue
            given = min(budget, max(missing, 1))
            if not given:
                unscheduled.append(Unscheduled(id, session, WaitReason.BUDGET, missing))
                continue
            budget -= given
            samples = given >= missing
            most = min(request.command.params.max_tokens or len(request.answer), len(request.answer))
            most = min(most, self.context - request.prompt)
            drafts = min(depth, budget, most - request.output - 1) if missing <= 0 else 0
            budget -= drafts
            scheduled.append(Scheduled(id, session, given + drafts, request.computed, missing > 0, samples, drafts))
            right = accepted(request.output, drafts)
            request.computed += given + right
            if drafts:
                verified.append(Verified(id, session, drafts, right, min(drafts, right + 1), right + 1))
            for token in range(right + 1) if samples and request.output < most else ():
                text = request.answer[request.output]
                self.events.append(Delta(id, text, (request.output,), drafted=token < right))
                request.output += 1
            if request.output >= most:
                finished.append((id, FinishReason.STOP))
        for id, reason in finished:
            self._finish(self.running.pop(id), reason)
        used = sum(r.blocks for r in self.running.values())
        changed = self._block_changes()
        rows = tuple(
            RequestRow(
                r.command.request_id, r.command.session,
                RequestState.RUNNING if r.computed else RequestState.WAITING,
                r.prompt, r.output, r.computed, r.blocks, 0,
            )
            for r in self.running.values()
        )  # fmt: skip
        self.events.append(
            StepRecord(
                self.step, self.step * self.step_seconds, tuple(scheduled), tuple(unscheduled), (), tuple(finished),
                rows,
                BlockCounts(self.num_blocks, used, self.num_blocks - used),
                PhaseTimes(0.001, 0.001, self._seconds() - 0.004, 0.001, 0.001, 0.003 if verified else 0.0), config,
                changed_blocks=changed, verified=tuple(verified),
                speculation=_decided(config) if depth and decoding else None,
            )
        )  # fmt: skip
        if self.left == 0:
            self.events.append(Stepping(True, self.step, "the steps asked for are done", self.breakpoints))
