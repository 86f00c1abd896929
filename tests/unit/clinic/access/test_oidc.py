"""Signing in by an identity provider: the whole way, and every way in which its word is not good."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from access_cases import BASE, Guarded, guarded
from isocenter.clinic.access import Provider, ProviderSettings
from isocenter.core.errors import ConfigError
from postgres_peer import KINDS, Databases, databases_of

ISSUER = "https://id.example"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def jwk(key: Any, kid: str, **more: str) -> dict[str, Any]:
    algorithm = (
        jwt.algorithms.ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else jwt.algorithms.RSAAlgorithm
    )
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig", **more}


@dataclass
class FakeProvider:
    """An identity provider in this process; what it does wrong is set by each test."""

    claims: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    token: Any = None
    nonce: str = ""
    challenge: str = ""
    keys: list[dict[str, Any]] = field(default_factory=lambda: [jwk(KEY, "k1"), jwk(CURVE, "k2")])
    codes: set[str] = field(default_factory=lambda: {"c0de"})
    asked: list[str] = field(default_factory=list)

    def said(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of a token that is good, changed."""
        now = int(time.time())
        good = {
            "iss": ISSUER, "aud": "node", "sub": "s-1", "iat": now, "exp": now + 300, "nonce": self.nonce,
            "preferred_username": "ada", "name": "Ada Reader", "realm": {"roles": ["x", "rad"]}, **self.claims,
        }  # fmt: skip
        return {k: v for k, v in {**good, **changes}.items() if v is not None}

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if request.url.path == "/.well-known/openid-configuration":
            ends = {n: f"{ISSUER}/{n}" for n in ("authorization_endpoint", "token_endpoint", "jwks_uri")}
            return httpx.Response(200, json={"issuer": ISSUER, **ends, **self.metadata})
        if request.url.path == "/jwks_uri":
            return httpx.Response(200, json={"keys": self.keys})
        form = dict(parse_qsl(request.content.decode()))
        made = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        user, _, secret = base64.b64decode(request.headers["authorization"].partition(" ")[2]).decode().partition(":")
        good = made == self.challenge and (user, secret) == ("node", "s%2B%25") and form["code"] in self.codes
        self.codes.discard(form["code"])
        if not good:
            return httpx.Response(400, json={"error": "invalid_grant"})
        token = self.token(self) if self.token else jwt.encode(self.said(), KEY, "RS256", headers={"kid": "k1"})
        return httpx.Response(200, json={"id_token": token, "access_token": "unused"})


@pytest.fixture(params=["sqlite"])
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    yield from databases_of(request)


both = pytest.mark.parametrize("databases", KINDS, indirect=True)


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def node(tmp_path: Path, fake: FakeProvider, databases: Databases) -> Iterator[Guarded]:
    settings = ProviderSettings(
        ISSUER, "node", f"{BASE}/login/callback", {"pacs": "admin", "rad": "radiologist"}, "s+%", "realm.roles"
    )
    provider = Provider(settings, httpx.MockTransport(fake.answer))
    with guarded(tmp_path, provider=provider, databases=databases) as found:
        yield found


def begun(node: Guarded, fake: FakeProvider, client: Any = None, target: str = "/studies/1.2") -> tuple[Any, str]:
    """Go to the provider; return the browser, and the state."""
    client = client or node.client()
    answer = client.get("/login/provider", params={"next": target})
    assert answer.status_code == 303
    query = {k: v[0] for k, v in parse_qs(urlsplit(answer.headers["location"]).query).items()}
    assert query["code_challenge_method"] == "S256"
    assert (query["redirect_uri"], query["scope"]) == (f"{BASE}/login/callback", "openid profile")
    fake.nonce, fake.challenge = query["nonce"], query["code_challenge"]
    return client, query["state"]


def back(client: Any, state: str, **more: str) -> Any:
    return client.get("/login/callback", params={"state": state, "code": "c0de", **more})


@both
def test_the_whole_way(node: Guarded, fake: FakeProvider) -> None:
    client, state = begun(node, fake)
    answer = back(client, state)
    assert answer.status_code == 200
    assert 'content="0;url=/studies/1.2"' in answer.text
    me = client.get("/access/v1/me").json()
    assert (me["name"], me["full_name"], me["role"]) == ("ada", "Ada Reader", "radiologist")
    assert client.get("/studies/1.2").status_code == 200
    login = node.kept.of("login")[-1]
    assert (login.who, login.outcome, login.why) == ("ada", 0, "provider")


def test_the_role_follows_the_claims(node: Guarded, fake: FakeProvider) -> None:
    client, state = begun(node, fake)
    back(client, state)
    fake.claims, fake.codes = {"realm": {"roles": ["pacs", "rad"]}}, {"c0de"}
    again, state = begun(node, fake)
    back(again, state)
    assert again.get("/access/v1/me").json()["role"] == "admin"
    assert client.get("/access/v1/me").status_code == 401  # what it was before has ended


def test_a_state_is_good_once(node: Guarded, fake: FakeProvider) -> None:
    client, state = begun(node, fake)
    assert back(client, state).status_code == 200
    fake.codes = {"c0de"}
    again = back(client, state)
    assert again.status_code == 401
    assert "not begun here" in again.text
    assert node.kept.of("login")[-1].why == "provider: state"


def test_a_state_of_another_browser(node: Guarded, fake: FakeProvider) -> None:
    """Login CSRF: a victim's browser is sent the attacker's code and state."""
    client, state = begun(node, fake)
    assert back(node.client(), state).status_code == 401
    assert back(client, state).status_code == 401  # and it is used up
    assert back(node.client(), "made-up").status_code == 401


def test_a_state_grows_old(node: Guarded, fake: FakeProvider) -> None:
    client, state = begun(node, fake)
    node.clock.now += 601
    assert back(client, state).status_code == 401


def header(token: str, **changes: Any) -> str:
    head, body, _ = token.split(".")
    made = {**json.loads(base64.urlsafe_b64decode(head + "==")), **changes}
    return f"{base64.urlsafe_b64encode(json.dumps(made).encode()).rstrip(b'=').decode()}.{body}"


def by_public_key(fake: FakeProvider) -> str:
    """Sign by HMAC with the public key's text, which everybody has: algorithm confusion."""
    import hmac

    signed = header(jwt.encode(fake.said(), KEY, "RS256", headers={"kid": "k1"}), alg="HS256")
    mac = hmac.new(PUBLIC, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def changed(**claims: Any) -> Any:
    return lambda fake: jwt.encode(fake.said(**claims), KEY, "RS256", headers={"kid": "k1"})


PAST = int(time.time()) - 3600


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (lambda f: jwt.encode(f.said(), "", "none"), "algorithm"),
        (lambda f: header(jwt.encode(f.said(), KEY, "RS256"), alg="none") + ".", "algorithm"),
        (by_public_key, "algorithm"),
        (lambda f: jwt.encode(f.said(), "s" * 32, "HS256", headers={"kid": "k1"}), "algorithm"),
        (lambda f: jwt.encode(f.said(), OTHER, "RS256", headers={"kid": "k1"}), "InvalidSignatureError"),
        (lambda f: jwt.encode(f.said(), OTHER, "RS256", headers={"kid": "k9"}), "key"),
        (lambda f: jwt.encode(f.said(), CURVE, "ES256", headers={"kid": "k1"}), "key"),
        (changed(iss="https://evil.example"), "InvalidIssuerError"),
        (changed(aud="another"), "InvalidAudienceError"),
        (changed(aud=["node", "another"]), "party"),
        (changed(azp="another"), "party"),
        (changed(exp=PAST), "ExpiredSignatureError"),
        (changed(exp=None), "MissingRequiredClaimError"),
        (changed(iat=int(time.time()) + 3600), "ImmatureSignatureError"),
        (changed(nonce="of another login"), "nonce"),
        (changed(nonce=None), "MissingRequiredClaimError"),
        (changed(nonce=7), "nonce"),
        (changed(sub=None), "MissingRequiredClaimError"),
        (changed(realm={"roles": ["cleaning"]}), "no role"),
        (changed(realm=None), "no role"),
        (changed(realm={"roles": {"rad": True}}), "no role"),
        (changed(preferred_username=None), "no name"),
        (changed(preferred_username="a b<script>"), "name"),
        (changed(preferred_username="admin"), "revoked"),  # the name of a local account is not taken over
        (lambda _: "not.a.token", "DecodeError"),
        (lambda _: 7, "no token"),
    ],
)
def test_a_word_that_is_not_good(node: Guarded, fake: FakeProvider, token: Any, why: str) -> None:
    fake.token = token
    client, state = begun(node, fake)
    answer = back(client, state)
    assert answer.status_code == 401
    assert client.get("/access/v1/me").status_code == 401
    login = node.kept.of("login")[-1]
    assert (login.outcome, login.why) == (4, f"provider: {why}")
    assert "script>" not in answer.text.partition("<body>")[2].replace("</script>", "")


def test_a_key_that_is_new(node: Guarded, fake: FakeProvider) -> None:
    client, state = begun(node, fake)
    back(client, state)
    fake.keys, fake.codes = [jwk(OTHER, "k3")], {"c0de"}
    fake.token = lambda f: jwt.encode(f.said(), OTHER, "RS256", headers={"kid": "k3"})
    provider = node.access.provider
    assert provider is not None
    provider._clock = lambda: time.monotonic() + 31
    client, state = begun(node, fake)
    assert back(client, state).status_code == 200


def test_a_flood_of_unknown_keys_asks_the_provider_no_more_often(node: Guarded, fake: FakeProvider) -> None:
    fake.token = lambda f: jwt.encode(f.said(), OTHER, "RS256", headers={"kid": "k9"})
    for _ in range(5):
        fake.codes = {"c0de"}
        client, state = begun(node, fake)
        assert back(client, state).status_code == 401
    assert fake.asked.count("/jwks_uri") <= 2


def test_a_shared_key_among_the_providers_is_never_used(node: Guarded, fake: FakeProvider) -> None:
    secret = base64.urlsafe_b64encode(b"s" * 32).decode().rstrip("=")
    fake.keys = [{"kty": "oct", "k": secret, "kid": "k1", "alg": "HS256"}]
    fake.token = lambda f: jwt.encode(f.said(), "s" * 32, "HS256", headers={"kid": "k1"})
    client, state = begun(node, fake)
    assert back(client, state).status_code == 401


def test_the_answer_of_another_issuer(node: Guarded, fake: FakeProvider) -> None:
    client, state = begun(node, fake)
    assert back(client, state, iss="https://evil.example").status_code == 401
    assert node.kept.of("login")[-1].why == "provider: issuer"


@both
def test_somebody_who_was_revoked_here(node: Guarded, fake: FakeProvider) -> None:
    client, state = begun(node, fake)
    back(client, state)
    node.access.accounts.revoke_user("ada")
    assert client.get("/access/v1/me").status_code == 401
    fake.codes = {"c0de"}
    client, state = begun(node, fake)
    assert back(client, state).status_code == 401


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", ""])
def test_a_login_leads_nowhere_else(node: Guarded, fake: FakeProvider, target: str) -> None:
    client, state = begun(node, fake, target=target)
    assert 'content="0;url=/"' in back(client, state).text


@pytest.mark.parametrize(
    "metadata",
    [{"issuer": "https://evil.example"}, {"token_endpoint": "http://id.example/token"}, {"jwks_uri": None}],
)
def test_a_provider_that_says_what_it_must_not(node: Guarded, fake: FakeProvider, metadata: dict[str, Any]) -> None:
    fake.metadata = metadata
    assert node.client().get("/login/provider").status_code == 502


def test_settings_that_are_not_safe() -> None:
    good = {"issuer": ISSUER, "client_id": "n", "redirect_url": f"{BASE}/login/callback", "roles": {"a": "admin"}}
    for bad in ({"issuer": "http://id.example"}, {"redirect_url": "http://node.example/login/callback"}, {"roles": {}}):
        with pytest.raises(ConfigError):
            Provider(ProviderSettings(**{**good, **bad}))
    assert "hidden" not in repr(ProviderSettings(**good, client_secret="hidden"))
