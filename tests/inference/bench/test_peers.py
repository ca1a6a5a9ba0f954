"""Peers: taken in turns with ours, llama.cpp through a stand-in program and a real conversion of the weights."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
import pytest

from inference.bench import peers
from inference.bench.gguf_export import export, file_for
from inference.bench.measure import Run
from inference.bench.peers import LlamaCpp, MlxLm, PeerRun, check_peers, compared
from inference.bench.workload import Workload
from inference.errors import ConfigError
from inference.llm import LLM
from inference.protocol import PhaseTimes
from tests.inference import tiny

QUANTIZED = {"hidden_size": 128, "intermediate_size": 256, "quantization": {"bits": 4, "group_size": 64}}


def silent(what: str) -> None:
    pass


class PretendPeer:
    name, version = "pretend", "1"

    def __init__(self, log: list[str]) -> None:
        self.log, self.speeds = log, iter([10.0, 20.0, 40.0])

    def run(self, workload: Workload) -> PeerRun:
        self.log.append("theirs")
        speed = next(self.speeds)
        return PeerRun(speed, speed / 10)


def test_runs_alternate_and_ratios_are_of_neighbours() -> None:
    """When the machine becomes four times as fast in the middle, ratios stay what they are."""
    log: list[str] = []
    speeds = iter([30.0, 60.0, 120.0])

    def ours() -> Run:
        log.append("ours")
        speed = next(speeds)
        return Run(speed, speed / 5, 0, 0, 0, 0, 1, PhaseTimes())

    found = compared(PretendPeer(log), Workload(8, 4, 2), ours, runs=3, progress=silent)
    assert log == ["ours", "theirs"] * 3
    assert found.prefill_ratio.low == found.prefill_ratio.high == 3
    assert found.decode_ratio.low == found.decode_ratio.high == pytest.approx(6)
    assert (found.prefill_speed.low, found.prefill_speed.high) == (10, 40)


def test_mlx_lm_runs_the_same_workload(tmp_path: Path) -> None:
    llm = LLM(str(tiny.checkpoint(tmp_path, **QUANTIZED)))
    found = MlxLm(llm, silent).run(Workload(9, 5, 3))
    assert found.prefill_speed > 0
    assert found.decode_speed > 0


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `llama-batched-bench` that writes down how it is called and prints what the real one would."""
    program = tmp_path / "bin" / "llama-batched-bench"
    program.parent.mkdir()
    result = json.dumps({"pp": 8, "tg": 4, "speed_pp": 123.5, "speed_tg": 45.25})
    program.write_text(
        f"""#!/bin/sh
echo "$@" >> {tmp_path}/calls
[ $1 = --version ] && echo 'version: 42 (abc)' && exit 0
[ -e {tmp_path}/broken ] && echo 'no such model' && exit 3
echo 'llama_model_loader: noise'
echo '{result}'
"""
    )
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setenv("GLASSCHAT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_llama_cpp_gets_the_weights_the_workload_and_as_many_threads(stand_in: Path) -> None:
    peer = LlamaCpp(LLM(str(tiny.checkpoint(stand_in, **QUANTIZED))), silent)
    assert peer.run(Workload(8, 4, 3)) == PeerRun(123.5, 45.25)
    assert peer.version == "version: 42 (abc)"
    _, call = (stand_in / "calls").read_text().splitlines()
    for words in ("-npp 8", "-ntg 4", "-npl 3", f"-t {peers._threads()}"):
        assert words in call
    assert Path(call.split()[1]).exists()


def test_a_peer_that_fails_is_one_sentence(stand_in: Path) -> None:
    peer = LlamaCpp(LLM(str(tiny.checkpoint(stand_in, **QUANTIZED))), silent)
    (stand_in / "broken").touch()
    with pytest.raises(ConfigError, match="failed with 3; the last it said: no such model"):
        peer.run(Workload(8, 4, 3))


def test_a_peer_that_is_not_here_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="llama-batched-bench"):
        check_peers(["llama.cpp"])
    with pytest.raises(ConfigError, match=r"mlx_lm and llama\.cpp"):
        check_peers(["vllm"])


def test_a_conversion_belongs_to_its_weights_alone(tmp_path: Path) -> None:
    """Directories are often called alike, and what is in them may change."""
    here, there = (tiny.checkpoint(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1)))
    assert here.name == there.name
    before = file_for(here)
    assert file_for(there) != before == file_for(here)
    (here / "config.json").touch()
    assert file_for(here) != before


def test_answers_of_one_token_have_no_decode_to_compare(tmp_path: Path) -> None:
    class Instant(PretendPeer):
        def run(self, workload: Workload) -> PeerRun:
            return PeerRun(10.0, 0.0)

    found = compared(
        Instant([]), Workload(8, 1, 1), lambda: Run(20.0, 0.0, 0, 0, 0, 0, 1, PhaseTimes()), runs=1, progress=silent
    )
    assert found.decode_ratio.median == 0
    assert found.prefill_ratio.median == 2


@pytest.mark.parametrize(("bits", "error"), [(4, 0.15), (8, 0.01), (16, 0.005)])
def test_conversion_keeps_every_weight_about_as_it_was(tmp_path: Path, bits: int, error: float) -> None:
    sizes = {"hidden_size": 128, "intermediate_size": 256, "tie_word_embeddings": False}
    quantization = {} if bits == 16 else {"quantization": {"bits": bits, "group_size": 64}}
    folder = tiny.checkpoint(tmp_path, **sizes, **quantization)
    export(folder, tmp_path / "out.gguf")
    reader = gguf.GGUFReader(tmp_path / "out.gguf")
    found = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    assert len(found) == 2 * (7 + 3 + 2) + 3
    original = mx.load(str(tiny.checkpoint(tmp_path, **sizes) / "model.safetensors"))
    assert isinstance(original, dict)
    for ours, theirs in (
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("lm_head.weight", "output.weight"),
        ("model.layers.1.self_attn.k_proj.weight", "blk.1.attn_k.weight"),
        ("model.layers.1.self_attn.k_proj.bias", "blk.1.attn_k.bias"),
        ("model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight"),
        ("model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight"),
    ):
        wanted = np.array(original[ours])
        assert found[theirs].shape == wanted.shape
        assert np.sqrt(np.mean((found[theirs] - wanted) ** 2) / np.mean(wanted**2)) < error
