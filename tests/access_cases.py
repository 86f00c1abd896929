"""An app behind the access layer, with accounts and tokens of every role; hashing is made cheap, time is ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from isocenter.clinic.access import (
    ROLES,
    SCOPES,
    Access,
    Event,
    LayerSettings,
    Passwords,
    Provider,
    Rates,
    Sessions,
    Table,
    Trail,
    open_accounts,
    protect,
)
from isocenter.clinic.access.limits import Rate
from isocenter.clinic.access.rules import rules
from isocenter.clinic.access.table import ACCESS_RULES
from postgres_peer import Databases

BASE = "http://127.0.0.1"
PASSWORD = "correct horse battery staple"
START = 1_000_000.0


@dataclass
class Clock:
    """A clock that is set by hand."""

    now: float = START

    def __call__(self) -> float:
        return self.now


@dataclass
class Kept:
    """A sink that keeps events in memory, and fails where it is told to."""

    events: list[Event] = field(default_factory=list)
    fails: bool = False

    def append(self, events: Sequence[Event]) -> None:
        if self.fails:
            raise OSError(28, "No space left on device")
        self.events.extend(events)

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]


TABLE = Table((
    *ACCESS_RULES,
    *rules("viewer", "public", "GET /health", told=False),
    *rules("viewer", "admin radiologist reader", """
        GET /
        GET /studies/{study}
        GET /stream
        """),
    *rules("viewer", "radiologist", """
        POST /studies/{study}
        WEBSOCKET /socket
        """),
    *rules("dicomweb", "admin service", "POST /dicomweb/studies"),
    *rules("panel", "admin", "GET /panel"),
))  # fmt: skip


async def _echo(request: Request) -> JSONResponse:
    body = await request.body()
    return JSONResponse({"reader": request.headers.get("x-isocenter-reader", ""), "bytes": len(body)})


async def _stream(_request: Request) -> StreamingResponse:
    async def parts() -> Iterator[bytes]:
        for _ in range(200):
            yield b"part"
            await asyncio.sleep(0.01)

    return StreamingResponse(parts())


async def _socket(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


def toy_app() -> Starlette:
    """Return an app with the routes of `TABLE`."""
    get = [Route(path, _echo) for path in ("/", "/health", "/studies/{study}", "/panel")]
    post = [Route(path, _echo, methods=["POST"]) for path in ("/studies/{study}", "/dicomweb/studies")]
    return Starlette(routes=[*get, *post, Route("/stream", _stream), WebSocketRoute("/socket", _socket)])


@dataclass
class Guarded:
    """An app behind the layer.

    Args:
        app: It.
        access: What the layer asks.
        kept: Its record.
        clock: Its time.
        tokens: By role, of all scopes.
    """

    app: Starlette
    access: Access
    kept: Kept
    clock: Clock
    tokens: dict[str, str]

    def client(self, token: str = "", base: str = BASE) -> TestClient:
        """Return a browser or program that nobody knows yet, or that sends a token."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return TestClient(self.app, base_url=base, headers=headers, follow_redirects=False)

    def signed_in(self, name: str, password: str = PASSWORD, base: str = BASE) -> TestClient:
        """Return a browser in which somebody has signed in; it sends Origin and CSRF token with what it does."""
        client = self.client(base=base)
        answer = sign_in(client, name, password)
        assert answer.status_code == 303, answer.text
        client.headers["Origin"] = base
        client.headers["X-CSRF-Token"] = client.get("/access/v1/me").json()["csrf"]
        return client


def sign_in(client: TestClient, name: str, password: str = PASSWORD, **more: str):  # type: ignore[no-untyped-def]
    """Fill in the login page and send it, as a browser does."""
    page = client.get("/login").text
    csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
    form = {"csrf": csrf, "next": "/", "name": name, "password": password, **more}
    return client.post("/login", data=form, headers={"Origin": str(client.base_url).rstrip("/")})


@contextmanager
def guarded(
    folder: Path, *, app: Starlette | None = None, table: Table = TABLE, provider: Provider | None = None,
    settings: LayerSettings | None = None, databases: Databases | None = None,
) -> Iterator[Guarded]:  # fmt: skip
    """An app behind the layer, with an account and a token of every role ("admin", "radiologist", ...)."""
    clock, kept = Clock(), Kept()
    accounts = open_accounts((databases or Databases()).url(folder, "access.db"), Passwords(1, 8, 1))
    accounts.clock = clock
    settings = settings or LayerSettings(
        check_s=0.02, rates=Rates(Rate(1e-6, 1000), Rate(1e-6, 1000), Rate(1e-6, 1000))
    )
    access = Access(accounts, Sessions(accounts), table, settings, Trail(kept), provider)
    for role in ROLES:
        if role != "service":
            accounts.add_user(role, role, PASSWORD)
    tokens = {role: accounts.add_token(f"{role}-token", role, SCOPES, START + 86400) for role in ROLES}
    app = app or toy_app()
    protect(app, access)
    try:
        yield Guarded(app, access, kept, clock, tokens)
    finally:
        access.close()
