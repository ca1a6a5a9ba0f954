"""The process of one MCP server and the session with it: started when first needed, and anew when it has ended."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.tools.definition import ToolError
from inference.tools.settings import McpServer

if TYPE_CHECKING:
    from mcp import ClientSession

ENDED = "it was ended before it had begun"


class Connection:
    """Each life of the server is a task of its own, which ends with the process, whoever of the two is first."""

    def __init__(self, server: McpServer, directory: Path | None, log: Path | None) -> None:
        """`directory` is where the server runs; `log` gets what it writes to stderr, which else is thrown away."""
        self.server = server
        self._directory = directory
        self._log = log
        self._life: asyncio.Task[None] | None = None
        self._lives: set[asyncio.Task[None]] = set()
        """The present one, and those that are still ending."""
        self._over = asyncio.Event()
        """Of the present one: it is to end, or the server has."""
        self._over.set()
        self._ready: asyncio.Future[ClientSession] | None = None

    async def session(self) -> ClientSession:
        """The session, begun if there is none or the server has ended. Raises what kept it from beginning.

        A start belongs to nobody: if the one who asked for it is cancelled, the next finds it under way.
        """
        if self._ready is None or self._over.is_set():
            loop = asyncio.get_running_loop()
            self._over, self._ready = asyncio.Event(), loop.create_future()
            self._ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())  # it need not be asked
            self._life = loop.create_task(self._live(self._over, self._ready), name=f"mcp {self.server.name}")
            self._lives.add(self._life)
            self._life.add_done_callback(self._lives.discard)
        return await asyncio.shield(self._ready)

    def drop(self, session: ClientSession) -> None:
        """End the server, unless it is by now another one than that of the session."""
        ready = self._ready
        if ready is not None and ready.done() and not ready.exception() and ready.result() is session:
            self._over.set()

    async def close(self) -> None:
        """End the server, also one that is only starting, with what it started."""
        self._over.set()
        ready, self._ready = self._ready, None
        if self._life is not None and ready is not None and not ready.done():
            self._life.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)
        if ready is not None and not ready.done():  # it was cancelled before its first step
            ready.set_exception(ToolError(ENDED))

    async def _live(self, over: asyncio.Event, ready: asyncio.Future[ClientSession]) -> None:
        """anyio wants its contexts left by the task that entered them."""
        import mcp

        command, *arguments = self.server.command
        parameters = mcp.StdioServerParameters(
            command=command,
            args=arguments,
            env=dict(self.server.environment),
            cwd=self._directory,
            encoding_error_handler="replace",
        )
        problem: Exception = ToolError(ENDED)
        try:
            with open(self._log or os.devnull, "a", encoding="utf-8") as log:
                async with (
                    mcp.stdio_client(parameters, log) as (reading, writing),
                    mcp.ClientSession(_Watched(reading, over.set), writing) as session,
                ):
                    await self._initialize(session)
                    ready.set_result(session)
                    await over.wait()
        except Exception as error:
            problem = error
        finally:
            over.set()
            if not ready.done():
                ready.set_exception(problem)

    async def _initialize(self, session: ClientSession) -> None:
        try:
            async with asyncio.timeout(self.server.timeout):
                await session.initialize()
        except TimeoutError:
            raise ToolError(f"it did not answer within {self.server.timeout:g} s") from None


class _Watched:
    """A stream of messages that calls `ended` when there are no more."""

    def __init__(self, stream: Any, ended: Callable[[], None]) -> None:
        self._stream, self._ended = stream, ended

    async def receive(self) -> Any:
        return await self._stream.receive()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except StopAsyncIteration:
            self._ended()
            raise

    async def __aenter__(self) -> _Watched:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *how: Any) -> Any:
        return await self._stream.__aexit__(*how)
