"""The benchmark as a whole: load the model, warm up, measure each workload, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from inference.bench.contexts import AtLength, Decoding, Mixed, check
from inference.bench.intrusion import SHIELDED, Intrusion, intrude
from inference.bench.limits import Efficiency, Limits, Work, measure_limits
from inference.bench.measure import Result, measure, run_once
from inference.bench.memory import Memory
from inference.bench.operations import StepTimes, take_apart
from inference.bench.peers import Comparison, check_peers, compared, open_peers
from inference.bench.report import as_json, as_table
from inference.bench.workload import Workload
from inference.llm import LLM
from inference.protocol import EngineConfig, ModelInfo, OptionState


@dataclass(frozen=True, slots=True)
class Report:
    model: ModelInfo
    options: tuple[OptionState, ...]
    runs: int
    results: tuple[Result, ...]
    limits: Limits
    efficiencies: tuple[Efficiency, ...]
    """One for each result."""
    steps: tuple[StepTimes, ...]
    """The last workload's steps taken apart: a decode and a piece of a prompt."""
    memory: Memory
    comparisons: tuple[Comparison, ...]
    """Of each workload with each peer, if any was asked for."""
    intrusions: tuple[Intrusion, ...]
    """A long prompt beside sessions that decode, with the option that shields them and without, if asked for."""
    lengths: tuple[AtLength, ...]
    """One session's decode at some lengths of its context, if asked for."""
    mixed: Mixed | None
    """A batch with contexts of many lengths, if asked for."""

    def as_json(self) -> dict[str, object]:
        return as_json(self)

    def as_table(self) -> str:
        return as_table(self)


def bench(
    model: str,
    config: EngineConfig,
    *,
    prompt_tokens: int,
    gen_tokens: int,
    concurrency: Sequence[int],
    runs: int,
    seed: int,
    peers: Sequence[str] = (),
    long_prompt: int | None = None,
    contexts: Sequence[int] = (),
    mixed: tuple[int, int] | None = None,
    progress: Callable[[str], None],
) -> Report:
    """Measure one workload for each number of concurrent sessions, and `peers` in turns with it.

    `contexts` are lengths at which one session's decode is measured, `mixed` the shortest and longest context of a
    batch. `progress` gets a phrase as each begins. Raises ConfigError for an unknown peer or one that is not here, and
    for a context that the model was not made for.
    """
    check_peers(peers)
    progress(f"loading {model}")
    llm = LLM(model, config)
    engine, avoid = llm.engine, sorted(llm.special_token_ids)
    if asked := [*contexts, *(mixed or ())]:
        check(llm.loaded.model, asked)
    # Compiles kernels and touches the weights, so that no measured run pays for it.
    measure(engine, Workload(min(prompt_tokens, 16), 2, 1, seed), runs=1, avoid=avoid)
    # First what may be refused, so that nothing is measured in vain.
    intrusions = [
        intrude(engine, long_prompt, slowdown, runs=runs, avoid=avoid, progress=progress)
        for slowdown in (SHIELDED, 0)
        if long_prompt
    ]
    results = []
    for sessions in concurrency:
        progress(
            f"measuring {sessions} session{'s' * (sessions > 1)}, {prompt_tokens} + {gen_tokens} tokens, {runs} runs"
        )
        results.append(measure(engine, Workload(prompt_tokens, gen_tokens, sessions, seed), runs=runs, avoid=avoid))
    memory = Memory.of(llm)  # before the probes and the peers, which take some of their own
    comparisons = [
        compared(
            peer,
            result.workload,
            partial(run_once, engine, result.workload, avoid),
            runs=runs,
            progress=progress,
        )
        for peer in open_peers(peers, llm, progress)
        for result in results
    ]
    in_force = {option.name: option.effective for option in engine.options}
    kept = llm.loaded.model.kv_format(in_force["kv_cache_dtype"])
    decoding = Decoding(llm.loaded.model, int(in_force["block_size"]), kept, runs, progress)
    lengths = decoding.at_lengths(contexts) if contexts else ()
    batch = decoding.mixed(*mixed) if mixed else None
    progress("measuring the machine's limits, and one step operation by operation")
    limits = measure_limits(in_force["activations"])
    work = Work.of(llm.loaded, llm.engine.model_info.kv_bytes_per_token)
    return Report(
        engine.model_info,
        engine.options,
        runs,
        tuple(results),
        limits,
        tuple(Efficiency.of(result, work, limits) for result in results),
        _steps(llm, results[-1].workload, in_force),
        memory,
        tuple(comparisons),
        tuple(intrusions),
        lengths,
        batch,
    )


def _steps(llm: LLM, workload: Workload, in_force: Mapping[str, str]) -> tuple[StepTimes, ...]:
    """A decode in the middle of its answers, and the first piece of a prompt."""
    budget, block_size = int(in_force["max_num_batched_tokens"]), int(in_force["block_size"])
    model = llm.loaded.model
    kept = model.kv_format(in_force["kv_cache_dtype"])
    sessions, context = workload.concurrency, workload.prompt_tokens + workload.gen_tokens // 2
    piece = min(workload.prompt_tokens, budget)
    plural = "s" * (sessions > 1)
    decode = f"a decode step of {sessions} session{plural} with {context} tokens each"
    return tuple(
        take_apart(model, title, queries, contexts, block_size=block_size, kept=kept, repeats=5)
        for title, queries, contexts in (
            (decode, (1,) * sessions, (context,) * sessions),
            (f"a prefill step of {piece} tokens", (piece,), (piece,)),
        )
    )
