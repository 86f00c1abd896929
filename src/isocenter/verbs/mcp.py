"""The tools of `isocenter ask` for other programs: a Model Context Protocol server over standard input and output.

It is opened on one result and reads; no tool takes a path, a patient or a host. What it gives is data of closed tables
and sentences that the ledger supports: the free text of a result (titles, labels, reasons of abstentions) stays in the
result, so that nothing in it can instruct the program that asked.

Source:
    Model Context Protocol, https://modelcontextprotocol.io/specification; spoken by its own SDK, extra `mcp`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from isocenter.core.errors import CapabilityError, ConfigError
from isocenter.verbs.asking.calling import shown_to_programs
from isocenter.verbs.asking.reply import ToolCall
from isocenter.verbs.asking.study import Examined, open_examined
from isocenter.verbs.asking.tools import TOOLS, use
from isocenter.version import __version__

__all__ = ["McpConfig", "run", "server_of"]

_INSTRUCTIONS = (
    "Answers about one medical imaging study, each bound to evidence. Repeat no more than the sentences "
    "say: what is called "
    "'not examined' is unknown, not absent. For research; not a medical device."
)


class McpConfig(BaseModel):
    """Configuration of `isocenter mcp`.

    Attributes:
        result: Folder that `isocenter read` wrote, or its result.json.
        prior: The same of an earlier study of the same patient.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    result: Path
    prior: Path | None = None


def run(config: McpConfig) -> None:
    """Serve until standard input ends.

    Raises:
        ConfigError: The earlier result is of another patient.
        DataError: A result can't be read.
        CapabilityError: The extra `mcp` is not installed.
    """
    examined = open_examined(config.result, config.prior)
    try:
        import anyio
        from mcp.server.stdio import stdio_server
    except ImportError as error:
        raise _missing() from error
    server = server_of(examined)

    async def serve() -> None:
        async with stdio_server() as (read, write):
            await server.run(_Answering(read, write), write, server.create_initialization_options())

    anyio.run(serve)


class _Answering:
    """Messages of a client; to what is none, the error of JSON-RPC is sent, which the SDK leaves to whoever reads.

    Args:
        read: Stream of messages, and of errors of what is none.
        write: Where answers go.
    """

    def __init__(self, read: Any, write: Any) -> None:
        self._read, self._write = read, write

    @property
    def last_context(self) -> Any:
        """The context that the last message was sent in, as the SDK asks for it."""
        return getattr(self._read, "last_context", None)

    async def receive(self) -> Any:
        """Return the next message."""
        while isinstance(item := await self._read.receive(), Exception):
            await self._write.send(_refused(item))
        return item

    def __aiter__(self) -> _Answering:
        return self

    async def __anext__(self) -> Any:
        from anyio import EndOfStream

        try:
            return await self.receive()
        except EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> _Answering:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the stream of messages."""
        await self._read.aclose()


def _refused(error: Exception) -> Any:
    """Return the answer to a line that is no message: of the request's id, where it has one that can be read."""
    from mcp import types
    from mcp.shared.message import SessionMessage

    told = error.errors(include_url=False) if isinstance(error, ValidationError) else []
    unread = not told or any(one["type"] == "json_invalid" for one in told)
    ids = [one["input"].get("id") for one in told if isinstance(one["input"], dict)]
    number = next((i for i in ids if isinstance(i, str | int) and not isinstance(i, bool)), None)
    code, words = (types.PARSE_ERROR, "Parse error") if unread else (types.INVALID_REQUEST, "Invalid request")
    return SessionMessage(
        types.JSONRPCError(jsonrpc="2.0", id=number, error=types.ErrorData(code=code, message=words))
    )  # fmt: skip


def _missing() -> CapabilityError:
    return CapabilityError("serving tools by MCP needs the package mcp; install isocenter[mcp]")


def server_of(examined: Examined) -> Any:
    """Return a server (`mcp.server.lowlevel.Server`) of the tools over what was examined.

    Raises:
        CapabilityError: The extra `mcp` is not installed.
    """
    try:
        from mcp import types
        from mcp.server.lowlevel import Server
        from mcp.shared.exceptions import MCPError
    except ImportError as error:
        raise _missing() from error
    reads = types.ToolAnnotations(
        read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    )  # fmt: skip

    async def list_tools(context: Any, params: Any) -> Any:
        listed = [
            types.Tool(name=t.name, description=t.description, input_schema=t.schema, annotations=reads)
            for t in TOOLS.values()
        ]
        return types.ListToolsResult(tools=listed)

    async def call_tool(context: Any, params: Any) -> Any:
        if params.name not in TOOLS:
            raise MCPError(code=types.INVALID_PARAMS, message="Unknown tool")
        try:
            given = {key: value for key, value in (params.arguments or {}).items() if value is not None}
            shown = shown_to_programs(use(ToolCall(params.name, given), examined))
        except ConfigError as error:
            return types.CallToolResult(content=[types.TextContent(type="text", text=str(error))], is_error=True)
        text = json.dumps(shown, ensure_ascii=False)
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=text)], structured_content=json.loads(text)
        )  # fmt: skip

    return Server(
        "isocenter", version=__version__, instructions=_INSTRUCTIONS, on_list_tools=list_tools, on_call_tool=call_tool
    )  # fmt: skip
