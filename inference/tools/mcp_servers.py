"""Tools of MCP servers (modelcontextprotocol.io): programs that the user named, spoken to over their standard streams.

A server is believed in nothing that matters: its tools ask first unless the user's own file trusts it *and* it marks
them as reading; what it says goes to the model bounded and without control markers; its stderr goes to a log and never
to the screen; it has the timeout that the file gives, and one that has ended is started anew at the next call, which
then runs against the tools that were listed at first. A call during which it ends fails, and is not made again: it may
have taken effect. The package `mcp` takes most of a second to import, so that
happens here only when there is a server to talk to, and in a thread.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.tools.calls import CallError
from inference.tools.definition import NAME, Effect, Tool, ToolError, visible
from inference.tools.markup import quote_markers
from inference.tools.mcp_connection import Connection
from inference.tools.settings import McpServer

if TYPE_CHECKING:
    from mcp import ClientSession
    from mcp import Tool as Listed

MAX_TOOLS = 100
"""Of one server; further ones are left out."""
MAX_PAGES = 20
MAX_DESCRIPTION = 1_000
MAX_SCHEMA_CHARS = 20_000
MAX_RESULT_CHARS = 1_000_000
_PING = 1.0
"""Seconds within which a server that is not stuck answers a ping."""


class McpServers:
    """All servers of the settings. Start, use and close it in one event loop."""

    def __init__(self, servers: Sequence[McpServer], directory: Path | None = None, log: Path | None = None) -> None:
        """`directory` is where the servers run; `log` gets what they write to stderr, which else is thrown away."""
        self._servers = [_Server(server, Connection(server, directory, log)) for server in servers]

    async def start(self) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
        """Start all at once. Their tools, and a sentence for each server or tool that can't be had."""
        if not self._servers:
            return (), ()
        logging.getLogger("mcp").addHandler(logging.NullHandler())  # or Python writes its warnings on the screen
        await asyncio.to_thread(importlib.import_module, "mcp")
        listings = await asyncio.gather(*(server.tools() for server in self._servers))
        tools = tuple(tool for found, _ in listings for tool in found)
        return tools, tuple(problem for _, problems in listings for problem in problems)

    async def close(self) -> None:
        """End all servers, with what they started."""
        await asyncio.gather(*(server.connection.close() for server in self._servers))


class _Server:
    """What one server offers, and calls of it."""

    def __init__(self, server: McpServer, connection: Connection) -> None:
        self.server, self.connection = server, connection

    async def tools(self) -> tuple[list[Tool], list[str]]:
        """What the server offers, and a sentence for what can't be had."""
        name = self.server.name
        try:
            async with asyncio.timeout(self.server.timeout):
                listed = await self._listed(await self.connection.session())
        except TimeoutError:
            await self.connection.close()
            return [], [f"the MCP server {name} did not list its tools within {self.server.timeout:g} s"]
        except ValueError as error:
            await self.connection.close()
            return [], [f"the MCP server {name} can't be used: its list of tools breaks the protocol ({_brief(error)})"]
        except Exception as error:
            await self.connection.close()
            return [], [f"the MCP server {name} can't be used: {_brief(error)}"]
        tools: dict[str, Tool] = {}
        problems = []
        for each in listed[:MAX_TOOLS]:
            try:
                made = self._tool(each)
                if made.name in tools:
                    raise CallError("it is listed twice")
                tools[made.name] = made
            except Exception as error:  # of a schema, nothing is known before it has been looked at
                why = str(error) if isinstance(error, CallError) else f"its schema can't be read ({_brief(error)})"
                problems.append(f"the tool {visible(each.name[:80])!r} of the MCP server {name} is left out: {why}")
        if len(listed) > MAX_TOOLS:
            problems.append(f"the MCP server {name} lists more than {MAX_TOOLS} tools: the rest is left out")
        return list(tools.values()), problems

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """One call. Raises ToolError with what the server says, or with what became of it."""
        import mcp

        name = self.server.name
        try:
            session = await self.connection.session()
        except (OSError, RuntimeError, ValueError, ExceptionGroup, ToolError, mcp.MCPError) as error:
            raise ToolError(f"the MCP server {name} can't be started: {_brief(error)}") from None
        try:
            request = mcp.types.CallToolRequest(
                params=mcp.types.CallToolRequestParams(name=tool, arguments=dict(arguments))
            )
            # Not `call_tool`: that would check the result by a schema of the server's, whose patterns may never end.
            async with asyncio.timeout(self.server.timeout):
                result = await session.send_request(request, mcp.types.CallToolResult)
        except TimeoutError:
            if not await self._answers(session):
                self.connection.drop(session)
            raise ToolError(f"the MCP server {name} did not answer within {self.server.timeout:g} s") from None
        except mcp.MCPError as error:
            if error.code != mcp.types.CONNECTION_CLOSED:
                raise ToolError(f"the MCP server {name} refused: {_brief(error)}") from None
            self.connection.drop(session)
            raise ToolError(f"the MCP server {name} ended during the call; the next call starts it again") from None
        except (OSError, RuntimeError, ValueError) as error:
            raise ToolError(f"the MCP server {name} answered against the protocol: {_brief(error)}") from None
        text = _text(result.content)
        if not text and result.structured_content is not None:
            text = json.dumps(result.structured_content, ensure_ascii=False)
        if len(text) > MAX_RESULT_CHARS:
            text = f"{text[:MAX_RESULT_CHARS]}\n[cut after {MAX_RESULT_CHARS:,} characters]"
        if result.is_error:
            raise ToolError(text or "the tool failed and did not say why")
        return text or "done, with nothing to say"

    async def _answers(self, session: ClientSession) -> bool:
        """Whether the server still does, though it was slow with one call."""
        try:
            async with asyncio.timeout(_PING):
                await session.send_ping()
        except Exception:
            return False
        return True

    async def _listed(self, session: ClientSession) -> list[Listed]:
        import mcp

        found: list[Listed] = []
        cursor = None
        for _ in range(MAX_PAGES):
            parameters = mcp.types.PaginatedRequestParams(cursor=cursor) if cursor else None
            page = await session.list_tools(params=parameters)
            found += page.tools
            cursor = page.next_cursor
            if not cursor or len(found) > MAX_TOOLS:
                break
        return found

    def _tool(self, listed: Listed) -> Tool:
        """Raises CallError if the tool is not one that can be offered."""
        name = f"{self.server.name}.{listed.name}"
        if not NAME.fullmatch(name):
            raise CallError("its name is too long, or has other characters than letters, digits, _, - and .")
        schema = listed.input_schema
        text = json.dumps(schema, ensure_ascii=False)
        if schema.get("type") != "object" or not isinstance(schema.get("properties", {}), dict):
            raise CallError("its schema describes no object of arguments")
        if len(text) > MAX_SCHEMA_CHARS:
            raise CallError(f"its schema is longer than {MAX_SCHEMA_CHARS:,} characters")
        if quote_markers(text) != text:
            raise CallError("its schema holds control markers of chat templates")
        reads = self.server.trusted and listed.annotations is not None and listed.annotations.read_only_hint is True
        description = visible(quote_markers((listed.description or listed.name)[:MAX_DESCRIPTION]))

        async def call(**arguments: Any) -> str:
            return await self.call(listed.name, arguments)

        return Tool(
            name,
            description,
            schema,
            Effect.READS if reads else Effect.CHANGES,
            _checker(name, schema),
            call,
            timeout=self.server.timeout * 2 + 10,  # the connection keeps the server's own, and may have to start it
            source=f"the MCP server {self.server.name}",
        )


def _checker(name: str, schema: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Checks what is missing, unknown or of another type. The rest is the server's to check: a schema from elsewhere
    may hold patterns that take for ever to match."""
    from inference.tools.signature import usage

    properties, needed = schema.get("properties", {}), schema.get("required")
    required = [key for key in needed if isinstance(key, str)] if isinstance(needed, list) else []

    def check(arguments: Mapping[str, Any]) -> dict[str, Any]:
        complaints = [f"the argument {key} is missing" for key in required if key not in arguments]
        for key, value in arguments.items():
            if key not in properties:
                if schema.get("additionalProperties") is False:
                    complaints.append(f"there is no argument {key}")
            elif not _is_a(value, properties[key]):
                complaints.append(f"the argument {key} must be of type {properties[key]['type']}")
        if complaints:
            raise CallError(f"{', '.join(complaints[:3])}; call it as {usage(name, schema)}")
        return dict(arguments)

    return check


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def _is_a(value: Any, schema: Any) -> bool:
    kind = schema.get("type") if isinstance(schema, dict) else None
    if not isinstance(kind, str) or kind not in _TYPES:
        return True
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _text(blocks: Sequence[Any]) -> str:
    """What a result says in words; of other content, what it is."""
    parts = []
    for block in blocks:
        resource = getattr(block, "resource", block)
        if (text := getattr(resource, "text", None)) is not None:
            parts.append(text)
        elif (data := getattr(resource, "data", None) or getattr(resource, "blob", None)) is not None:
            kind = getattr(resource, "mime_type", None) or block.type
            parts.append(f"[{kind}: {len(data) * 3 // 4:,} bytes that can't be shown]")
        else:
            parts.append(f"[{block.type}: {getattr(resource, 'uri', '')}]")
    return "\n".join(parts)


def _brief(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return visible((str(error) or type(error).__name__).split("\n")[0][:300])
