"""The node's web server: who comes in, what is told, and how it starts and stops."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from pathlib import Path

import pytest

from isocenter.clinic.workflow import open_ledger
from isocenter.core.errors import ConfigError
from isocenter.verbs.clinic import load_clinic_config
from unit.verbs.clinic.test_clinic_config import written

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
from isocenter.verbs.clinic.web import WEB_FILE, NodeWeb, check_web, node_app, run_web  # noqa: E402

TOKEN = "a token of many letters".replace(" ", "-")


@pytest.fixture
def token(tmp_path: Path) -> dict:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    return {"file": str(file)}


@pytest.fixture
def web(tmp_path: Path, token: dict) -> NodeWeb:
    config = load_clinic_config(written(tmp_path, {"web": {"token": token, "names": ["node.example"]}}))
    config.store.mkdir(mode=0o700)
    return NodeWeb(config, open_ledger(config.database_url("ledger.db")), config.store)


def asked(app, method, path, **more):
    """Send one request to an app, in this process."""

    async def ask():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {TOKEN}", **more.pop("headers", {})}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8480") as client:
            return await client.request(method, path, headers=headers, **more)

    return asyncio.run(ask())


def test_nobody_comes_in_without_the_token(web: NodeWeb) -> None:
    app = node_app(web)
    assert asked(app, "GET", "/health", headers={"Authorization": ""}).json()["status"] == "ok"
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        for path in ("/node/v1/openapi.json", "/nowhere"):
            answer = asked(app, "GET", path, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert TOKEN not in answer.text
    answer = asked(app, "GET", "/node/v1/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert asked(app, "GET", "/nowhere").json()["code"] == "not_found"
    assert asked(app, "GET", "/health", headers={"Host": "evil.example"}).status_code == 421
    assert asked(app, "GET", "/health", headers={"Host": "node.example"}).status_code == 200
    assert asked(app, "POST", "/health", headers={"Origin": "http://evil.example"}).status_code == 403
    assert asked(app, "POST", "/health", content=b"x" * (5 << 20)).status_code == 413


def test_a_defect_tells_its_kind_and_no_more(web: NodeWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    app = node_app(web)

    @app.get("/broken")
    def broken() -> None:
        raise ValueError("Doe^Jane")

    answer = asked(app, "GET", "/broken")
    assert (answer.status_code, answer.json()["code"]) == (500, "defect")
    assert "Doe" not in answer.text


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "one token"),
        ({"host": "0.0.0.0"}, "travel in the clear"),
        ({"tls": {}}, "needs certificate and key"),
        ({"public_url": "node.example"}, "web.public_url"),
    ],
)
def test_what_is_not_safe_is_no_setting(section: dict, message: str, tmp_path: Path, token: dict) -> None:
    section = section if not section else {"token": token, **section}
    with pytest.raises(ConfigError, match=message):
        load_clinic_config(written(tmp_path, {"web": section}))


def test_what_is_missing_is_told_before_the_node_starts(tmp_path: Path, token: dict) -> None:
    Path(token["file"]).write_text("short")
    with pytest.raises(ConfigError, match="16 or more"):
        check_web(load_clinic_config(written(tmp_path, {"web": {"token": token, "port": 0}})))
    Path(token["file"]).write_text(TOKEN)
    tls = {"certificate": str(tmp_path / "away.pem"), "key": str(tmp_path / "away.key")}
    with pytest.raises(ConfigError, match="is not there"):
        check_web(load_clinic_config(written(tmp_path, {"web": {"token": token, "port": 0, "tls": tls}})))


@pytest.mark.enable_socket
def test_it_listens_and_stops_when_it_is_told(tmp_path: Path, token: dict) -> None:
    config = load_clinic_config(written(tmp_path, {"web": {"token": token, "port": 0}}))
    config.store.mkdir(mode=0o700)
    stop = threading.Event()
    loggers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "isocenter.viewer")]
    before = [logger.handlers[:] for logger in loggers]
    server = threading.Thread(target=run_web, args=(config, stop.is_set))
    server.start()
    try:
        place = config.store / WEB_FILE
        while server.is_alive() and not place.is_file():
            server.join(0.05)
        port = json.loads(place.read_text())["port"]
        assert httpx.get(f"http://127.0.0.1:{port}/health").json()["status"] == "ok"
        assert httpx.get(f"http://127.0.0.1:{port}/node/v1/openapi.json").status_code == 401
    finally:
        stop.set()
        server.join(10)
    assert not server.is_alive()
    assert not place.exists()
    assert [logger.handlers for logger in loggers] == before, "a node's log has its form and secrecy from the node"
