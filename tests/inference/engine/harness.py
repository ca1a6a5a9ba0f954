"""Running an engine to the end of its work while checking, after every step, what must hold at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, Qwen2ForCausalLM

from inference.engine.engine import Engine
from inference.model.loader import LoadedModel, load
from inference.protocol import (
    BlockChange,
    Configured,
    Delta,
    EngineConfig,
    Event,
    Finished,
    FinishReason,
    SamplingParams,
    Started,
    StepRecord,
    Submit,
    TokenLogprob,
    TokenPrompt,
)

GREEDY = SamplingParams(temperature=0, ignore_eos=True)


@cache
def loaded(folder: Path) -> LoadedModel:
    """A checkpoint, loaded once for all tests: engines share weights but no state."""
    return load(str(folder))


def engine(folder: Path, draft: Path | None = None, **options: Any) -> Engine:
    config = EngineConfig(**({"num_kv_blocks": 64, "block_size": 4} | options))
    made = Engine(loaded(folder), config, draft and loaded(draft))
    made.configure({"kernels": config.kernels})  # an earlier test may have left others in the shared model
    return made


@cache
def _reference_model(folder: Path) -> Qwen2ForCausalLM:
    torch.set_num_threads(1)
    model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None  # it would fill in what a caller leaves out
    return model


@cache
def reference_tokens(folder: Path, prompt: tuple[int, ...], count: int) -> tuple[int, ...]:
    """What transformers generates greedily from the same weights in float32, whatever the end-of-text tokens."""
    config = GenerationConfig(do_sample=False, max_new_tokens=count, eos_token_id=None, pad_token_id=0)
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        # The mask is given, or transformers would take token 0 of a prompt for padding.
        out = _reference_model(folder).generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return tuple(out[0, len(prompt) :].tolist())


@dataclass
class Outcome:
    """All that an engine said about one request."""

    started: Started | None = None
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finished: Finished | None = None

    @property
    def reason(self) -> FinishReason | None:
        return None if self.finished is None else self.finished.reason


@dataclass
class Run:
    """Drives an engine by hand and keeps what comes out of it."""

    engine: Engine
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    records: list[StepRecord] = field(default_factory=list)
    configured: list[Configured] = field(default_factory=list)
    blocks: dict[int, BlockChange] = field(default_factory=dict)
    """As the records tell: what someone who only reads those knows of the pool."""

    def submit(
        self, request_id: str, prompt: Sequence[int], params: SamplingParams = GREEDY, *, priority: int = 0
    ) -> Outcome:
        outcome = self.outcomes[request_id] = Outcome()
        command = Submit(request_id, f"session of {request_id}", TokenPrompt(tuple(prompt)), params, priority)
        self.take(self.engine.submit(command))
        return outcome

    def abort(self, request_id: str) -> None:
        self.take(self.engine.abort(request_id))

    def configure(self, **changes: Any) -> Configured:
        self.take(self.engine.configure(changes))
        return self.configured[-1]

    def step(self) -> StepRecord:
        events = self.engine.step()
        assert isinstance(events[-1], StepRecord)
        assert sum(isinstance(event, StepRecord) for event in events) == 1
        self.take(events)
        self.check()
        return self.records[-1]

    def finish(self, at: Mapping[int, Iterable[Callable[[], object]]] | None = None) -> Run:
        """Step until nothing is left; before the i-th step from now do what `at[i]` lists."""
        pending = {i: list(actions) for i, actions in (at or {}).items()}
        for i in range(20_000):
            for action in pending.pop(i, []):
                action()
            if self.engine.has_work:
                self.step()
            elif not pending:
                break
        assert not self.engine.has_work
        assert not pending
        assert self.engine._scheduler.blocks.used == 0
        for request_id, outcome in self.outcomes.items():
            assert outcome.finished is not None, f"{request_id} never ended"
        return self

    def take(self, events: Iterable[Event]) -> None:
        for event in events:
            match event:
                case StepRecord():
                    self.records.append(event)
                case Configured():
                    self.configured.append(event)
                case Started(request_id=request_id):
                    assert self.outcomes[request_id].started is None
                    self.outcomes[request_id].started = event
                case Delta(request_id=request_id):
                    outcome = self.outcomes[request_id]
                    assert outcome.started is not None
                    assert outcome.finished is None, f"{request_id} went on after its end"
                    outcome.text += event.text
                    outcome.token_ids += event.token_ids
                    outcome.logprobs += event.logprobs
                case Finished(request_id=request_id):
                    assert self.outcomes[request_id].finished is None, f"{request_id} ended twice"
                    self.outcomes[request_id].finished = event

    def check(self) -> None:
        self.engine._scheduler.check()
        record = self.records[-1]
        blocks = record.blocks
        assert blocks.free + blocks.used == blocks.total
        held = sum(row.blocks for row in record.requests)
        assert blocks.used <= held, "a shared block is used once and held often"
        # What was shared while the prefix cache was on stays so until its holders end.
        assert blocks.used == held or any(known.config.enable_prefix_caching for known in self.records)
        assert 0 <= blocks.cached <= blocks.free
        self.blocks |= {change.block: change for change in record.changed_blocks}
        assert sum(bool(known.holders) for known in self.blocks.values()) == blocks.used
        assert sum(known.cached for known in self.blocks.values()) == blocks.cached
        for request in self.engine._scheduler:
            for index, block in enumerate(request.block_table):
                assert request.request_id in self.blocks[block].holders
                assert self.blocks[block].index == index
        assert record.step == len(self.records)
        live = {r for r, o in self.outcomes.items() if o.started is not None and o.finished is None}
        assert {row.request_id for row in record.requests} == live
        for request_id, reason in record.finished:
            assert self.outcomes[request_id].reason == reason
