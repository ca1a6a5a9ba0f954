"""The tools of this run: read from the settings file, loaded beside the screen, lent what they need of the app."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from app.keys import load_keymap
from app.sessions.session import Session
from app.sessions.store import Store
from app.tools.documents import Documentation
from inference.errors import ConfigError
from inference.protocol import StepRecord
from inference.tools.context import Context
from inference.tools.mcp_servers import McpServers
from inference.tools.settings import ToolSettings, read_settings
from inference.tools.toolbox import Toolbox, load_toolbox, standard_tools
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
        self._documentation = Documentation(keymap=load_keymap(store.folder)[0])
        self._servers = McpServers(())
        self._loading: asyncio.Task[None] | None = None

    def load(self) -> None:
        """Begin to load, if that has not begun."""
        if self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._load())

    async def loaded(self) -> None:
        """Returns when the tools are there."""
        self.load()
        waited = None
        while self._loading is not None and self._loading is not waited:  # a reload takes the place of what is loading
            waited = self._loading
            await asyncio.wait([waited])

    async def reload(self) -> None:
        """Read the settings file again, also while it is being read.

        Prompts of a running conversation then begin otherwise: nothing is cached.
        """
        before, self.ready = self._loading, False
        if before is not None:
            before.cancel()
        self._loading = asyncio.get_running_loop().create_task(self._load(before))
        await self.loaded()

    @property
    def there(self) -> bool:
        """Whether there is a settings file; also if that can't be found out."""
        try:
            return self.path.expanduser().exists()
        except (OSError, RuntimeError):
            return True

    async def _load(self, before: asyncio.Task[None] | None = None) -> None:
        """Load what can be had. What can't is a problem to be shown: nobody may wait for tools that never come."""
        if before is not None:
            await asyncio.wait([before])
        settings, toolbox = ToolSettings(), Toolbox()
        context = Context(engine_state=self._engine_state, search_documents=self._documentation.search)
        problems: list[str] = []
        try:
            await self._servers.close()
            # What is offered depends only on what the context has, not on which workspace it is.
            context = replace(context, workspace=Workspace(tempfile.gettempdir()))
            if self.there:
                settings = await asyncio.to_thread(read_settings, self.path)
            self._servers = McpServers(settings.mcp, Path(self.started_in), self._store.folder / "tools.log")
            others, found = await self._servers.start()
            problems += found
            toolbox, found = await asyncio.to_thread(load_toolbox, settings, context, others)
            problems += found
        except Exception as error:
            said = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
            problems.append(f"{said}; only the built-in tools are there")
            with suppress(Exception):  # not even those: then the problem is all there is to see
                toolbox = (await asyncio.to_thread(standard_tools, context)).without(settings.disabled)
        self.toolbox, self.settings, self.problems, self.ready = toolbox, settings, tuple(problems), True

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
        except (ConfigError, OSError):
            workspace = None
        lent = Context(workspace, Results(self._store, session), self._engine_state, self._documentation.search)
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
