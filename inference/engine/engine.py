"""The step loop: requests in, one batch per step through the model, events out.

All that happens to a request happens here, in one thread, in one of four methods: `submit`, `abort`, `configure` and
`step`. Each returns its events; nothing is called back.
"""

from __future__ import annotations

import secrets
import sys
import time
import traceback
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import mlx.core as mx

from inference.engine.batch import Batch, build_batch
from inference.engine.clock import Clock
from inference.engine.explain import PrefixHistory
from inference.engine.failures import failure, refused, sentence
from inference.engine.generation import Generation, Vocabulary
from inference.engine.kv_pool import check_change, choose_size
from inference.engine.options import Options, Settled, settled
from inference.engine.prompts import check_params, encode_prompt
from inference.engine.recorder import Recorder
from inference.engine.runner import Runner
from inference.engine.speculator import Speculator
from inference.engine.trial import Trial
from inference.errors import ConfigError
from inference.model.loader import LoadedModel
from inference.ops.attention import spelled
from inference.ops.kv_store import KVFormat
from inference.ops.proof import refuse, trusted
from inference.ops.table import OpTable
from inference.protocol import (
    Configured,
    CountMessages,
    CountTokens,
    EngineConfig,
    Event,
    Finished,
    FinishReason,
    Message,
    MessageCounts,
    ModelInfo,
    OptionState,
    PhaseTimes,
    PrefixExplained,
    Ready,
    Recorded,
    RequestState,
    Started,
    StepRecord,
    Submit,
    TokenCount,
    Verified,
)
from inference.sampling.sampler import Sampled, accepted, choose, sample
from inference.scheduling.pace import Pace, Pacing
from inference.scheduling.plan import Chunk, Limits, Plan
from inference.scheduling.recording import Header
from inference.scheduling.request import Request
from inference.scheduling.scheduler import Scheduler
from inference.speculation.drafter import Drafter


class Engine:
    """A model that serves many requests in one continuous batch. Not thread-safe: one thread owns it and its arrays."""

    def __init__(self, loaded: LoadedModel, config: EngineConfig, draft: LoadedModel | None = None) -> None:
        """Allocates the KV pool. `draft` is a model that fits: see `speculation.fit`.

        Raises ConfigError if the pool does not fit in memory.
        """
        self.loaded = loaded
        kept = loaded.model.kv_format(config.kv_cache_dtype)
        described = self._described(loaded.info, kept)
        self.model_info: ModelInfo = replace(described, draft=draft.info.name if draft else "")
        self._tokenizer = loaded.tokenizer
        special = loaded.tokenizer.special_ids
        self._vocabulary = Vocabulary(
            lambda token_id: b"" if token_id in special else loaded.tokenizer.token_bytes(token_id), loaded.eos_ids
        )
        longest = loaded.info.context_length
        max_model_len = min(config.max_model_len or longest, longest)
        per_token = self.model_info.kv_bytes_per_token + (draft.info.kv_bytes_per_token if draft else 0)
        size = choose_size(config, per_token, max_model_len)
        self._runner = Runner(loaded.model, num_blocks=size.num_blocks, block_size=config.block_size, kept=kept)
        self._runner.ops = trusted(
            spelled(config.kernels, config.attention), self._runner.demands(config.activations, kept)
        )
        self._scheduler = Scheduler(
            Limits.of(config), num_blocks=size.num_blocks, block_size=config.block_size, max_model_len=max_model_len
        )
        self._options = Options(config, loaded, self.model_info, size, self._scheduler.capacity)
        self._scheduler.limits = Limits.of(self._options.in_force)
        self._live: dict[str, Generation] = {}
        self._trial = Trial()
        self.pace: Pacing = Pace()
        """What says how much prefill goes beside decodes."""
        self.speculator = Speculator(self._drafter(draft, vocab_size=loaded.info.vocab_size))
        self._verified: list[Verified] = []
        """What became of drafts in this step."""
        self._ended: list[tuple[str, FinishReason]] = []
        """Requests that ended since the last step record."""
        self._steps = 0
        self._recorder: Recorder | None = None
        self._prefixes = PrefixHistory(loaded.tokenizer.decode)

    # --- what there is ---

    @property
    def options(self) -> tuple[OptionState, ...]:
        return self._options.states()

    @property
    def steps(self) -> int:
        """Steps computed so far; the last one has this number."""
        return self._steps

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to do: live requests, or ends that no record has told yet."""
        return bool(self._live or self._ended)

    def _drafter(self, draft: LoadedModel | None, *, vocab_size: int) -> Drafter | None:
        if draft is None:
            return None
        blocks, size = self._scheduler.blocks.total, self._scheduler.block_size
        return Drafter(draft.model, num_blocks=blocks, block_size=size, vocab_size=vocab_size)

    def ready(self) -> Ready:
        return Ready(
            model=self.model_info,
            options=self.options,
            num_kv_blocks=self._scheduler.blocks.total,
            max_model_len=self._scheduler.capacity,
        )

    # --- commands ---

    def submit(self, command: Submit, output_ids: Sequence[int] = ()) -> list[Event]:
        """Queue a request: `Started`, or for one that can never be served `Finished` with a sentence saying why.

        `output_ids` is the beginning of its answer, made elsewhere: it goes on after that. Raises ValueError if a live
        request has the same id: its answers could not be told apart.
        """
        if command.request_id in self._live:
            raise ValueError(f"there is a live request {command.request_id!r} already")
        arrived = time.monotonic()
        vocab_size = self.model_info.vocab_size
        try:
            check_params(command.params, vocab_size)
            prompt = encode_prompt(command.prompt, self._tokenizer, vocab_size)
        except Exception as error:
            return [refused(command, 0, sentence(error))]
        prompt_ids = list(prompt.token_ids)
        if (refusal := self._scheduler.refusal(len(prompt_ids))) is not None:
            return [refused(command, len(prompt_ids), refusal)]
        params = command.params
        most = self._scheduler.capacity
        longest = most if params.max_tokens is None else min(len(prompt_ids) + params.max_tokens, most)
        seed = secrets.randbits(63) if params.seed is None else params.seed
        request = Request(command.request_id, command.session, prompt_ids, longest, command.priority)
        generation = Generation(request, params, seed, self._vocabulary, arrived, prompt.opening)
        generation.bring(output_ids)
        self._live[command.request_id] = generation
        self._prefixes.add(request)
        if self._trial.active:
            self._trial.park(generation)
        else:
            self._scheduler.add(request)
        if self._recorder:
            self._recorder.arrival(request, params, seed)
        return [Started(command.request_id, len(prompt_ids), seed)]

    def abort(self, request_id: str) -> list[Event]:
        """End a request now: its blocks are free before the next step. An unknown id is no error: it may just have
        ended."""
        generation = self._live.get(request_id)
        if generation is None:
            return []
        if self._recorder:
            self._recorder.departure(request_id)
        return self._end(generation, FinishReason.ABORTED)

    def configure(self, changes: Mapping[str, Any]) -> list[Event]:
        """Change options: live ones from the next step on, the others are kept for a restart. All changes or none."""
        try:
            requested = self._options.check(changes)
            kept = self._runner.format(requested.kv_cache_dtype)
            ops = trusted(
                spelled(requested.kernels, requested.attention), self._runner.demands(requested.activations, kept)
            )
            self._keep(kept)
        except ConfigError as error:
            return [Configured(self.options, self._steps + 1, str(error))]
        self._use(ops)
        before = self._options.in_force
        if "speculation" in changes:
            self.speculator.problem = ""
        self._options.request(requested, settled(requested, ops, self.model_info, self._runner.kept))
        now = self._options.in_force
        if (now.kernels, now.activations, now.kv_cache_dtype) != (
            before.kernels,
            before.activations,
            before.kv_cache_dtype,
        ):
            self.pace.forget()
            self.speculator.forget()
        if now.activations != before.activations:
            self._scheduler.forget_prefixes()
        if now.kv_layout != before.kv_layout:
            self._scheduler.preempt_all()
        self._scheduler.limits = Limits.of(now)
        running = sum(row.state is RequestState.RUNNING for row in self._scheduler.rows())
        crowded = running > requested.max_num_seqs
        self._options.explain("max_num_seqs", f"{running} requests run already and are not stopped" if crowded else "")
        if self._recorder:
            self._recorder.change(self._options.in_force)
        return [Configured(self.options, self._steps + 1)]

    def _use(self, ops: OpTable) -> None:
        """Compute by another table, and so do drafts."""
        self._runner.ops = ops
        if self.speculator.drafter:
            self.speculator.drafter.model.use(ops)

    def _keep(self, kept: KVFormat) -> None:
        """Keep keys and values so from the next step on. All that is in the cache is computed again.

        Raises ConfigError if there is no memory for the new pool.
        """
        if kept == self._runner.kept:
            return
        before, described = self.model_info.kv_bytes_per_token, self._described(self.model_info, kept)
        check_change(self._scheduler.blocks.total * self._scheduler.block_size, before, described.kv_bytes_per_token)
        self._scheduler.preempt_all()
        self._runner.keep(kept)
        self.model_info = described

    def _described(self, info: ModelInfo, kept: KVFormat) -> ModelInfo:
        return replace(info, kv_bytes_per_token=kept.bytes_of(self.loaded.config.kv_elements_per_token))

    def count_tokens(self, command: CountTokens) -> list[Event]:
        """How long a prompt is; with a sentence instead if it can't be tokenized."""
        try:
            prompt = encode_prompt(command.prompt, self._tokenizer, self.model_info.vocab_size)
        except Exception as error:
            return [TokenCount(command.query_id, 0, sentence(error))]
        return [TokenCount(command.query_id, len(prompt.token_ids))]

    def count_messages(self, command: CountMessages) -> list[Event]:
        """How long a chat is, and each message's text in it; with a sentence instead if it can't be tokenized.

        In time that grows with its length, however many messages it has: it is read twice.
        """
        bare = replace(command.prompt, messages=(Message("user", ""),))
        try:
            whole, around = (
                len(encode_prompt(prompt, self._tokenizer, self.model_info.vocab_size).token_ids)
                for prompt in (command.prompt, bare)
            )
            contents = tuple(len(self._tokenizer.encode(message.content)) for message in command.prompt.messages)
        except Exception as error:
            return [MessageCounts(command.query_id, 0, error=sentence(error))]
        return [MessageCounts(command.query_id, whole, around, contents)]

    def record(self, path: str) -> list[Event]:
        """Write what happens to a file from now on, or with an empty path no longer.

        So that it holds all that decides what follows, it begins with an empty KV cache: live requests are written down
        with their answers so far, and computed again from their start.
        """
        if self._trial.active and path:
            return [Recorded(path, False, "a step has failed, and its requests are being tried: record when they are")]
        ended = self._end_recording("")
        if not path:
            return ended
        scheduler = self._scheduler
        header = Header(
            self.model_info.name,
            self._options.in_force,
            scheduler.blocks.total,
            scheduler.block_size,
            scheduler.max_model_len,
        )
        try:
            self._recorder = Recorder(Path(path), header)
        except ConfigError as error:
            return [*ended, Recorded(path, False, str(error))]
        again = self._begin_anew()
        for generation in again:
            self._recorder.arrival(generation.request, generation.sampling.params, generation.sampling.seed)
        computed = f"{len(again)} answer{'s' * (len(again) != 1)} under way: computed again from the start"
        return [*ended, Recorded(path, True, computed if again else "")]

    def _begin_anew(self) -> list[Generation]:
        """Everyone out of the scheduler and, in the order of their arrival, into it again, with nothing computed."""
        everyone = sorted(self._live.values(), key=lambda generation: generation.arrived)
        for generation in everyone:
            self._take_out(generation)
        self._scheduler.begin_anew()
        for generation in everyone:
            self._scheduler.add(generation.request)
        return everyone

    def _end_recording(self, message: str) -> list[Event]:
        if self._recorder is None:
            return []
        recorder, self._recorder = self._recorder, None
        recorder.close()
        return [Recorded(str(recorder.path), False, message or recorder.problem)]

    def forget_prefixes(self) -> None:
        """Begin with an empty prefix cache."""
        self._scheduler.forget_prefixes()

    def explain_prefix(self, session: str) -> list[Event]:
        """Why the latest request of a session found no more in the prefix cache."""
        enabled = self._options.in_force.enable_prefix_caching
        return [PrefixExplained(session, self._prefixes.explain(session, self._scheduler.block_size, enabled))]

    # --- the step ---

    def step(self) -> list[Event]:
        """Compute one batch. Returns the events of its requests, then the step's record."""
        self._steps += 1
        clock = Clock()
        if self._trial.active and not self._scheduler.has_work:
            for generation in self._trial.next():
                self._scheduler.add(generation.request)
        scheduler = self._scheduler
        config, decoding = self._options.in_force, scheduler.decoding
        wanted = self.speculator.offer(decoding, config)
        pace = None
        if scheduler.prefill_is_due:
            pace = self.pace.prefill(config.decode_slowdown, decoding, scheduler.prefilling)
        plan = scheduler.schedule(pace)
        clock.lap("schedule")
        for chunk in plan.chunks:
            self._live[chunk.request.request_id].computed(clock.began)
        failed = False
        try:
            batch, sampled = self._compute(plan, clock)
        except Exception as error:
            failed = True
            events = self._recover(plan, error)
        except BaseException:  # Ctrl+C in a notebook: the books say computed, but the cache doesn't hold it
            self._requeue(plan)
            raise
        else:
            events = self._accept(batch, sampled)
        clock.lap("output")
        record = StepRecord(
            step=self._steps,
            time=time.monotonic(),
            scheduled=tuple(chunk.describe() for chunk in plan.chunks),
            unscheduled=plan.unscheduled,
            preempted=plan.preempted,
            finished=tuple(self._ended),
            requests=(*self._scheduler.rows(), *(generation.request.row() for generation in self._trial)),
            blocks=self._scheduler.blocks,
            phases=PhaseTimes(**clock.laps),
            config=self._options.in_force,
            lookups=plan.lookups,
            changed_blocks=self._scheduler.block_changes(),
            pace=pace,
            verified=tuple(self._verified),
            speculation=self.speculator.report(),
        )
        self._ended.clear()
        self._verified.clear()
        if not failed:
            self.pace.observe(record.scheduled, record.phases.total)
            self.speculator.observe(record)
        if self.speculator.problem and self._options.in_force.speculation == "draft":
            self._options.overrule("speculation", Settled("off", self.speculator.problem))
            events.append(Configured(self.options, self._steps + 1))
        if self._recorder:
            self._recorder.step(record, wanted, failed=failed)
            if failed or self._recorder.problem:
                events += self._end_recording("a step could not be computed" if failed else "")
        return [*events, record]

    def _compute(self, plan: Plan, clock: Clock) -> tuple[Batch | None, list[Sampled]]:
        self.speculator.draft(plan, self._options.in_force, self._draft)
        clock.lap("draft")
        if not plan.chunks:
            return None, []
        batch = build_batch(plan.chunks, self._scheduler.block_size)
        clock.lap("build")
        logits = self._runner.compute(batch)
        clock.lap("compute")
        if logits is None:
            return batch, []
        # A draft is verified by sampling what follows the tokens before it.
        states = [
            self._live[chunk.request.request_id].sampling.ahead(chunk.request.draft_ids[:ahead])
            for chunk in batch.sampling
            for ahead in range(chunk.drafts + 1)
        ]
        sampled = sample(logits, states, self._runner.ops)
        clock.lap("sample")
        return batch, sampled

    def _draft(self, logits: mx.array, keys: Sequence[Hashable], drafted: Sequence[Sequence[int]]) -> list[int]:
        """Sample a draft model's next tokens just as the model's own would be: with the same numbers drawn."""
        states = [self._live[str(key)].sampling.ahead(tokens) for key, tokens in zip(keys, drafted, strict=True)]
        chosen = choose(logits, states, self._runner.ops)
        return [max(0, token) for token in chosen]  # what is not a number drafts anything

    def _accept(self, batch: Batch | None, sampled: list[Sampled]) -> list[Event]:
        """Give each request its tokens, and end those that are done."""
        events: list[Event] = []
        rows = iter(sampled)
        for chunk in batch.sampling if batch else ():
            events += self._take(chunk, accepted(chunk.request.draft_ids, list(islice(rows, chunk.drafts + 1))))
        return events

    def _take(self, chunk: Chunk, results: Sequence[Sampled]) -> list[Event]:
        """One request's tokens of this step."""
        events: list[Event] = []
        now = time.monotonic()
        generation, request, reason = self._live[chunk.request.request_id], chunk.request, None
        right = taken = 0
        for place, result in enumerate(results):
            if result.error:
                reason = FinishReason.ERROR
                if self._recorder:
                    self._recorder.output(generation.request_id, -1, reason)
                events += self._end(generation, reason, result.error)
                break
            drafted = place < chunk.drafts and result.token_id == request.draft_ids[place]
            right, taken = right + drafted, taken + 1
            self._scheduler.append(request, result.token_id)
            if (opening := generation.opening()) is not None:
                events.append(opening)
            delta, reason = generation.accept(result, now, drafted=drafted)
            if self._recorder:
                self._recorder.output(request.request_id, result.token_id, reason)
            events.append(delta)
            if reason is not None:
                events += self._end(generation, reason)
                break
        if chunk.drafts:
            judged = min(taken, chunk.drafts)
            self._verified.append(Verified(request.request_id, request.session, chunk.drafts, right, judged, taken))
        if reason is None:
            if chunk.drafts:
                self._scheduler.settle(request)
            if self._trial.active:
                self._take_out(generation)  # it can be computed: not the one that broke the batch
                self._trial.park(generation)
        return events

    def _end(self, generation: Generation, reason: FinishReason, message: str = "") -> list[Event]:
        """The one way in which a request leaves the engine."""
        del self._live[generation.request_id]
        if generation in self._trial:
            self._trial.remove(generation)
        else:
            self._scheduler.finish(generation.request)
        self._ended.append((generation.request_id, reason))
        rest = generation.cut_short()
        finished = Finished(generation.request_id, reason, generation.timings(time.monotonic()), message)
        return [finished] if rest is None else [rest, finished]

    # --- when a step fails ---

    def _recover(self, plan: Plan, error: Exception) -> list[Event]:
        """A batch of one: that request ends with an error. A larger one: its requests are tried one by one.

        Where a kernel of ours failed, no request did: all are computed anew, without that kernel.
        """
        traceback.print_exception(error, file=sys.stderr)
        if self._replace_kernels(error):
            self._requeue(plan, blame=False)
            return [Configured(self.options, self._steps + 1)]
        in_batch = self._requeue(plan)
        if len(in_batch) != 1:
            return []
        return self._end(in_batch[0], FinishReason.ERROR, failure(error))

    def _replace_kernels(self, error: Exception) -> bool:
        """Whether kernels of ours made a step fail; others are in force then."""
        asked = self._options.requested
        demands = self._runner.demands(asked.activations, self._runner.kept)
        if not refuse(error, self._runner.ops, demands):
            return False
        ops = trusted(spelled(asked.kernels, asked.attention), demands)
        self._use(ops)
        found = settled(asked, ops, self.model_info, self._runner.kept)
        for name in ("kernels", "attention"):
            self._options.overrule(name, found[name])
        self.pace.forget()
        self.speculator.forget()
        return True

    def _requeue(self, plan: Plan, *, blame: bool = True) -> list[Generation]:
        """Take all requests out of the scheduler, to be computed anew; return those of the batch.

        These are suspects now, unless none of them is to `blame`.
        """
        self._runner.reset()
        self.speculator.reset()
        self._scheduler.forget_prefixes()
        in_batch = [self._live[chunk.request.request_id] for chunk in plan.chunks]
        for generation in [self._live[request.request_id] for request in self._scheduler]:
            self._take_out(generation)
            if not (blame and generation in in_batch):
                self._trial.park(generation)
        if blame:
            self._trial.suspect(in_batch)
        return in_batch

    def _take_out(self, generation: Generation) -> None:
        """Out of the scheduler, with a fresh entry to go back in with."""
        entry = generation.request
        generation.requeue()
        self._scheduler.finish(entry)
