"""The layer: who is let in, as what, from which page, and how soon somebody is out again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from access_cases import BASE, PASSWORD, START, Guarded, guarded, sign_in, toy_app
from isocenter.clinic.access import LayerSettings, Rates, protect
from isocenter.clinic.access.limits import Rate
from isocenter.core.errors import ConfigError

SOCKET = "ws://127.0.0.1/socket"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Guarded]:
    with guarded(tmp_path) as found:
        yield found


def test_nobody_is_let_in_but_where_everybody_is(node: Guarded) -> None:
    client = node.client()
    assert client.get("/health").status_code == 200
    for path in ("/studies/1.2", "/panel", "/no/such"):
        answer = client.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["code"] == "unauthorized"


def test_a_browser_is_sent_to_the_login_page(node: Guarded) -> None:
    answer = node.client().get("/studies/1.2", headers={"Accept": "text/html"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=/studies/1.2"


def test_a_link_of_another_site_asks_again_with_the_cookie(node: Guarded) -> None:
    headers = {"Accept": "text/html", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
    answer = node.client().get("/studies/1.2", headers=headers)
    assert answer.status_code == 200
    assert 'content="0;url=/studies/1.2"' in answer.text


@pytest.mark.parametrize("given", ["wrong", "", "isct_" + "a" * 43, "ü".encode().decode("latin-1")])
def test_a_token_that_is_none(node: Guarded, given: str) -> None:
    headers = {b"Authorization": b"Bearer " + given.encode("latin-1")}
    assert node.client().get("/studies/1.2", headers=headers).status_code == 401  # type: ignore[arg-type]


def test_a_wrong_token_is_not_made_good_by_a_session(node: Guarded) -> None:
    client = node.signed_in("reader")
    assert client.get("/studies/1.2").status_code == 200
    assert client.get("/studies/1.2", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/studies/1.2", headers={"Authorization": "Bearer "}).status_code == 200


def test_an_expired_token(node: Guarded) -> None:
    client = node.client(node.tokens["reader"])
    assert client.get("/studies/1.2").status_code == 200
    node.clock.now = START + 86400
    assert client.get("/studies/1.2").status_code == 401


def test_a_revoked_token(node: Guarded) -> None:
    client = node.client(node.tokens["reader"])
    node.access.accounts.revoke_token("reader-token")
    assert client.get("/studies/1.2").status_code == 401


def test_a_token_is_held_by_its_scopes(node: Guarded) -> None:
    secret = node.access.accounts.add_token("stow", "admin", ("dicomweb",), START + 60)
    client = node.client(secret)
    assert client.post("/dicomweb/studies").status_code == 200
    assert client.get("/panel").status_code == 403
    assert client.get("/studies/1.2").status_code == 403


def test_a_role_may_what_the_table_says(node: Guarded) -> None:
    reader = node.signed_in("reader")
    assert reader.get("/studies/1.2").status_code == 200
    assert reader.post("/studies/1.2").status_code == 403
    assert reader.get("/panel").status_code == 403
    assert node.signed_in("radiologist").post("/studies/1.2").status_code == 200
    assert node.signed_in("admin").get("/panel").status_code == 200


def test_what_the_table_does_not_name(node: Guarded) -> None:
    client = node.client(node.tokens["admin"])
    assert client.get("/no/such").status_code == 404
    answer = client.delete("/panel")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET"
    assert client.get("/panel/").status_code == 404
    assert client.get("/panel%0a").status_code == 400


def test_an_app_with_a_route_that_nobody_judged_does_not_start(node: Guarded) -> None:
    app = toy_app()
    app.router.routes.append(Route("/new", lambda _: PlainTextResponse("")))
    with pytest.raises(ConfigError, match="GET /new"):
        protect(app, node.access)
    hidden = Starlette(routes=[Mount("/deep", app=Starlette())])
    with pytest.raises(ConfigError, match="/deep"):
        protect(hidden, node.access)


def test_who_acts_is_said_by_the_layer_alone(node: Guarded) -> None:
    client = node.signed_in("radiologist")
    answer = client.post("/studies/1.2", headers={"X-Isocenter-Reader": "somebody else"})
    assert answer.json()["reader"] == "radiologist"
    assert node.client().get("/health", headers={"X-Isocenter-Reader": "admin"}).json()["reader"] == ""


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9", "https://127.0.0.1"])
def test_another_sites_page_can_not_act(node: Guarded, origin: str) -> None:
    client = node.signed_in("radiologist")
    answer = client.post("/studies/1.2", headers={"Origin": origin})
    assert answer.status_code == 403
    assert answer.json()["code"] == "origin"


def test_a_session_acts_by_its_csrf_token(node: Guarded) -> None:
    client = node.signed_in("radiologist")
    right = client.headers["X-CSRF-Token"]
    for wrong in ("", "x", right[:-1], node.signed_in("radiologist").headers["X-CSRF-Token"]):
        assert client.post("/studies/1.2", headers={"X-CSRF-Token": wrong}).json()["code"] == "csrf"
    del client.headers["Origin"]
    assert client.post("/studies/1.2").json()["code"] == "origin"
    assert client.post("/studies/1.2", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


@pytest.mark.parametrize("cookie", ["x", "", "a=b; isocenter-session=", "isocenter-session=%00"])
def test_a_forged_cookie(node: Guarded, cookie: str) -> None:
    assert node.client().get("/studies/1.2", headers={"Cookie": f"isocenter-session={cookie}"}).status_code == 401


def test_two_cookies_of_one_name_are_none(node: Guarded) -> None:
    """A page of a sister host may set a cookie of our name for both; which came first is not to be guessed."""
    client = node.signed_in("reader")
    secret = client.cookies["isocenter-session"]
    twice = {"Cookie": f"isocenter-session=x; isocenter-session={secret}"}
    assert node.client().get("/studies/1.2", headers=twice).status_code == 401


def test_a_session_ends(node: Guarded) -> None:
    client = node.signed_in("reader")
    for _ in range(20):
        node.clock.now += 1700
        assert client.get("/studies/1.2").status_code == 200
    node.clock.now += 1800
    assert client.get("/studies/1.2").status_code == 401
    client = node.signed_in("reader")
    began = node.clock.now
    while node.clock.now - began < 36000 - 900:
        node.clock.now += 900
        assert client.get("/studies/1.2").status_code == 200
    node.clock.now = began + 36000
    assert client.get("/studies/1.2").status_code == 401


def test_a_login_begins_a_session_of_its_own(node: Guarded) -> None:
    client = node.client()
    sign_in(client, "reader")
    before = client.cookies["isocenter-session"]
    client.cookies.set("isocenter-login", "c")
    form = {"csrf": "c", "name": "reader", "password": PASSWORD}
    after = client.post("/login", data=form, headers={"Origin": BASE}).cookies["isocenter-session"]
    assert after != before
    assert node.client().get("/studies/1.2", headers={"Cookie": f"isocenter-session={before}"}).status_code == 401


def test_a_session_of_somebody_elses_choosing_is_not_taken_over(node: Guarded) -> None:
    client = node.client()
    client.cookies.set("isocenter-session", "chosen-by-an-attacker")
    client.cookies.set("isocenter-login", "c")
    client.post(
        "/login", data={"csrf": "c", "name": "reader", "password": PASSWORD, "next": "/"}, headers={"Origin": BASE}
    )
    values = [cookie.value for cookie in client.cookies.jar if cookie.name == "isocenter-session"]
    assert "chosen-by-an-attacker" not in values[-1:]
    stolen = {"Cookie": "isocenter-session=chosen-by-an-attacker"}
    assert node.client().get("/studies/1.2", headers=stolen).status_code == 401


def test_signing_out(node: Guarded) -> None:
    client = node.signed_in("reader")
    secret = client.cookies["isocenter-session"]
    assert client.post("/logout", headers={"X-CSRF-Token": "x"}).status_code == 403
    answer = client.post("/logout", data={"csrf": client.headers["X-CSRF-Token"]})
    assert answer.status_code == 303
    assert answer.headers["clear-site-data"] == '"cache", "storage"'
    assert node.client().get("/studies/1.2", headers={"Cookie": f"isocenter-session={secret}"}).status_code == 401


@pytest.mark.parametrize("change", ["revoke_user", "role", "password"])
def test_a_change_of_the_account_ends_its_sessions(node: Guarded, change: str) -> None:
    client, accounts = node.signed_in("reader"), node.access.accounts
    if change == "revoke_user":
        accounts.revoke_user("reader")
    elif change == "role":
        accounts.set_role("reader", "admin")
    else:
        accounts.set_password("reader", "entirely another phrase")
    assert client.get("/studies/1.2").status_code == 401


def test_a_socket_needs_somebody_and_our_page(node: Guarded) -> None:
    for client, headers in (
        (node.client(), {}),
        (node.signed_in("reader"), {}),
        (node.signed_in("radiologist"), {"Origin": "https://evil.example"}),
    ):
        with pytest.raises(Exception) as refused, client.websocket_connect(SOCKET, headers=headers):
            pass
        assert getattr(refused.value, "status_code", 1008) in (401, 403, 1008)


@pytest.mark.parametrize("by", ["token", "session"])
def test_an_open_socket_of_somebody_who_is_revoked_ends(node: Guarded, by: str) -> None:
    client = node.client(node.tokens["radiologist"]) if by == "token" else node.signed_in("radiologist")
    with client.websocket_connect(SOCKET) as socket:
        socket.send_text("hello")
        assert socket.receive_text() == "hello"
        if by == "token":
            node.access.accounts.revoke_token("radiologist-token")
        else:
            node.access.accounts.revoke_user("radiologist")
        with pytest.raises(WebSocketDisconnect) as ended:
            socket.receive_text()
    assert ended.value.code == 4401
    assert node.kept.of("revoked-while-open")[0].who.startswith("radiologist")


def test_a_long_answer_to_somebody_who_is_revoked_is_cut(node: Guarded) -> None:
    client = node.client(node.tokens["reader"])
    got = b""
    with client.stream("GET", "/stream") as answer:
        node.access.accounts.revoke_token("reader-token")
        for part in answer.iter_bytes():
            got += part
    assert len(got) < 800


def test_a_token_by_subprotocol(node: Guarded) -> None:
    protocols = ["isocenter.v1", f"bearer.{node.tokens['radiologist']}"]
    with node.client().websocket_connect(SOCKET, subprotocols=protocols) as socket:
        socket.send_text("hello")
        assert socket.receive_text() == "hello"


@pytest.mark.parametrize("host", ["evil.example", "", "127.0.0.1.evil.example"])
def test_other_names_are_refused(node: Guarded, host: str) -> None:
    answer = node.client(node.tokens["admin"]).get("/panel", headers={"Host": host})
    assert answer.status_code == 421
    assert "evil" not in answer.headers["content-security-policy"]


def test_a_body_is_bounded(tmp_path: Path) -> None:
    with guarded(
        tmp_path, settings=LayerSettings(body_bytes=10, upload_bytes=20, upload_paths=("/dicomweb/",))
    ) as node:
        client = node.client(node.tokens["radiologist"])
        assert client.post("/studies/1.2", content=b"x" * 10).json()["bytes"] == 10
        assert client.post("/studies/1.2", content=b"x" * 11).status_code == 413
        assert client.post("/studies/1.2", content=iter([b"x" * 8, b"x" * 8])).status_code == 413
        admin = node.client(node.tokens["admin"])
        assert admin.post("/dicomweb/studies", content=iter([b"x" * 8, b"x" * 8])).status_code == 200
        assert client.post("/studies/1.2", headers={"Content-Length": "-1"}).status_code == 400


def test_every_answer_is_protected(node: Guarded) -> None:
    for answer in (node.client().get("/health"), node.client().get("/panel"), node.client().get("/login")):
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "strict-transport-security" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
    assert "strict-transport-security" in node.client(base="https://127.0.0.1").get("/health").headers


def test_cookies_under_tls(node: Guarded) -> None:
    client = node.client(base="https://127.0.0.1")
    answer = sign_in(client, "reader")
    cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith("__Host-isocenter-session="))
    assert {"httponly", "path=/", "samesite=strict", "secure"} <= {p.strip().lower() for p in cookie.split(";")}
    assert client.get("/studies/1.2").status_code == 200


def test_a_proxy_that_is_trusted_says_who_and_how(tmp_path: Path) -> None:
    with guarded(tmp_path, settings=LayerSettings(proxies=("10.0.0.0/8",))) as node:
        bearer = {"Authorization": f"Bearer {node.tokens['reader']}"}
        for peer, address in (("10.1.1.1", "192.0.2.7"), ("192.0.2.1", "192.0.2.1")):
            client = TestClient(node.app, base_url=BASE, client=(peer, 5), headers=bearer)
            headers = {"X-Forwarded-For": "1.2.3.4, 192.0.2.7, 10.0.0.3", "X-Forwarded-Proto": "https"}
            answer = client.get("/studies/1.2", headers=headers)
            assert node.kept.events[-1].address == address
            assert ("strict-transport-security" in answer.headers) == (peer == "10.1.1.1")


def test_asking_too_often(tmp_path: Path) -> None:
    rates = Rates(Rate(60.0, 2), Rate(60.0, 3), Rate(60.0, 2))
    with guarded(tmp_path, settings=LayerSettings(rates=rates)) as node:
        unknown = node.client()
        assert [unknown.get("/panel").status_code for _ in range(4)] == [401, 401, 429, 429]
        known = node.client(node.tokens["admin"])
        answers = [known.get("/panel") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert 55 <= int(answers[-1].headers["retry-after"]) <= 60
        assert node.client(node.tokens["reader"]).get("/studies/1.2").status_code == 200


def test_everything_is_in_the_record_before_it_is_answered(node: Guarded) -> None:
    node.client(node.tokens["reader"]).get("/studies/1.2.3")
    node.client(node.tokens["reader"]).get("/panel")
    read, refused = node.kept.of("access")[-2:]
    assert (read.who, read.role, read.act, read.outcome, read.status) == ("reader-token", "reader", "R", 0, 200)
    assert read.what == "GET /studies/{study}"
    assert read.study.startswith("c47f5b18")
    assert "1.2.3" not in str(read)
    assert (refused.outcome, refused.status, refused.what) == (4, 403, "GET /panel")


def test_what_can_not_be_recorded_is_not_done(node: Guarded) -> None:
    client = node.client(node.tokens["radiologist"])
    node.kept.fails = True
    for _ in range(2):
        answer = client.post("/studies/1.2")
        assert answer.status_code == 503
        assert "reader" not in answer.text
    assert client.get("/health").status_code == 200
    node.kept.fails = False
    assert client.post("/studies/1.2").status_code == 200


def test_accounts_that_can_not_be_reached_let_nobody_in(node: Guarded) -> None:
    from sqlalchemy import text

    with node.access.accounts.engine.begin() as connection:
        connection.execute(text("ALTER TABLE access_tokens RENAME TO gone"))
    assert node.client(node.tokens["admin"]).get("/panel").status_code == 503
