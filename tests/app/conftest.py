"""The app on a scripted engine with a clock that only the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, TextArea

from app.chat.composer import Composer
from app.chat.screen import ChatScreen
from app.chat.transcript import Transcript
from app.main import GlasschatApp
from app.sessions.session import Session
from app.sessions.store import Store
from app.sessions.workspace import Workspace
from inference.protocol import EngineConfig
from tests.app.fake_engine import FakeEngine


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Rig:
    """A running app with everything a test wants to touch."""

    app: GlasschatApp
    pilot: Pilot[int]
    engine: FakeEngine
    clock: Clock

    def __post_init__(self) -> None:
        """Notices are gone after some seconds of real time, which pass on a busy machine: they are kept here."""
        self._said = [notice.message for notice in self.app._notifications]
        notify = self.app.notify

        def kept(message: str, **options: Any) -> None:
            self._said.append(message)
            notify(message, **options)

        self.app.notify = kept  # type: ignore[method-assign]

    @property
    def chat(self) -> ChatScreen:
        return self.app.chat

    @property
    def workspace(self) -> Workspace:
        return self.app.workspace

    @property
    def session(self) -> Session:
        return self.workspace.active

    @property
    def transcript(self) -> Transcript:
        return self.chat.query_one(Transcript)

    @property
    def composer(self) -> Composer:
        return self.chat.query_one(Composer)

    async def settle(self, seconds: float = 0.5) -> None:
        """Let time pass, and the app take in and show what the engine sent."""
        self.clock.pass_(seconds)
        for _ in range(2):
            self.chat.poll()
            self.chat.show_panels()
            await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settle()

    async def send(self, text: str) -> None:
        """Type a message and press Enter."""
        self.composer.put(text)
        await self.press("enter")

    async def run(self, steps: int) -> None:
        """Let the engine make steps, each taken in on its own."""
        for _ in range(steps):
            self.engine.run(1)
            self.clock.pass_(0.02)
            self.chat.poll()
        await self.settle()

    async def finish(self) -> None:
        self.engine.finish_all()
        await self.settle()

    def screen_text(self) -> str:
        """What stands on the terminal, as plain text."""
        lines = self.app.screen._compositor.render_strips()
        return "\n".join("".join(s.text for s in strip).rstrip() for strip in lines)

    def notices(self) -> list[str]:
        """All that the app has said in notices so far."""
        return list(self._said)


def make_app(folder: Path, engine: FakeEngine, clock: Callable[[], float], names: tuple[str, ...] = ()) -> GlasschatApp:
    for widget in (TextArea, Input):
        widget.cursor_blink._default = False  # type: ignore[union-attr]  # no screenshot may depend on its moment
    return GlasschatApp(engine, Store(folder), "demo", EngineConfig(), names, clock)


@pytest.fixture
def launch(tmp_path: Path) -> Callable[..., Any]:
    """`async with launch(size=…, **engine) as rig`: the app, running; stored chats stay between launches."""

    @asynccontextmanager
    async def run(
        size: tuple[int, int] = (120, 40), names: tuple[str, ...] = (), settle: bool = True, **options: Any
    ) -> AsyncIterator[Rig]:
        engine, clock = FakeEngine(**options), Clock()
        app = make_app(tmp_path / "data", engine, clock, names)
        try:
            async with app.run_test(size=size) as pilot:
                rig = Rig(app, pilot, engine, clock)
                await pilot.pause()
                if settle:
                    await rig.settle()
                yield rig
        finally:
            app.workspace.shut_down()

    return run
