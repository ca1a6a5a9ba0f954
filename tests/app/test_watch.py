"""Restarts of a dead engine: at once at first, then more and more slowly, and never without end."""

from __future__ import annotations

import pytest

from app.watch import EngineWatch, Phase
from inference.errors import EngineError
from inference.protocol import EngineConfig, EngineDied, Heartbeat, LoadProgress
from tests.app.fake_engine import FakeEngine


def make(engine: FakeEngine) -> EngineWatch:
    return EngineWatch(engine, EngineConfig(), spawn=lambda work: work())


def drain(watch: EngineWatch, engine: FakeEngine, now: float) -> None:
    for event in engine.drain():
        watch.on_event(event, now)
    watch.tick(now)


def test_the_wait_doubles_with_every_death_up_to_a_limit() -> None:
    engine = FakeEngine(auto_ready=False)
    watch = make(engine)
    watch.start()
    now, waits = 0.0, []
    for _ in range(9):
        engine.die()
        drain(watch, engine, now)
        died = now
        while watch.phase is Phase.DEAD:
            now += 0.1
            watch.tick(now)
        waits.append(now - died)
    assert waits == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30, 30], abs=0.11)


def test_an_engine_that_ran_for_long_is_forgiven() -> None:
    engine = FakeEngine()
    watch = make(engine)
    watch.start()
    drain(watch, engine, 0.0)
    for now in (100.0, 300.0):
        engine.die()
        drain(watch, engine, now)
        watch.tick(now + 0.6)
        drain(watch, engine, now + 0.7)
        assert watch.phase is Phase.READY


def test_loading_is_told_in_the_engine_s_own_words() -> None:
    watch = make(FakeEngine(auto_ready=False))
    watch.on_event(LoadProgress("reading the weights"), 0.0)
    assert watch.sentence(0.0).startswith("reading the weights")
    assert not watch.ready


def test_a_long_step_and_a_silent_process_are_told_apart() -> None:
    engine = FakeEngine()
    watch = make(engine)
    watch.start()
    drain(watch, engine, 0.0)
    watch.on_event(Heartbeat(5, 4.0), 1.0)
    assert (watch.phase, watch.sentence(1.0)) == (Phase.READY, "step has run 4 s")
    engine.silence = 9.0
    watch.tick(2.0)
    assert watch.phase is Phase.SILENT
    assert "no sign of life for 9 s" in watch.sentence(2.0)


def test_a_process_that_cannot_be_started_is_a_failure_and_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine()

    def fail(*_: object) -> None:
        raise EngineError("the engine process could not be started: no memory.")

    monkeypatch.setattr(engine, "start", fail)
    watch = make(engine)
    watch.start()
    assert watch.phase is Phase.FAILED
    watch.on_event(EngineDied("gone", restartable=True), 0.0)
    monkeypatch.setattr(engine, "restart", fail)
    watch.tick(1.0)
    assert watch.phase is Phase.FAILED
