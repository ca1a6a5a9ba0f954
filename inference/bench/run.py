"""The benchmark as a whole: load the model, warm up, measure each workload, report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inference.bench.measure import Result, measure
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

    def as_json(self) -> dict[str, object]:
        return as_json(self.model, self.options, self.runs, self.results)

    def as_table(self) -> str:
        return as_table(self.model, self.options, self.runs, self.results)


def bench(
    model: str,
    config: EngineConfig,
    *,
    prompt_tokens: int,
    gen_tokens: int,
    concurrency: Sequence[int],
    runs: int,
    seed: int,
    progress: Callable[[str], None],
) -> Report:
    """Measure one workload for each number of concurrent sessions. `progress` gets a phrase as each begins."""
    progress(f"loading {model}")
    llm = LLM(model, config)
    engine, avoid = llm.engine, sorted(llm.special_token_ids)
    # Compiles kernels and touches the weights, so that no measured run pays for it.
    measure(engine, Workload(min(prompt_tokens, 16), 2, 1, seed), runs=1, avoid=avoid)
    results = []
    for sessions in concurrency:
        progress(
            f"measuring {sessions} session{'s' * (sessions > 1)}, {prompt_tokens} + {gen_tokens} tokens, {runs} runs"
        )
        results.append(measure(engine, Workload(prompt_tokens, gen_tokens, sessions, seed), runs=runs, avoid=avoid))
    return Report(engine.model_info, engine.options, runs, tuple(results))
