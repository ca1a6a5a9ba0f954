"""The benchmark's arithmetic, on a pretend engine whose clock is known."""

import pytest

from inference.bench import measure as module
from inference.bench.measure import Spread, _gaps, measure
from inference.bench.workload import Workload
from inference.engine.engine import Engine
from inference.errors import RequestError
from inference.model.loader import load
from inference.protocol import (
    BlockCounts,
    Delta,
    EngineConfig,
    Finished,
    FinishReason,
    ModelInfo,
    PhaseTimes,
    Scheduled,
    StepRecord,
    Timings,
)
from tests.inference import tiny


class PretendEngine:
    """Each request is prefilled in one step of a second; then all decode together, half a second a step."""

    model_info = ModelInfo("pretend", "", "", 0, 0, 4096, 1, 100, 1, "none")

    def __init__(self, clock):
        self.clock, self.waiting, self.left = clock, [], {}

    def forget_prefixes(self):
        """It has none."""

    def submit(self, command):
        if len(command.prompt.token_ids) > 4000:
            return [Finished(command.request_id, FinishReason.ERROR, Timings(0, 0, 0, 0, 0), "too long")]
        self.waiting.append(command)
        return []

    @property
    def has_work(self):
        return bool(self.waiting or self.left)

    def step(self):
        if self.waiting:
            self.clock.now += 1.0
            request = self.waiting.pop(0)
            if request.params.max_tokens > 1:
                self.left[request.request_id] = request.params.max_tokens - 1
            return [Delta(request.request_id, "", (1,)), self._record([(request.request_id, 8, True)])]
        self.clock.now += 0.5
        names = list(self.left)
        self.left = {name: left - 1 for name, left in self.left.items() if left > 1}
        return [*(Delta(name, "", (1,)) for name in names), self._record([(name, 1, False) for name in names])]

    def _record(self, chunks):
        scheduled = tuple(Scheduled(name, name, n, 0, prefill, True) for name, n, prefill in chunks)
        phases = PhaseTimes(compute=0.25)
        return StepRecord(0, 0.0, scheduled, (), (), (), (), BlockCounts(1, 0, 1), phases, EngineConfig())


class Clock:
    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def engine(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return PretendEngine(clock)


def test_speeds_and_latencies_are_what_the_clock_says(engine):
    result = measure(engine, Workload(prompt_tokens=8, gen_tokens=5, concurrency=2), runs=2, avoid=())
    assert result.prefill_speed == Spread(8.0, 8.0, 8.0)  # 16 prompt tokens in 2 seconds
    assert result.decode_speed.median == 4.0  # 2 tokens every half second
    assert result.total_speed.median == 10 / 4.0
    assert result.ttft.median == 1.5  # the first waits 1 s, the second 2 s
    assert result.itl_p50.median == 0.5
    assert result.itl_p95.median == 1.5  # the first request waits for the other's prefill once
    assert result.steps == 6
    assert result.phases.compute == 0.25


def test_a_single_token_has_no_gap_and_no_decode(engine):
    result = measure(engine, Workload(8, 1, 1), runs=1, avoid=())
    assert (result.decode_speed.median, result.itl_p50.median) == (0.0, 0.0)


def test_a_refused_workload_is_an_error_not_a_figure(engine):
    with pytest.raises(RequestError, match="too long"):
        measure(engine, Workload(5000, 1, 1), runs=1, avoid=())


def test_prompts_are_reproducible_differ_from_each_other_and_avoid_what_they_should():
    work = Workload(50, 3, 4, seed=1)
    first, again = work.requests(20, {3, 4}), work.requests(20, {3, 4})
    assert first == again
    prompts = [request.prompt.token_ids for request in first]
    assert len(set(prompts)) == 4
    assert not {3, 4} & set().union(*prompts)
    assert all(request.params.ignore_eos and request.params.max_tokens == 3 for request in first)


def test_every_pass_computes_its_prompts(tmp_path):
    """The prefix cache has them from the second pass on, and the figures would be of something else."""
    engine = Engine(load(str(tiny.checkpoint(tmp_path))), EngineConfig(num_kv_blocks=64))
    records = []
    step = engine.step

    def watched():
        events = step()
        records.append(events[-1])
        return events

    engine.step = watched
    measure(engine, Workload(prompt_tokens=40, gen_tokens=3, concurrency=2), runs=3, avoid=())
    assert sum(record.prefill_tokens for record in records) == 3 * 2 * 40


def test_tokens_of_one_step_share_the_wait_for_it():
    assert _gaps([1.0, 1.5, 1.5, 2.0]) == [0.25, 0.25, 0.5]
    assert _gaps([1.0]) == []
