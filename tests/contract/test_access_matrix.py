"""The role matrix: every route of the node's and the viewer's app, asked by everybody there is.

What is expected is read from the authorisation table; what comes is the app's own answer. Nobody who may not gets past
the layer, everybody who may does, and a route that the table does not name makes this test fail (and the app, at its
start).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

pytest.importorskip("fastapi")
pytest.importorskip("argon2")
from isocenter.clinic.access import (
    NODE,
    ROLES,
    SCOPES,
    SOCKET,
    VIEWER,
    AccessLayer,
    NoRecord,
    Sessions,
    Table,
    Trail,
    protect,
    routes_of,
)
from isocenter.clinic.access.limits import Buckets, Rate
from isocenter.clinic.access.table import ACCESS_RULES
from isocenter.clinic.workflow import open_ledger
from isocenter.core.errors import ConfigError
from isocenter.verbs.clinic import access as verbs
from isocenter.verbs.clinic import load_clinic_config
from isocenter.verbs.clinic.config_web import WebConfig
from isocenter.verbs.clinic.web import NodeWeb, node_app
from isocenter.verbs.serve import ServeConfig, open_server
from serving_cases import write_folder
from unit.verbs.clinic.test_clinic_config import written

BASE = "http://127.0.0.1"
PASSED = "passed the layer"
WHO = (*ROLES, "anonymous", "expired", "revoked token", "revoked user")


@dataclass
class Matrix:
    """An app, and everybody's credentials.

    Args:
        app: It.
        table: Who may do what.
        file: The node's settings.
        headers: Of everybody in `WHO`.
        tokens: API tokens of everybody who has one.
    """

    app: Any
    table: Table
    file: Path
    headers: dict[str, dict[str, str]]
    tokens: dict[str, str]


@pytest.fixture(autouse=True, scope="module")
def _cheap() -> Iterator[None]:
    passwords = verbs.Passwords
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verbs, "Passwords", lambda: passwords(1, 8, 1))
        yield


def settled(folder: Path) -> Path:
    """Write the settings of a node with accounts."""
    web = {"names": [], "host": "127.0.0.1"}
    return written(folder, {"web": web, "access": {"requests": 100_000}})


def everybody(file: Path) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Make an account or token for everybody in `WHO`, and return how each asks."""
    config = load_clinic_config(file)
    tokens = {role: verbs.token_add(config, role, role, SCOPES, 1)[0] for role in ROLES}
    tokens["revoked token"] = verbs.token_add(config, "away", "admin", SCOPES, 1)[0]
    verbs.token_revoke(config, "away")
    accounts = verbs._accounts(config)
    tokens["expired"] = accounts.add_token("old", "admin", SCOPES, time.time() + 0.02)
    accounts.add_user("gone", "admin", "correct horse battery staple")
    secret = Sessions(accounts).open("gone", "127.0.0.1")
    accounts.revoke_user("gone")
    accounts.engine.dispose()
    time.sleep(0.03)
    headers = {who: {"Authorization": f"Bearer {token}"} for who, token in tokens.items()}
    return {**headers, "anonymous": {}, "revoked user": {"Cookie": f"isocenter-session={secret}"}}, tokens


async def _reached(scope: Any, receive: Any, send: Any) -> None:
    """Stand in for the app: what a route would do is not what is asked here, but whether it is reached."""
    await receive()
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": PASSED.encode()})


def stubbed(app: Any) -> AccessLayer:
    """Return the layer of an app, as the app has it, around what tells that it was reached; it has time for all."""
    layer = app.user_middleware[0]
    access = layer.kwargs["access"]
    access.unknown, access.trail = Buckets(Rate(1e-6, 10**6)), Trail(NoRecord())
    return layer.cls(_reached, **layer.kwargs)


async def ask(layer: AccessLayer, method: str, path: str, headers: dict[str, str]) -> int | str:
    """Ask for a path; return the status, or `PASSED`."""
    came: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"} if method == SOCKET else {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        came.append(message)

    sent = {"host": "127.0.0.1", **{name.lower(): value for name, value in headers.items()}}
    scope: dict[str, Any] = {
        "type": "http", "method": method, "path": path, "scheme": "http", "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()], "client": ("127.0.0.1", 5),
    }  # fmt: skip
    if method == SOCKET:
        scope |= {"type": "websocket", "scheme": "ws", "extensions": {"websocket.http.response": {}}}
    await layer(scope, receive, send)
    passed = came[0]["type"] == "websocket.accept" or came[-1].get("body") == PASSED.encode()
    return PASSED if passed else int(came[0]["status"])


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    file = settled(tmp_path_factory.mktemp("node"))
    headers, tokens = everybody(file)
    config = load_clinic_config(file)
    ledger = open_ledger(config.database_url("ledger.db"))
    app = node_app(NodeWeb(config, ledger, config.store))
    yield Matrix(app, NODE, file, headers, tokens)
    ledger.engine.dispose()


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    tmp_path = tmp_path_factory.mktemp("viewer")
    file = settled(tmp_path)
    headers, tokens = everybody(file)
    serving = open_server(ServeConfig(path=write_folder(tmp_path / "in"), work=tmp_path / "work", accounts=file))
    with TestClient(serving.app, base_url=BASE):
        yield Matrix(serving.app, VIEWER, file, headers, tokens)


async def asked(matrix: Matrix, layer: AccessLayer, who: str, method: str, path: str) -> int | str:
    """Ask for a route as somebody; return the status, or `PASSED`."""
    headers = {**matrix.headers[who], "Origin": BASE}
    if "{token}" in path:
        # MONAI Label's clients: the token in the path is the whole credential.
        path, headers = path.replace("{token}", matrix.tokens.get(who, "none")), {}
    return await ask(layer, method, re.sub(r"\{(\w+)(:\w+)?\}", "1", path), headers)


def expected(matrix: Matrix, who: str, method: str, path: str) -> int | str:
    """Return what the table says."""
    rule = next(r for r in matrix.table.rules if (r.method, r.path) == (method, path))
    if not rule.roles:
        return PASSED
    role = who if who in ROLES else None
    if role is None:
        return 401
    return PASSED if role in rule.roles else 403


def check(matrix: Matrix) -> None:
    routes = sorted(set(routes_of(matrix.app)))
    assert not matrix.table.missing(routes)
    layer = stubbed(matrix.app)

    async def all_of_them() -> list[Any]:
        wrong = []
        for method, path in routes:
            for who in matrix.headers:
                if "{token}" in path and who == "revoked user":
                    continue  # has no token
                came, meant = await asked(matrix, layer, who, method, path), expected(matrix, who, method, path)
                if came != meant:
                    wrong.append((who, method, path, came, meant))
        return wrong

    assert asyncio.run(all_of_them()) == []


def test_every_route_of_the_node_by_everybody(node: Matrix) -> None:
    check(node)


def test_every_route_of_the_viewer_by_everybody(viewer: Matrix) -> None:
    check(viewer)


def test_the_table_names_no_route_of_the_viewer_that_is_not_there(viewer: Matrix) -> None:
    """The node's depend on its settings: what it does not serve is named all the same."""
    own = {(rule.method, rule.path) for rule in ACCESS_RULES}
    named = {(rule.method, rule.path) for rule in viewer.table.rules} - own
    assert named <= set(routes_of(viewer.app)), sorted(named - set(routes_of(viewer.app)))


def test_every_scope_is_needed(node: Matrix) -> None:
    """A token of one scope passes on the routes of that scope, and on no other."""
    layer = stubbed(node.app)
    for scope in ("dicomweb", "metrics"):
        secret = verbs.token_add(node.file, f"only-{scope}", "admin", (scope,), 1)[0]
        for method, path in sorted(set(routes_of(node.app))):
            rule = next(r for r in NODE.rules if (r.method, r.path) == (method, path))
            headers = {"Authorization": f"Bearer {secret}"}
            came = asyncio.run(ask(layer, method, re.sub(r"\{[^}]*\}", "1", path), headers))
            assert (came == PASSED) == (not rule.roles or ("admin" in rule.roles and rule.scope == scope)), path


def test_a_route_that_nobody_judged_stops_the_node(node: Matrix) -> None:
    app = FastAPI(routes=node.app.routes, openapi_url=None, docs_url=None, redoc_url=None)
    app.add_api_route("/new", lambda: None, methods=["GET"])
    with pytest.raises(ConfigError, match="GET /new"):
        protect(app, node.app.user_middleware[0].kwargs["access"])


def test_the_web_server_has_a_token_or_accounts(tmp_path: Path) -> None:
    for changes in ({"web": {}}, {"web": {"token": {"env": "X"}}, "access": {}}):
        with pytest.raises(ConfigError, match="one token"):
            load_clinic_config(written(tmp_path, changes))
    assert WebConfig().token is None
