"""The list of tools: what each does to the world, where it comes from, and what was allowed in this session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from textwrap import wrap
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from app.sessions.session import Session
from app.sessions.workspace import Workspace
from inference.tools.definition import Effect, Tool, visible
from inference.tools.receipts import Decision

EFFECTS = {
    Effect.READS: ("reads", "runs at once", "$text-success"),
    Effect.CHANGES: ("changes", "asks first", "$text-warning"),
    Effect.RUNS: ("runs a program", "asks first", "$text-error"),
}
NAME_WIDTH = 16


class ToolsScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "Back"),
        Binding("t", "switch", "On or off"),
        Binding("f", "forget", "Forget what was allowed"),
        Binding("r", "reload", "Read the settings file again"),
    ]

    def __init__(self, workspace: Workspace, session: Session) -> None:
        super().__init__()
        self._workspace, self._session = workspace, session
        self._loading: asyncio.Task[None] | None = None

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog") as box:
            box.border_title = Content(f"Tools of “{self._session.name}”").markup
            box.border_subtitle = "T on/off · F forget · R reload · Esc back"
            yield Static()

    def on_mount(self) -> None:
        self._begin(self._workspace.kit.loaded())

    def on_resize(self) -> None:
        self.call_after_refresh(self._fill)

    def _begin(self, loading: Awaitable[None]) -> None:
        async def work() -> None:
            await loading
            for session in self._workspace.sessions:
                if session.tools.on:
                    self._workspace.kit.equip(session)
            self._fill()

        self._loading = asyncio.get_running_loop().create_task(work())
        self._fill()

    def _fill(self) -> None:
        if self.is_mounted:
            width = max(40, self.query_one(VerticalScroll).size.width - 2)
            self.query_one(Static).update(self._text(width))

    def _text(self, width: int) -> Content:
        kit, session = self._workspace.kit, self._session
        state = "on" if session.tools.on else "off: T turns them on"
        parts: list[Content | str | tuple[str, str]] = [
            ("Tools are ", "$text-muted"),
            (f"{state}\n", "bold $text-success" if session.tools.on else "bold $text-warning"),
            (f"Files below {visible(kit.directory(session))} (Ctrl+S names another directory)\n", "$text-muted"),
            (f"More tools and MCP servers: {visible(str(kit.path))}", "$text-muted"),
            ("" if kit.there else ", which is not there yet", "$text-muted"),
            "\n\n",
        ]
        if not kit.ready:
            return Content.assemble(*parts, "The tools are being loaded …")
        parts += [(f"✗ {visible(problem)}\n", "$text-error") for problem in kit.problems]
        if grants := session.tools.grants.decisions:
            parts.append(("Said for this session (F forgets it)\n", "bold $text-primary"))
            for key, decision in grants.items():
                word = "allowed" if decision is Decision.SESSION else "refused"
                parts.append(f"  {word}: {visible(key)}\n")
            parts.append("\n")
        for tool in kit.toolbox:
            parts += self._row(tool, width)
        return Content.assemble(*parts)

    @staticmethod
    def _row(tool: Tool, width: int) -> list[Content | str | tuple[str, str]]:
        what, when, colour = EFFECTS[tool.effect]
        row: list[Content | str | tuple[str, str]] = [
            (f"{visible(tool.name):<{NAME_WIDTH}} ", "bold $text-accent"),
            (f"{what}, {when}", colour),
            ("\n" if tool.source == "built in" else f" · {visible(tool.source)}\n", "$text-muted"),
        ]
        first = " ".join(visible(tool.description).split())
        row += [" " * (NAME_WIDTH + 1) + f"{line}\n" for line in wrap(first, width - NAME_WIDTH - 1)[:3]]
        return row

    def action_switch(self) -> None:
        tools = self._session.tools
        self._workspace.set_tools(self._session, not tools.on, tools.directory)
        self._fill()

    def action_forget(self) -> None:
        """What was said for the session holds no more: calls ask again."""
        self._session.tools.grants.decisions.clear()
        self._workspace.save(self._session)
        self._fill()

    def action_reload(self) -> None:
        self._begin(self._workspace.kit.reload())
