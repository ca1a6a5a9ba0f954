"""Takes the README's pictures: the app itself, on the demo model, driven by keys. `python assets/pictures/take.py`"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from textual.pilot import Pilot

from app.main import GlasschatApp
from app.sessions.store import Store
from inference.client import EngineClient
from inference.protocol import EngineConfig

HERE = Path(__file__).parent
SESSIONS = ("paging", "batching", "numbers", "sampling")
QUESTIONS = (
    "How does paged attention work?",
    "What is continuous batching?",
    "What does 4-bit quantization do?",
    "How do top-k and top-p differ?",
)

SYSTEM_PROMPT = "You are glasschat, a small demo model that runs inside its own inference engine."

Scene = Callable[[Pilot[int]], Awaitable[None]]


async def four_sessions(pilot: Pilot[int]) -> None:
    """All four asked in the same moment, which no hand can do; caught while all of them are being answered.

    Our own kernels have answered before a picture is taken, so MLX's are in force here.
    """
    app = pilot.app
    assert isinstance(app, GlasschatApp)
    for session, question in zip(app.workspace.sessions, QUESTIONS, strict=True):
        app.workspace.send(session, question)
    await pilot.press("ctrl+pagedown", "ctrl+pageup")  # draws what was sent
    await until(pilot, lambda: decoding(pilot) == len(SESSIONS), every=0.01)
    await asyncio.sleep(0.25)


async def inspector(pilot: Pilot[int]) -> None:
    """One conversation and two forks of it, and a session of its own: what is alike is in shared blocks."""
    app = pilot.app
    assert isinstance(app, GlasschatApp)
    first, *rest = app.workspace.sessions
    for session in (first, rest[0]):
        app.workspace.set_params(session, session.params, SYSTEM_PROMPT, session.priority)
    app.workspace.send(first, QUESTIONS[0])
    await until(pilot, lambda: app.workspace.answering(first) is None)
    for session in rest[1:]:
        app.workspace.close(session)
    branches = [first, rest[0], app.workspace.fork(first), app.workspace.fork(first)]
    for session, question in zip(branches, QUESTIONS, strict=True):
        app.workspace.send(session, question)
    await until(pilot, lambda: decoding(pilot) == len(branches), every=0.01)
    await pilot.press("f5", "f3")
    await asyncio.sleep(0.6)


async def switches(pilot: Pilot[int]) -> None:
    await pilot.press("f8")
    await pilot.pause(0.5)


async def measured(pilot: Pilot[int]) -> None:
    """What a batch is worth: one request at a time instead of sixteen."""
    await pilot.press("f8")
    await pilot.pause(0.5)
    await pilot.press("m")
    await pilot.press("ctrl+u", "1", "enter")
    app = pilot.app
    assert isinstance(app, GlasschatApp)
    await until(pilot, lambda: app.workspace.measurement is None)
    await pilot.pause(0.8)


async def panels(pilot: Pilot[int]) -> None:
    await four_sessions(pilot)
    await pilot.press("f2")
    await asyncio.sleep(0.3)


async def answered(pilot: Pilot[int]) -> None:
    app = pilot.app
    assert isinstance(app, GlasschatApp)
    await write(pilot, QUESTIONS[0])
    await pilot.press("enter")
    session = app.workspace.active
    await until(pilot, lambda: len(session.turns) > 1 and app.workspace.answering(session) is None)
    await asyncio.sleep(0.5)


PICTURES: dict[str, tuple[tuple[int, int], str, Scene]] = {
    "four-sessions": ((120, 40), "glass-dark", four_sessions),
    "inspector": ((120, 40), "glass-dark", inspector),
    "light": ((120, 40), "glass-light", four_sessions),
    "switches": ((120, 40), "glass-dark", switches),
    "measured": ((120, 40), "glass-dark", measured),
    "small": ((80, 24), "glass-dark", answered),
    "small-panels": ((80, 24), "glass-dark", panels),
}


async def write(pilot: Pilot[int], text: str) -> None:
    """Into the composer; a draft stays with its session."""
    await pilot.press(*("space" if c == " " else c for c in text))


def decoding(pilot: Pilot[int]) -> int:
    """Sessions that got a decode token in the latest step."""
    app = pilot.app
    assert isinstance(app, GlasschatApp)
    return sum(share.decode > 0 for share in app.chat.telemetry.snapshot(time.monotonic()).shares)


async def until(pilot: Pilot[int], reached: Callable[[], bool], *, every: float = 0.05) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        if time.monotonic() > deadline:
            sys.exit("the scene was not reached within a minute")
        await asyncio.sleep(every)


async def take(name: str) -> None:
    size, theme, scene = PICTURES[name]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        config = EngineConfig(kernels="mlx" if scene in (four_sessions, panels, inspector) else "auto")
        link = EngineClient("demo", config, log_path=Path(folder) / "engine.log")
        app = GlasschatApp(link, store, "demo", config, SESSIONS)
        app.theme = theme
        try:
            async with app.run_test(size=size) as pilot:
                await until(pilot, lambda: app.workspace.watch.ready)
                await scene(pilot)
                (HERE / f"{name}.svg").write_text(app.export_screenshot(title="glasschat"))
        finally:
            app.workspace.shut_down()
            link.close()
    print(f"{name}.svg")


if __name__ == "__main__":
    for picture in sys.argv[1:] or PICTURES:
        asyncio.run(take(picture))
