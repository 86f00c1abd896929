"""Who may speak to the server: token, Host, Origin, lengths, headers, and names that are no paths."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from isocenter.viewer.security import Guard, security_headers
from isocenter.viewer.settings import Settings
from serving_cases import API, BASE, NAME, TOKEN, opened, served, studies, write_folder

pytest.importorskip("fastapi")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("security")
    page = folder / "page"
    (page / "assets").mkdir(parents=True)
    (page / "index.html").write_text("<!doctype html><title>page</title>", "utf-8")
    (page / "assets" / "main-1a2b.js").write_text("export const x = 1;", "utf-8")
    (folder / "secret.txt").write_text("secret", "utf-8")
    with served(write_folder(folder / "in"), folder / "work", page=page) as found:
        yield found


def bare(client: TestClient) -> TestClient:
    """The same server, asked without a token."""
    return TestClient(client.app, base_url=BASE)


def test_what_needs_no_token(client: TestClient) -> None:
    for path in ("/", "/index.html", "/assets/main-1a2b.js", f"{API}/health"):
        assert bare(client).get(path).status_code == 200, path


@pytest.mark.parametrize(
    "path", ["/info", "/studies", "/studies/0123456789abcdef", "/images/0123456789abcdef/pixels", "/openapi.json", "/x"]
)
def test_everything_else_does(client: TestClient, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": "Basic e30="}):
        answer = bare(client).get(f"{API}{path}", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["code"] == "unauthorized"


def test_a_token_in_the_address_is_none(client: TestClient) -> None:
    assert bare(client).get(f"{API}/studies", params={"token": TOKEN}).status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8470", "", "[::2]:8470"])
def test_other_names_are_refused(client: TestClient, host: str) -> None:
    """DNS rebinding: a page of another site whose name was made to point here."""
    answer = client.get(f"{API}/health", headers={"Host": host})
    assert answer.status_code == 421
    assert answer.json()["code"] == "host"


@pytest.mark.parametrize("host", ["127.0.0.1:8470", "localhost:1", "LOCALHOST", "[::1]:8470"])
def test_own_names_are_known(client: TestClient, host: str) -> None:
    assert client.get(f"{API}/health", headers={"Host": host}).status_code == 200


def test_requests_of_other_sites_are_refused(client: TestClient) -> None:
    path = f"{API}/studies/0123456789abcdef/readings"
    for origin in ("https://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8470"):
        answer = client.post(path, json={}, headers={"Origin": origin})
        assert (answer.status_code, answer.json()["code"]) == (403, "origin")
    assert client.post(path, json={}, headers={"Origin": BASE}).status_code == 404
    # Reading needs the token, which another site has not; the answer names nobody who may share it.
    answer = client.get(f"{API}/studies", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_sockets_are_guarded_before_any_route_sees_them(client: TestClient) -> None:
    path = f"{API}/sessions/0123456789abcdef/socket"
    for headers, protocols in (
        ({}, []),
        ({}, ["isocenter.v1", "bearer.wrong"]),
        ({"Origin": "https://evil.example"}, ["isocenter.v1", f"bearer.{TOKEN}"]),
        ({"Host": "evil.example"}, ["isocenter.v1", f"bearer.{TOKEN}"]),
    ):
        with (
            pytest.raises(WebSocketDisconnect),
            bare(client).websocket_connect(path, subprotocols=protocols, headers=headers),
        ):
            pass


def test_a_body_that_is_too_long(client: TestClient) -> None:
    path = f"{API}/studies/0123456789abcdef/readings"
    long = b"x" * ((1 << 20) + 1)
    told = client.post(path, content=long, headers={"Content-Type": "application/json"})
    assert (told.status_code, told.json()["code"]) == (413, "too_large")

    def pieces() -> Iterator[bytes]:  # without Content-Length
        for _ in range(20):
            yield b"x" * (1 << 16)

    untold = client.post(path, content=pieces(), headers={"Content-Type": "application/json"})
    assert (untold.status_code, untold.json()["code"]) == (413, "too_large")
    assert client.post(path, content=b"{", headers={"Content-Length": "1x"}).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../../secret.txt",
        "/assets/%2e%2e/%2e%2e/secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/assets//etc/passwd",
        "/assets/%2fetc%2fpasswd",
        "/assets/..\\..\\secret.txt",
        "/assets/main-1a2b.js%00",
        f"{API}/images/..%2f..%2fsecret.txt",
        f"{API}/images/%2e%2e/nifti",
        f"{API}/readings/..%2f..%2f/files/secret.txt",
        f"{API}/readings/0123456789abcdef/files/../../../../secret.txt",
        f"{API}/readings/0123456789abcdef/files/%2e%2e%2f%2e%2e%2fsecret.txt",
        f"{API}/studies/..%2f..%2fsecret.txt",
        f"{API}/studies/../../../secret.txt",
        f"{API}/jobs/..%2fsecret.txt",
    ],
)
def test_names_are_no_paths(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (404, 405, 422)
    assert b"secret" not in answer.content.replace(b"secret.txt", b"")
    assert b"root:" not in answer.content


def test_headers_of_every_answer(client: TestClient) -> None:
    for answer in (
        client.get("/"),
        client.get(f"{API}/studies"),
        client.get(f"{API}/studies/0123456789abcdef"),
        bare(client).get(f"{API}/studies"),
        client.get(f"{API}/health", headers={"Host": "evil.example"}),
    ):
        policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert "unsafe-inline" not in policy["script-src"] and "unsafe-eval" not in policy["script-src"].replace(
            "wasm-unsafe-eval", ""
        )
        assert not any("http" in value for value in policy.values())
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers
    assert client.get(f"{API}/studies").headers["cache-control"] == "no-store"
    assert client.get("/assets/main-1a2b.js").headers["cache-control"].endswith("immutable")
    assert client.get("/assets/main-1a2b.js").headers["content-type"].startswith("text/javascript")


def test_sockets_may_be_opened_to_the_own_name_alone() -> None:
    assert "connect-src 'self' ws://localhost:8470 wss://localhost:8470;" in str(
        security_headers("localhost:8470")["content-security-policy"] + ";"
    )


def test_a_defect_is_told_without_its_text(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from isocenter.verbs.serving.library import StudyLibrary

    def broken(*_: object) -> object:
        raise RuntimeError(f"a header said {NAME}")

    monkeypatch.setattr(StudyLibrary, "studies", broken)
    answer = client.get(f"{API}/studies")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "defect" and "RuntimeError" in answer.json()["detail"]
    assert "Doe" not in answer.text and "content-security-policy" in answer.headers


def test_no_answer_names_the_patient_or_a_place_on_the_disk(client: TestClient) -> None:
    texts = [client.get(f"{API}/info").text, client.get(f"{API}/studies").text]
    for item in studies(client):
        detail = opened(client, item["id"])
        texts.append(str(detail))
        texts += [client.get(f"{API}/images/{image['id']}").text for image in detail["images"]]
    for text in texts:
        assert "Doe" not in text and "Jane" not in text and "'P1'" not in text
        assert "/tmp" not in text and str(Path.home()) not in text


def test_the_openapi_is_served(client: TestClient) -> None:
    document = client.get(f"{API}/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert f"{API}/images/{{image}}/pixels" in document["paths"]
    assert "ImageItem" in document["components"]["schemas"]


def test_without_a_built_page_it_says_so(tmp_path: Path) -> None:
    with served(write_folder(tmp_path / "in"), tmp_path / "work", page=tmp_path / "none") as found:
        answer = found.get("/")
    assert answer.status_code == 503
    assert "make viewer" in answer.text


@pytest.mark.parametrize(
    "words", ["can't handle event type Response when role=SERVER and state=MUST_CLOSE", "a defect"]
)
def test_an_answer_to_a_line_that_was_given_up_is_no_defect(words: str) -> None:
    """A body that stopped being HTTP in its middle: uvicorn has closed the line, and says so in whatever is sent."""

    async def send(_message: object) -> None:
        raise ValueError(words)

    heard = iter([{"type": "http.request", "body": b""}, {"type": "http.disconnect"}] * 2)

    async def receive() -> dict[str, object]:
        return next(heard)

    guard = Guard(Response("there"), Settings(token=TOKEN, host="127.0.0.1", port=80))
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": [(b"host", b"127.0.0.1")]}
    if words == "a defect":
        with pytest.raises(ValueError, match="a defect"):
            asyncio.run(guard(scope, receive, send))
    else:
        asyncio.run(guard(scope, receive, send))
        given = {**scope, "headers": [*scope["headers"], (b"authorization", f"Bearer {TOKEN}".encode())]}
        asyncio.run(guard(given, receive, send))
        # uvicorn takes an app that ends before the line has been seen closed for one that forgot to answer
        assert next(heard, None) is None
