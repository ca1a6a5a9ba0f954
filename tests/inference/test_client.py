"""The engine in a process of its own: answers, deaths, hangs and restarts, seen from the app's side."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inference.client import EngineClient
from inference.errors import EngineError
from inference.protocol import (
    ChatPrompt,
    Condition,
    Configured,
    Delta,
    EngineConfig,
    EngineDied,
    Event,
    Finished,
    FinishReason,
    Heartbeat,
    LoadProgress,
    Message,
    Ready,
    Resume,
    SamplingParams,
    SetBreakpoints,
    Started,
    Stepping,
    StepRecord,
    Submit,
    TextPrompt,
    TokenCount,
    TokenPrompt,
    Until,
)
from tests.inference import tiny

CONFIG = EngineConfig(num_kv_blocks=256)
ENDLESS = SamplingParams(temperature=0, ignore_eos=True)


@pytest.fixture(scope="module")
def folder(checkpoints: Path) -> Path:
    """A context long enough that a stream lasts for seconds."""
    return tiny.checkpoint(checkpoints, tie_word_embeddings=False, max_position_embeddings=4096)


@pytest.fixture
def client(folder: Path, tmp_path: Path) -> Iterator[EngineClient]:
    with EngineClient(str(folder), CONFIG, tmp_path / "engine.log") as started:
        yield started


class Listener:
    """Keeps all events of a client."""

    def __init__(self, client: EngineClient) -> None:
        self.client = client
        self.events: list[Event] = []

    def until(self, ready: Callable[[], bool], timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        while not ready():
            left = deadline - time.monotonic()
            assert left > 0, f"waited {timeout} s in vain; last: {self.events[-3:]}"
            self.client.wait(left)
            self.events += self.client.drain()

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def until_one(self, kind: type[Event], timeout: float = 30.0) -> Event:
        self.until(lambda: bool(self.of(kind)), timeout)
        return self.of(kind)[-1]

    def tokens(self, request_id: str) -> list[int]:
        return [t for e in self.of(Delta) if e.request_id == request_id for t in e.token_ids]

    def finished(self, request_id: str) -> Finished | None:
        return next((e for e in self.of(Finished) if e.request_id == request_id), None)


def submit(client: EngineClient, request_id: str, prompt: tuple[int, ...], params: SamplingParams = ENDLESS) -> None:
    client.submit(Submit(request_id, "s", TokenPrompt(prompt), params))


def wait_gone(pid: int, timeout: float = 3.0) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z":
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} lives on")


# --- normal life ---


def test_commands_are_answered_in_order(client: EngineClient) -> None:
    listener = Listener(client)
    client.submit(Submit("a", "s", TextPrompt("the cat"), SamplingParams(max_tokens=5, seed=1)))
    client.count_tokens("q", ChatPrompt((Message("user", "the cat"),)))
    client.configure({"max_num_batched_tokens": 7})
    client.configure({"max_num_batched_tokens": 0})
    listener.until(lambda: listener.finished("a") is not None and len(listener.of(Configured)) == 2)
    kinds = [type(event) for event in listener.events if not isinstance(event, Heartbeat)]
    assert kinds[0] is LoadProgress
    assert kinds.index(Ready) == kinds.count(LoadProgress)
    assert kinds.index(Started) < kinds.index(Delta) < kinds.index(Finished)
    assert len(listener.tokens("a")) == 5
    [count] = listener.of(TokenCount)
    assert count.num_tokens > 2
    good, bad = listener.of(Configured)
    assert good.error == ""
    assert "at least 1" in bad.error
    records = listener.of(StepRecord)
    assert [record.step for record in records] == list(range(1, len(records) + 1))


def test_an_abort_ends_a_stream_at_once(client: EngineClient) -> None:
    listener = Listener(client)
    submit(client, "a", (1, 2, 3))
    listener.until(lambda: len(listener.tokens("a")) > 3)
    asked = time.monotonic()
    client.abort("a")
    listener.until(lambda: listener.finished("a") is not None)
    assert time.monotonic() - asked < 1
    finished = listener.finished("a")
    assert finished is not None
    assert finished.reason is FinishReason.ABORTED
    listener.until(lambda: listener.of(StepRecord)[-1].blocks.used == 0)


def test_the_heart_beats_from_the_start(client: EngineClient) -> None:
    listener = Listener(client)
    listener.until(lambda: len(listener.of(Heartbeat)) >= 4)
    assert client.seconds_since_heartbeat() < 1
    submit(client, "a", (1, 2, 3))
    listener.until(lambda: any(beat.step > 0 for beat in listener.of(Heartbeat)))


def test_what_can_not_be_sent_is_the_callers_error(client: EngineClient) -> None:
    listener = Listener(client)
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        client.configure({"kernels": lambda: None})
    submit(client, "a", (1, 2), SamplingParams(max_tokens=2))
    listener.until(lambda: listener.finished("a") is not None)


def test_starting_does_not_wait(folder: Path) -> None:
    client = EngineClient(str(folder), CONFIG)
    assert not client.wait(0.01)
    assert client.drain() == []
    began = time.monotonic()
    client.start()
    submit(client, "a", (1, 2, 3), SamplingParams(max_tokens=3))
    assert time.monotonic() - began < 0.5
    with pytest.raises(EngineError, match="already started"):
        client.start()
    listener = Listener(client)
    listener.until(lambda: listener.finished("a") is not None)
    client.close()


def test_closing_ends_the_process_quietly(folder: Path) -> None:
    client = EngineClient(str(folder), CONFIG)
    client.start()
    listener = Listener(client)
    listener.until_one(Ready)
    submit(client, "a", (1, 2, 3))
    pid = client.pid
    assert pid is not None
    began = time.monotonic()
    client.close()
    client.close()
    assert time.monotonic() - began < 2
    wait_gone(pid)
    assert not any(isinstance(event, EngineDied) for event in client.drain())
    assert not client.alive
    with pytest.raises(EngineError, match="not running"):
        submit(client, "b", (1,))


def test_nothing_but_the_log_gets_what_the_process_prints(
    client: EngineClient, capfd: pytest.CaptureFixture[str]
) -> None:
    listener = Listener(client)
    listener.until_one(Ready)
    client._send("not a command")  # type: ignore[arg-type]
    submit(client, "a", (1, 2), SamplingParams(max_tokens=2))
    listener.until(lambda: listener.finished("a") is not None)
    assert client.log_path is not None
    assert "is not a command" in client.log_path.read_text()
    assert capfd.readouterr() == ("", "")


# --- death ---


def test_a_killed_engine_is_noticed_restarted_and_the_streams_go_on(client: EngineClient) -> None:
    """What the app does with four sessions: note the death, restart, and submit again with the text so far."""
    prompts = {f"stream {i}": (i + 1, 7, 9) for i in range(4)}
    listener = Listener(client)
    for name, prompt in prompts.items():
        submit(client, name, prompt)
    listener.until(lambda: all(len(listener.tokens(name)) > 5 for name in prompts))
    pid = client.pid
    assert pid is not None
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    died = listener.until_one(EngineDied, timeout=5)
    assert time.monotonic() - killed < 1
    assert isinstance(died, EngineDied)
    assert died.restartable
    assert "SIGKILL" in died.message
    submit(client, "too late", (1,))  # nobody is there, but the app need not know that yet

    shown = {name: tuple(listener.tokens(name)) for name in prompts}
    client.restart()
    for name, prompt in prompts.items():
        rest = SamplingParams(temperature=0, ignore_eos=True, max_tokens=10)
        submit(client, f"{name} again", prompt + shown[name], rest)
    listener.until(lambda: all(listener.finished(f"{name} again") for name in prompts))
    assert len(listener.of(EngineDied)) == 1
    for name, prompt in prompts.items():
        count = len(shown[name]) + 10
        submit(client, f"{name} whole", prompt, SamplingParams(temperature=0, ignore_eos=True, max_tokens=count))
    listener.until(lambda: all(listener.finished(f"{name} whole") for name in prompts))
    for name in prompts:
        assert [*shown[name], *listener.tokens(f"{name} again")] == listener.tokens(f"{name} whole")


def test_a_stopped_engine_is_seen_by_its_silence_and_can_still_be_closed(folder: Path) -> None:
    client = EngineClient(str(folder), CONFIG)
    client.start()
    listener = Listener(client)
    listener.until_one(Ready)
    pid = client.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    time.sleep(1.2)
    assert client.seconds_since_heartbeat() > 1
    assert client.alive
    began = time.monotonic()
    for i in range(50):  # no call waits for it, however much is sent
        submit(client, f"big {i}", tuple(range(300)) * 40)
    assert time.monotonic() - began < 0.5
    os.kill(pid, signal.SIGCONT)
    listener.until(lambda: client.seconds_since_heartbeat() < 0.6)
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < 2
    wait_gone(pid)


def test_a_broken_model_is_said_once_and_not_worth_a_restart(tmp_path: Path) -> None:
    with EngineClient(str(tmp_path / "nowhere"), CONFIG, tmp_path / "engine.log") as client:
        listener = Listener(client)
        died = listener.until_one(EngineDied)
        assert isinstance(died, EngineDied)
        assert not died.restartable
        assert "nowhere" in died.message
        while client.alive:
            time.sleep(0.01)
        time.sleep(0.2)
        assert not any(isinstance(event, EngineDied) for event in client.drain())


def test_bad_options_are_not_worth_a_restart_but_better_ones_are(folder: Path, tmp_path: Path) -> None:
    with EngineClient(str(folder), EngineConfig(kernels="fast"), tmp_path / "engine.log") as client:
        listener = Listener(client)
        died = listener.until_one(EngineDied)
        assert isinstance(died, EngineDied)
        assert (died.restartable, "kernels" in died.message) == (False, True)
        client.restart(EngineConfig(num_kv_blocks=20))
        ready = listener.until_one(Ready)
        assert isinstance(ready, Ready)
        assert ready.num_kv_blocks == 20


def test_a_crash_is_reported_with_its_last_words(client: EngineClient, folder: Path) -> None:
    listener = Listener(client)
    listener.until_one(Ready)
    assert client.pid is not None
    os.kill(client.pid, signal.SIGABRT)
    died = listener.until_one(EngineDied, timeout=5)
    assert isinstance(died, EngineDied)
    assert "SIGABRT" in died.message
    assert died.restartable


def test_no_engine_outlives_its_app(folder: Path) -> None:
    """The app is killed without a chance to say goodbye."""
    program = f"""
        import time
        from inference.client import EngineClient
        from inference.protocol import Ready
        client = EngineClient({str(folder)!r})
        client.start()
        while not any(isinstance(event, Ready) for event in client.drain()):
            client.wait(1)
        print(client.pid, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True) as app:
        assert app.stdout is not None
        pid = int(app.stdout.readline())
        app.kill()
    wait_gone(pid)


# --- weight ---


def test_importing_the_client_takes_nothing_but_the_standard_library() -> None:
    """So the app's first frame never waits for array libraries or tokenizers: those are the engine's."""
    program = """
        import sys
        before = set(sys.modules)
        import inference.client
        modules = set(sys.modules) - before
        print(len(modules), *sorted({name.partition(".")[0] for name in modules} - sys.stdlib_module_names))
    """
    out = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    modules, *packages = out.stdout.split()
    assert packages == ["inference"]
    assert int(modules) < 120, "nor much of that"


def test_the_log_says_what_happened_last_even_without_a_newline(tmp_path: Path, folder: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text("an earlier life\n")
    with EngineClient(str(folder), CONFIG, log) as client:
        listener = Listener(client)
        listener.until_one(Ready)
        with log.open("a") as file:
            file.write("the last words")
        assert client.pid is not None
        os.kill(client.pid, signal.SIGKILL)
        died = listener.until_one(EngineDied, timeout=5)
    assert isinstance(died, EngineDied)
    assert re.fullmatch(r"the engine was killed by SIGKILL: the last words", died.message)
    assert "an earlier life" in log.read_text()


def test_a_paused_engine_takes_requests_and_computes_nothing_until_it_is_stepped(client: EngineClient) -> None:
    listener = Listener(client)
    listener.until_one(Ready)
    client.pause()
    assert listener.until_one(Stepping).paused
    client.submit(Submit("a", "s", TokenPrompt((1, 2, 3)), ENDLESS))
    client.count_tokens("q", TextPrompt("still answered"))
    listener.until_one(TokenCount)
    listener.until_one(Started)
    assert not listener.of(StepRecord)
    client.resume(Resume(steps=2))
    listener.until(lambda: len(listener.of(Stepping)) == 3)
    assert [record.step for record in listener.of(StepRecord)] == [1, 2]
    client.resume(Resume(until=Until(Condition.FINISHED)))
    client.abort("a")
    listener.until(lambda: len(listener.of(Stepping)) == 5)
    last = listener.of(Stepping)[-1]
    assert (last.paused, last.reason) == (True, "a request ended")


def test_a_breakpoint_pauses_the_engine_each_time(client: EngineClient) -> None:
    listener = Listener(client)
    points = (Until(Condition.SCHEDULED, session="s"),)
    client.set_breakpoints(SetBreakpoints(points))
    submit(client, "a", (1, 2, 3), SamplingParams(max_tokens=3, ignore_eos=True))
    for steps in (1, 2):
        listener.until(lambda: listener.of(Stepping)[-1:] != [] and listener.of(Stepping)[-1].paused)
        last = listener.of(Stepping)[-1]
        assert (last.step, last.breakpoints) == (steps, points)
        assert len(listener.tokens("a")) == steps
        client.resume(Resume())
        listener.until(lambda count=2 * steps + 1: len(listener.of(Stepping)) >= count)
    client.set_breakpoints(SetBreakpoints(()))
    client.resume(Resume())
    listener.until(lambda: listener.finished("a") is not None)
