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

from pydantic import BaseModel, ConfigDict

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
            await server.run(read, write, server.create_initialization_options())

    anyio.run(serve)


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
