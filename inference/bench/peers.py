"""Other engines on the same weights and the same workload, in turns with ours, so that a ratio means something.

A peer is never a dependency: mlx_lm is used if it is installed, llama.cpp if its `llama-batched-bench` is on the path.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from inference.bench.gguf_export import export, file_for
from inference.bench.measure import Run, Spread
from inference.bench.workload import Workload
from inference.errors import ConfigError
from inference.llm import LLM
from inference.protocol import TokenPrompt


@dataclass(frozen=True, slots=True)
class PeerRun:
    """One pass of a peer over a workload, in tokens per second, all sessions together."""

    prefill_speed: float
    decode_speed: float


class Peer(Protocol):
    """An engine to be compared with."""

    name: str
    version: str

    def run(self, workload: Workload) -> PeerRun: ...


@dataclass(frozen=True, slots=True)
class Comparison:
    """A workload by a peer, and ours divided by the peer's in each pair of runs that followed each other."""

    peer: str
    version: str
    workload: Workload
    prefill_speed: Spread
    decode_speed: Spread
    prefill_ratio: Spread
    decode_ratio: Spread


def compared(
    peer: Peer, workload: Workload, ours: Callable[[], Run], *, runs: int, progress: Callable[[str], None]
) -> Comparison:
    """Run ours and the peer's in turns: what slows the machine down for a while then slows both down."""
    pairs = []
    for number in range(runs):
        progress(f"{peer.name}, {workload.concurrency} at once, run {number + 1} of {runs}, in turns with ours")
        pairs.append((ours(), peer.run(workload)))
    return Comparison(
        peer.name,
        peer.version,
        workload,
        Spread.of(theirs.prefill_speed for _, theirs in pairs),
        Spread.of(theirs.decode_speed for _, theirs in pairs),
        Spread.of(_ratio(own.prefill_speed, theirs.prefill_speed) for own, theirs in pairs),
        Spread.of(_ratio(own.decode_speed, theirs.decode_speed) for own, theirs in pairs),
    )


def _ratio(ours: float, theirs: float) -> float:
    """0 where there is nothing to divide by: answers of one token have no decode."""
    return ours / theirs if theirs else 0.0


class MlxLm:
    """mlx_lm's batch generation, in this process, on the same directory."""

    name = "mlx_lm"

    @staticmethod
    def missing() -> str:
        """What it needs and is not here, as a sentence; empty if nothing."""
        return "" if find_spec("mlx_lm") else "--compare mlx_lm needs the package: pip install mlx-lm"

    def __init__(self, llm: LLM, progress: Callable[[str], None]) -> None:
        import mlx_lm
        from mlx_lm.generate import batch_generate

        progress("loading the model in mlx_lm")
        self.version = str(mlx_lm.__version__)
        self._generate: Any = batch_generate
        loaded: Any = mlx_lm.load(llm.engine.model_info.path)
        self._model, self._tokenizer = loaded[0], loaded[1]
        self._tokenizer._eos_token_ids = {}  # as its own benchmark does, so that no answer ends early
        self._vocab_size = llm.engine.model_info.vocab_size
        self._avoid = sorted(llm.special_token_ids)

    def run(self, workload: Workload) -> PeerRun:
        requests = workload.requests(self._vocab_size, self._avoid)
        prompts = [list(r.prompt.token_ids) for r in requests if isinstance(r.prompt, TokenPrompt)]
        stats = self._generate(self._model, self._tokenizer, prompts, max_tokens=workload.gen_tokens).stats
        return PeerRun(stats.prompt_tps, stats.generation_tps)


class LlamaCpp:
    """llama.cpp's own benchmark of batches, on the same weights in its format, with as many threads as we have."""

    name = "llama.cpp"
    _PROGRAM = "llama-batched-bench"

    @classmethod
    def missing(cls) -> str:
        """What it needs and is not here, as a sentence; empty if nothing."""
        if shutil.which(cls._PROGRAM) is None:
            return f"--compare llama.cpp needs {cls._PROGRAM} on the path: build llama.cpp, or install it"
        return "" if find_spec("gguf") else "--compare llama.cpp converts the weights with a package: pip install gguf"

    def __init__(self, llm: LLM, progress: Callable[[str], None]) -> None:
        self._file: Path = file_for(Path(llm.engine.model_info.path))
        if not self._file.exists():
            progress(f"converting the weights for llama.cpp, into {self._file}")
            export(Path(llm.engine.model_info.path), self._file)
        said = _output([self._PROGRAM, "--version"])
        self.version = next((line for line in said.splitlines() if line.startswith("version")), "unknown version")
        self._threads = str(_threads())

    def run(self, workload: Workload) -> PeerRun:
        context = workload.concurrency * (workload.prompt_tokens + workload.gen_tokens)
        said = _output(
            [
                self._PROGRAM,
                *("-m", str(self._file), "-t", self._threads, "-tb", self._threads, "-c", str(context + 16)),
                *("-npp", str(workload.prompt_tokens), "-ntg", str(workload.gen_tokens)),
                *("-npl", str(workload.concurrency), "--output-format", "jsonl"),
            ]
        )
        for line in said.splitlines():
            if line.startswith("{") and '"speed_tg"' in line:
                found = json.loads(line)
                return PeerRun(found["speed_pp"], found["speed_tg"])
        raise ConfigError(f"{self._PROGRAM} printed no result: {said.strip().splitlines()[-1:]}")


PEERS: dict[str, type[MlxLm] | type[LlamaCpp]] = {peer.name: peer for peer in (MlxLm, LlamaCpp)}


def check_peers(names: Sequence[str]) -> None:
    """Raises ConfigError for an unknown peer and for one that is not here: before anything is measured in vain."""
    for name in names:
        if name not in PEERS:
            raise ConfigError(f"--compare knows {' and '.join(PEERS)}, not {name!r}")
        if missing := PEERS[name].missing():
            raise ConfigError(missing)


def open_peers(names: Sequence[str], llm: LLM, progress: Callable[[str], None]) -> list[Peer]:
    """Make ready peers that were checked."""
    return [PEERS[name](llm, progress) for name in names]


def _threads() -> int:
    import metal_kernels
    from inference.machine import core_count

    return metal_kernels.native.threads() if metal_kernels.native is not None else core_count()


def _output(command: Sequence[str]) -> str:
    """Everything that a command prints. Raises ConfigError if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        last = done.stdout.strip().splitlines()[-1:] or ["nothing"]
        raise ConfigError(f"{Path(command[0]).name} failed with {done.returncode}; the last it said: {last[0]}")
    return done.stdout
