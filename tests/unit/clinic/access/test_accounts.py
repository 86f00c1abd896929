"""Accounts, passwords, tokens, and logins that fail."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from access_cases import BASE, PASSWORD, START, Guarded, guarded, sign_in
from isocenter.clinic.access import LayerSettings, Passwords, Rates, check_password, open_accounts
from isocenter.clinic.access.limits import Buckets, Proxies, Rate, place_of
from isocenter.clinic.access.tables import ACCESS, SESSIONS
from isocenter.core.errors import ConfigError, NotFound
from postgres_peer import Databases


@pytest.fixture
def node(tmp_path: Path, databases: Databases) -> Iterator[Guarded]:
    with guarded(tmp_path, databases=databases) as found:
        yield found


def test_there_is_no_account_at_first(tmp_path: Path, databases: Databases) -> None:
    accounts = open_accounts(databases.url(tmp_path, "new.db"), Passwords(1, 8, 1))
    assert accounts.users() == []
    assert accounts.tokens() == []
    accounts.engine.dispose()


def test_nothing_in_the_database_lets_anybody_in(node: Guarded, tmp_path: Path) -> None:
    client = node.signed_in("reader")
    with node.access.accounts.engine.connect() as connection:
        kept = "\n".join(str(row) for table in ACCESS.sorted_tables for row in connection.execute(select(table)))
    assert "$argon2id$v=19$" in kept
    for secret in (PASSWORD, client.cookies["isocenter-session"], *node.tokens.values()):
        assert secret not in kept
    for file in tmp_path.glob("access.db*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_database_that_others_may_read_is_taken_away_from_them(tmp_path: Path) -> None:
    file = tmp_path / "access.db"
    file.touch(0o644)
    os.chmod(file, 0o644)  # noqa: PTH101
    open_accounts(f"sqlite:///{file}", Passwords(1, 8, 1)).engine.dispose()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "password",
    [
        "short", "a" * 14, "a" * 20, "abcabcabcabcabcabc", "password12345678", "P4ssw0rd!P4ssw0rd!",
        "qwertyuiopasdfghjkl",
        "123456789012345678", "radiologist2024!", "reader-is-my-name", "abcdefghijklmnopqrst", "welcomewelcome1!",
        "x" * 257, "iloveyou12345678",
    ],
)  # fmt: skip
def test_passwords_that_are_not_taken(password: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_password(password, "reader")
    assert password not in str(refused.value)


@pytest.mark.parametrize(
    "password", [PASSWORD, "vier Wörter für heute", "k8$Wq!zL2#pX9@vR", "我的密码很长很长很长很长很长很长"]
)
def test_passwords_that_are_taken(password: str) -> None:
    assert check_password(password, "reader") == password


def test_a_password_is_the_same_however_it_is_typed() -> None:
    passwords = Passwords(1, 8, 1)
    kept = passwords.hash("Wo\u0308rter genug fu\u0308r heute")
    assert passwords.is_right("W\u00f6rter genug f\u00fcr heute", kept)
    assert not passwords.is_right("", "")
    assert not passwords.is_right("anything", "")
    assert not passwords.is_right("anything", "no hash at all")
    assert Passwords(2, 8, 1).is_old(kept)


def test_who_is_not_there_is_hashed_for_too(node: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known, unknown and revoked accounts cost one hash each: the time tells nobody which there are."""
    node.access.accounts.revoke_user("admin")
    asked = []
    right = Passwords.is_right
    monkeypatch.setattr(Passwords, "is_right", lambda self, p, kept: asked.append(bool(kept)) or right(self, p, kept))
    texts = [sign_in(node.client(), name, "wrong" * 5) for name in ("reader", "nobody", "admin")]
    assert asked == [True, False, False]
    assert {answer.status_code for answer in texts} == {401}
    assert all("Name and password do not fit." in answer.text for answer in texts)
    assert sign_in(node.client(), "admin").status_code == 401


def test_names_roles_and_scopes(node: Guarded) -> None:
    accounts = node.access.accounts
    for name in ("", "Upper", "a b", "-a", "a" * 65, "a\n", "<a>"):
        with pytest.raises(ConfigError):
            accounts.add_user(name, "reader", PASSWORD)
    with pytest.raises(ConfigError, match="a role is one of"):
        accounts.add_user("ada", "root", PASSWORD)
    with pytest.raises(ConfigError, match="scope"):
        accounts.add_token("t", "reader", (), START + 1)
    with pytest.raises(ConfigError, match="scope"):
        accounts.add_token("t", "reader", ("all",), START + 1)
    with pytest.raises(ConfigError, match="future"):
        accounts.add_token("t", "reader", ("viewer",), START)
    for change in (accounts.revoke_user, accounts.revoke_token):
        with pytest.raises(NotFound):
            change("nobody")


@pytest.mark.parametrize("name", ["reader\0", "\ud800", "reader\nx", "x" * 5000])
def test_what_is_no_name_is_nobody(node: Guarded, name: str) -> None:
    """A database that refuses such a text would have the node answer with an error."""
    accounts = node.access.accounts
    assert accounts.user(name) is None
    assert accounts.verify(name, PASSWORD) is None
    for change in (accounts.revoke_user, accounts.revoke_token):
        with pytest.raises(NotFound):
            change(name)
    with pytest.raises(ConfigError):
        accounts.take_in("somebody", "reader", f"https://issuer|{name}")
    if name.isascii():
        assert sign_in(node.client(), name).status_code == 401


def test_a_name_that_was_revoked_is_never_given_again(node: Guarded) -> None:
    node.access.accounts.revoke_user("reader")
    with pytest.raises(ConfigError, match="there is, or was"):
        node.access.accounts.add_user("reader", "admin", PASSWORD)
    with pytest.raises(ConfigError, match="there is, or was"):
        node.access.accounts.add_token("admin-token", "admin", ("viewer",), START + 1)


def test_guessing_has_to_wait_longer_and_longer(node: Guarded) -> None:
    waits = []
    for _ in range(9):
        answer = sign_in(node.client(), "reader", "wrong" * 5)
        if answer.status_code == 429:
            wait = int(answer.headers["retry-after"])
            waits.append(wait)
            assert sign_in(node.client(), "reader").status_code == 429  # the right password is not looked at either
            node.clock.now += wait
    assert waits == [15, 30]
    assert sign_in(node.client(), "reader").status_code == 429
    node.clock.now += 60
    assert sign_in(node.client(), "reader").status_code == 303
    assert sign_in(node.client(), "reader", "wrong" * 5).status_code == 401  # and it counts from the start again


def test_who_guesses_from_elsewhere_does_not_lock_the_owner_out(node: Guarded) -> None:
    for _ in range(8):
        node.access.attempts.failed("reader", "192.0.2.1")
    assert node.access.attempts.wait_s("reader", "192.0.2.1") > 0
    assert node.access.attempts.wait_s("reader", "10.0.0.1") == 0
    for n in range(60):
        node.access.attempts.failed("reader", f"198.51.100.{n}")
    assert 0 < node.access.attempts.wait_s("reader", "10.0.0.1") <= 300


def test_a_flood_of_logins(tmp_path: Path) -> None:
    with guarded(tmp_path, settings=LayerSettings(rates=Rates(login=Rate(60.0, 3)))) as node:
        answers = [sign_in(node.client(), f"name{n}", "wrong" * 5).status_code for n in range(6)]
        assert answers == [401, 401, 401, 429, 429, 429]
        assert [event.why for event in node.kept.of("login")] == ["unknown account"] * 3 + ["too often"] * 3
        assert "name1" not in str(node.kept.events)


def test_a_login_from_another_sites_page(node: Guarded) -> None:
    """Login CSRF: a page of another site signs its victim in as somebody else."""
    client = node.client()
    form = {"csrf": "x", "name": "reader", "password": PASSWORD}
    assert client.post("/login", data=form, headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.post("/login", data=form, headers={"Origin": BASE}).status_code == 403
    assert sign_in(client, "reader", csrf="y").status_code == 403
    assert "isocenter-session" not in client.cookies
    assert node.client().post("/login", json=form, headers={"Origin": BASE}).status_code == 400
    long = node.client().post("/login", data={"name": "x" * 20_000}, headers={"Origin": BASE})
    assert long.status_code == 400


def test_what_was_typed_is_shown_as_text(node: Guarded) -> None:
    page = sign_in(node.client(), '"><script>alert(1)</script>', "wrong" * 5).text
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_changing_the_password(node: Guarded) -> None:
    client, other = node.signed_in("reader"), node.signed_in("reader")
    form = {"csrf": client.headers["X-CSRF-Token"], "current": PASSWORD, "new": "entirely another phrase"}
    assert client.post("/access/v1/password", data={**form, "csrf": "x"}).status_code == 403
    assert client.post("/access/v1/password", data={**form, "current": "x"}).status_code == 401
    assert client.post("/access/v1/password", data={**form, "new": "short"}).status_code == 422
    assert client.post("/access/v1/password", data=form).status_code == 303
    assert client.get("/studies/1.2").status_code == 200  # by a new session
    assert other.get("/studies/1.2").status_code == 401
    assert sign_in(node.client(), "reader").status_code == 401
    assert sign_in(node.client(), "reader", "entirely another phrase").status_code == 303


def test_a_token_is_used_now_and_then(node: Guarded) -> None:
    node.client(node.tokens["reader"]).get("/studies/1.2")
    assert next(t for t in node.access.accounts.tokens() if t.name == "reader-token").used_at == START


def test_buckets_fill_and_are_bounded() -> None:
    now = [0.0]
    buckets = Buckets(Rate(2.0, 2), most=3, clock=lambda: now[0])
    assert [buckets.take("a"), buckets.take("a"), buckets.take("a")] == [0.0, 0.0, 2.0]
    now[0] = 2.0
    assert buckets.take("a") == 0.0
    for n in range(100):
        buckets.take(str(n))
    assert len(buckets) == 3


def test_places() -> None:
    assert place_of("2001:db8::1") == place_of("2001:db8::2") == "2001:db8::/64"
    assert place_of("::ffff:10.0.0.1") == "10.0.0.1"
    with pytest.raises(ConfigError):
        Proxies(("nowhere",))
    proxies = Proxies(("10.0.0.0/8", "::1"))
    assert proxies.client("::1", {"x-forwarded-for": "junk, 192.0.2.1"}) == ("192.0.2.1", False)
    assert proxies.client("10.0.0.1", {"x-forwarded-for": "<script>"}) == ("10.0.0.1", False)
    assert proxies.client("8.8.8.8", {"x-forwarded-for": "1.1.1.1", "x-forwarded-proto": "https"}) == ("8.8.8.8", False)


def test_a_session_that_is_idle_is_removed(node: Guarded) -> None:
    node.signed_in("reader")
    node.clock.now += 4000
    node.signed_in("reader")
    with node.access.accounts.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(SESSIONS)) == 1
