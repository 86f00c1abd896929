"""`isocenter mcp`: a session of a real process over standard input and output, and with the SDK's own client."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asking_cases import CASES, examined, written
from asking_server import ATTACKS
from isocenter import cli
from isocenter.verbs.asking.tools import TOOLS

Send = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(CASES["chest"][0], tmp_path / "r")


@pytest.fixture
def session(folder: Path) -> Iterator[Send]:
    """Start a server; the returned function sends a line and reads one back, or none where none is expected."""
    pytest.importorskip("mcp", reason="the extra mcp is not installed")
    process = subprocess.Popen(
        [sys.executable, "-m", "isocenter.cli", "mcp", "--result", str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip
    assert process.stdin and process.stdout and process.stderr
    number = 0

    def send(message: str | None = None, *, answered: bool = True, **fields: Any) -> Any:
        nonlocal number
        if message is None:
            number += 1
            message = json.dumps({"jsonrpc": "2.0", **({"id": number} if answered else {}), **fields})
        process.stdin.write(message + "\n")
        process.stdin.flush()
        if not answered:
            return None
        got = json.loads(process.stdout.readline())
        assert got["jsonrpc"] == "2.0" and (got.get("id") == number or "error" in got)
        return got

    yield send
    process.stdin.close()
    assert process.stdout.read() == "", "nothing but answers goes to standard output"
    assert process.wait(10) == 0, process.stderr.read()
    process.stdout.close()
    process.stderr.close()


def opened(send: Send, version: str = "2025-06-18") -> Any:
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    found = send(method="initialize", params=params)
    send(method="notifications/initialized", answered=False)
    return found


def call(send: Send, name: str, **arguments: Any) -> Any:
    return send(method="tools/call", params={"name": name, "arguments": arguments})


def test_a_session(session: Send) -> None:
    begun = opened(session)["result"]
    assert begun["protocolVersion"] == "2025-06-18" and begun["serverInfo"]["name"] == "isocenter"
    assert set(begun["capabilities"]) >= {"tools"}
    assert session(method="ping")["result"] == {}
    session(method="notifications/cancelled", params={"requestId": 99}, answered=False)
    session(method="notifications/unheard_of", answered=False)
    listed = session(method="tools/list")["result"]["tools"]
    assert [t["name"] for t in listed] == list(TOOLS)
    assert all(t["annotations"]["readOnlyHint"] and t["inputSchema"]["additionalProperties"] is False for t in listed)
    found = call(session, "measure", about="lung", side="left")["result"]
    assert not found["isError"] and found["structuredContent"]["sentences"] == [
        "Left lung: area at the detector 213 cm²."
    ]
    assert json.loads(found["content"][0]["text"]) == found["structuredContent"]


def test_errors_by_the_specification_and_what_is_no_message(session: Send) -> None:
    opened(session)
    assert session(method="unheard/of")["error"]["code"] == -32601
    assert session(method="tools/call", params={"arguments": {}})["error"]["code"] == -32602
    assert call(session, "open_patient", patient="4711")["error"]["code"] == -32602
    for arguments in ({"about": "liver"}, {"about": "lung", "path": "/etc"}, {}, {"about": 7}):
        wrong = call(session, "find", **arguments)["result"]
        assert wrong["isError"] and "find: " in wrong["content"][0]["text"]
    for attack in ATTACKS:
        assert call(session, "find", about=attack)["result"]["isError"]
    assert session(method="ping")["result"] == {}, "it goes on"
    for line, code in (
        ("not json", -32700), ("{" * 10_000, -32700), ("\x00", -32700), ("[]", -32600), ("7", -32600),
        ('{"jsonrpc": "1.0", "id": 3, "method": "ping"}', -32600), ('{"jsonrpc": "2.0", "id": 4}', -32600),
    ):  # fmt: skip
        found = session(line)
        assert found["error"]["code"] == code and found["id"] in (None, 3, 4)
    session(json.dumps({"jsonrpc": "2.0", "method": "x" * 1_000_000}), answered=False)
    assert session(method="ping")["result"] == {}, "it goes on"


@pytest.mark.parametrize(("asked", "agreed"), [("2024-11-05", "2024-11-05"), ("1999-01-01", None)])
def test_versions_are_negotiated(session: Send, asked: str, agreed: str | None) -> None:
    found = opened(session, asked)["result"]["protocolVersion"]
    assert found == agreed if agreed else found != asked
    assert session(method="tools/list")["result"]["tools"]


def test_the_sdks_client_agrees(folder: Path) -> None:
    pytest.importorskip("mcp", reason="the extra mcp is not installed")
    import anyio
    from mcp.client.client import Client

    from isocenter.verbs.mcp import server_of

    async def talk() -> None:
        async with Client(server_of(examined("brain"))) as client:
            assert [t.name for t in (await client.list_tools()).tools] == list(TOOLS)
            found = await client.call_tool("compare", {"about": "hippocampus", "side": "left"})
            assert found.structured_content["pairs"][0]["earlier"]["quantities"][0]["value"] == 1.976
            assert (await client.call_tool("find", {"about": "liver"})).is_error

    anyio.run(talk)


def test_without_the_sdk_it_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.stdio", None)
    assert cli.run(["mcp", "--result", str(folder)]) == cli.Exit.MODEL
    assert "isocenter[mcp]" in capsys.readouterr().err
