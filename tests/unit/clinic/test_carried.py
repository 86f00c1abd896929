"""Answers that can't go on: they end without a word to the reader that isn't true, and without a trace in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from access_cases import guarded
from isocenter.clinic.carried import BROKEN_OFF, Gone, broken_off, carried
from isocenter.core.errors import PixelError
from isocenter.viewer.problems import add_handlers
from isocenter.viewer.security import Guard
from isocenter.viewer.settings import Settings

TOKEN = "a-token-of-the-tests"
SECRET = "Doe^Jane"


def app_that_breaks(error: Exception) -> FastAPI:
    """An app whose long answer breaks when it has begun."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    add_handlers(app)

    @app.get("/stream")
    def long() -> StreamingResponse:
        def pieces() -> Iterator[bytes]:
            yield b"piece"
            raise error

        return StreamingResponse(pieces(), media_type="application/octet-stream")

    return app


def ask(app: Callable[..., Any], token: str) -> list[dict[str, Any]]:
    """Ask an app as a server does; return what it sends."""
    sent: list[dict[str, Any]] = []
    heard = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def run() -> None:
        ended = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if (told := next(heard, None)) is None:
                await ended.wait()
            return told or {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {token}".encode())]
        scope = {
            "type": "http", "method": "GET", "path": "/stream", "raw_path": b"", "query_string": b"",
            "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "scheme": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"}, "root_path": "", "http_version": "1.1",
        }  # fmt: skip
        await app(scope, receive, send)
        ended.set()

    asyncio.run(run())
    return sent


@pytest.fixture(autouse=True)
def _propagated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests may have given the server's logger a handler of its own."""
    monkeypatch.setattr(logging.getLogger("isocenter.viewer"), "propagate", True)


@pytest.mark.parametrize("layer", ["guard", "access"])
@pytest.mark.parametrize("error", [PixelError(SECRET), FileNotFoundError(SECRET), ZeroDivisionError(SECRET)])
def test_an_answer_that_breaks_in_its_middle_is_left_unfinished(
    layer: str, error: Exception, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_that_breaks(error)
    with caplog.at_level(logging.INFO):
        if layer == "guard":
            app.add_middleware(Guard, settings=Settings(token=TOKEN, host="127.0.0.1", port=80))
            sent = ask(app, TOKEN)
        else:
            with guarded(tmp_path, app=app) as node:
                sent = ask(node.app, node.tokens["admin"])
    assert sent[0]["type"] == "http.response.start"
    assert sent[0]["status"] == 200
    assert b"".join(m.get("body", b"") for m in sent[1:]) == b"piece"
    assert all(m["more_body"] for m in sent[1:]), "an end would say that it is whole"
    assert SECRET not in caplog.text
    assert "Traceback" not in caplog.text
    # What can't be read is no defect of ours; what divides by zero is.
    assert (BROKEN_OFF in caplog.text) == (not isinstance(error, ZeroDivisionError))
    assert ("a defect of Isocenter" in caplog.text) == isinstance(error, ZeroDivisionError)


def test_what_starlette_wraps_is_known_by_its_cause() -> None:
    wrapped = RuntimeError("Caught handled exception, but response already started.")
    assert not broken_off(wrapped)
    wrapped.__cause__ = PixelError("x")
    assert broken_off(wrapped)
    wrapped.__cause__ = KeyError("x")
    assert not broken_off(wrapped)


def test_an_app_on_a_line_that_is_gone_ends_when_the_server_has_seen_it() -> None:
    heard = iter(({"type": "http.request", "body": b""}, {"type": "http.disconnect"}))
    noticed = []

    async def app(_scope: object, _receive: object, send: Callable[..., Any]) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        except Gone as gone:
            noticed.append(gone)
            raise

    async def receive() -> dict[str, Any]:
        return next(heard)

    async def send(_message: object) -> None:
        raise ValueError("can't handle event type Response when role=SERVER and state=MUST_CLOSE")

    asyncio.run(carried(app, {"type": "http"}, receive, send))
    assert noticed
    assert next(heard, None) is None
