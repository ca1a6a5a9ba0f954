"""The tools of this run: read from the settings file, loaded beside the screen, lent what they need of the app."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from app.sessions.session import Session
from app.sessions.store import Store
from inference.errors import ConfigError
from inference.protocol import StepRecord
from inference.tools.context import Context
from inference.tools.mcp_servers import McpServers
from inference.tools.settings import ToolSettings, read_settings
from inference.tools.toolbox import Toolbox, load_toolbox
from inference.tools.workspace import Workspace

SETTINGS_FILE = "tools.toml"
SMALL_CONTEXT = 2048
"""Tokens that a model is thought to have room for as long as it has not said."""


class Kit:
    """Loaded when a session with tools first asks something: reading schemas and starting servers takes a moment."""

    def __init__(
        self, store: Store, last_step: Callable[[], StepRecord | None], max_model_len: Callable[[], int]
    ) -> None:
        """`max_model_len` is 0 while no engine has been ready."""
        self._store, self._last_step, self._max_model_len = store, last_step, max_model_len
        self.path = Path(os.environ.get("GLASSCHAT_TOOLS") or store.folder / SETTINGS_FILE)
        """The settings file; it need not be there."""
        self.started_in = os.getcwd()
        self.settings = ToolSettings()
        self.toolbox = Toolbox()
        self.ready = False
        self.problems: tuple[str, ...] = ()
        """What could not be loaded, in sentences for the user."""
        self._servers = McpServers(())
        self._loading: asyncio.Task[None] | None = None

    def load(self) -> None:
        """Begin to load, if that has not begun."""
        if self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._load())

    async def loaded(self) -> None:
        """Returns when the tools are there."""
        self.load()
        assert self._loading is not None
        await asyncio.shield(self._loading)

    async def reload(self) -> None:
        """Read the settings file again. Prompts of a running conversation then begin otherwise: nothing is cached."""
        if self._loading is not None:
            await asyncio.shield(self._loading)
        await self._servers.close()
        self.ready, self._loading = False, None
        await self.loaded()

    async def _load(self) -> None:
        problems: list[str] = []
        settings = ToolSettings()
        try:
            if self.path.expanduser().exists():
                settings = await asyncio.to_thread(read_settings, self.path)
        except ConfigError as error:
            problems.append(f"{error}; only the built-in tools are there")
        self._servers = McpServers(settings.mcp, Path(self.started_in), self._store.folder / "tools.log")
        others, found = await self._servers.start()
        problems += found
        # What is offered depends only on what the context has, not on which workspace it is.
        context = Context(Workspace(tempfile.gettempdir()), engine_state=self._engine_state)
        try:
            self.toolbox, more = await asyncio.to_thread(load_toolbox, settings, context, others)
        except ConfigError as error:
            problems.append(f"{error}; only the built-in tools are there")
            self.toolbox, more = await asyncio.to_thread(load_toolbox, ToolSettings(packages=False), context)
        self.settings, self.problems, self.ready = settings, (*problems, *more), True

    async def close(self) -> None:
        """End the servers."""
        if self._loading is not None:
            await asyncio.wait([self._loading], timeout=1)
        await self._servers.close()

    def equip(self, session: Session) -> None:
        """Give a session the schemas that its prompts are to have."""
        session.tools.schemas, session.tools.max_rounds = self.toolbox.schemas, self.settings.max_rounds

    @property
    def default_directory(self) -> str:
        """Where the tools of a session look that names no workspace."""
        return str(self.settings.workspace or self.started_in)

    def directory(self, session: Session) -> str:
        """Where the session's tools look."""
        return session.tools.directory or self.default_directory

    def context(self, session: Session) -> Context:
        """What is lent to the calls of a session. Without a workspace, if its directory can't be one any more."""
        try:
            workspace = Workspace(self.directory(session))
        except ConfigError:
            workspace = None
        lent = Context(workspace, Results(self._store, session), self._engine_state)
        return lent.within(self._max_model_len() or SMALL_CONTEXT)

    def _engine_state(self) -> str:
        from inference.tools.builtin.engine_state import describe_step

        return describe_step(self._last_step())


class Results:
    """Long results in the store of the chats; short ones stand in their receipts."""

    def __init__(self, store: Store, session: Session) -> None:
        self._store, self._session = store, session

    def put(self, call_id: str, text: str) -> None:
        self._store.save_result(self._session, call_id, text)

    def get(self, call_id: str) -> str | None:
        if (stored := self._store.result(call_id)) is not None:
            return stored
        receipt = self._session.receipts.get(call_id)
        return receipt.result if receipt is not None and receipt.state.finished else None
