"""Signing in by an identity provider: OpenID Connect, authorization code flow with PKCE.

Of what the provider says, nothing is taken that is not signed by a key of its own for us, for this login, and now.

Source:
    OpenID Connect Core 1.0, 3.1; Discovery 1.0; RFC 7636 (PKCE); RFC 9207 (issuer in the response); RFC 8725 (JWT).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from threading import Lock
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpx

from isocenter.clinic.access.identity import Role, new_secret
from isocenter.clinic.access.sessions import PendingLogin
from isocenter.core.errors import CapabilityError, ConfigError, TransportError

__all__ = ["LoginRefused", "Provider", "ProviderSettings", "Vouched"]

_ALGORITHMS: Final = {
    "RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "PS256": "RSA", "PS384": "RSA", "PS512": "RSA",
    "ES256": "EC", "ES384": "EC", "ES512": "EC", "EdDSA": "OKP",
}  # fmt: skip
"""What a token may be signed by, and the kind of key that each takes: never "none", never a shared secret (HS256), with
which everybody who has the public key could sign."""
_LEEWAY_S = 60
_FRESH_S = 3600.0
_AGAIN_S = 30.0
_MOST_BYTES = 1 << 20
_LONGEST_CODE = 4096


class LoginRefused(Exception):
    """Somebody comes from the identity provider, and is not let in: no error of anybody's, and told on the page.

    Attributes:
        why: A word of ours for the record.
    """

    def __init__(self, why: str, message: str) -> None:
        super().__init__(message)
        self.why = why


@dataclass(frozen=True)
class ProviderSettings:
    """An identity provider, and what its claims mean here.

    Args:
        issuer: Its address, as it stands in its tokens.
        client_id: What it knows us by.
        redirect_url: Our /login/callback, as it is registered there.
        roles: Value of the claim -> role; the first that somebody has counts.
        client_secret: "" for a public client, which PKCE alone holds.
        role_claim: Claim that holds the values; parts of a path are joined by dots ("realm_access.roles").
        name_claim: Claim that the account is named by.
        full_name_claim: Claim that reports are signed by.
        scopes: What is asked for.
        label: What stands on the button.
        authorities: File of those who sign its server's certificate (PEM); "" for the system's.
        timeout_s: Of each conversation.
    """

    issuer: str
    client_id: str
    redirect_url: str
    roles: Mapping[str, Role]
    client_secret: str = field(default="", repr=False)
    role_claim: str = "roles"
    name_claim: str = "preferred_username"
    full_name_claim: str = "name"
    scopes: tuple[str, ...] = ("openid", "profile")
    label: str = "Sign in with the hospital's account"
    authorities: str = ""
    timeout_s: float = 10.0


@dataclass(frozen=True)
class Vouched:
    """Whom the provider vouches for.

    Args:
        name: What the account is named.
        full_name: As reports are signed; "" where it is not told.
        role: What the claims say they are.
        subject: Issuer and subject.
    """

    name: str
    full_name: str
    role: Role
    subject: str


class Provider:
    """An identity provider.

    Args:
        settings: Which.
        transport: For tests.
        clock: Returns seconds.

    Raises:
        ConfigError: An address is neither by TLS nor of this machine, or no role is given to anybody.
        CapabilityError: PyJWT with cryptography is missing.
    """

    def __init__(
        self,
        settings: ProviderSettings,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for address in (settings.issuer, settings.redirect_url):
            if not _is_safe(address):
                raise ConfigError("issuer and redirect_url begin with https://, or are of this machine")
        if not settings.roles:
            raise ConfigError("no claim gives anybody a role: nobody could sign in")
        _require()
        self.settings, self._clock, self._lock = settings, clock, Lock()
        self._client = httpx.Client(
            transport=transport, timeout=settings.timeout_s, verify=_context(settings.authorities), trust_env=False
        )
        self._said: dict[str, Any] = {}
        self._said_at = self._keys_at = -_FRESH_S
        self._keys: list[Mapping[str, Any]] = []

    def begin(self, target: str) -> tuple[str, PendingLogin]:
        """Begin a login.

        Args:
            target: Where to go afterwards, on this server.

        Returns:
            Where the browser goes, and what is to be remembered.

        Raises:
            TransportError: The provider can't be reached, or says what it must not.
        """
        said = self._metadata()
        pending = PendingLogin(new_secret(), new_secret(), secrets.token_hex(16), secrets.token_urlsafe(48), target)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(pending.verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code", "client_id": self.settings.client_id, "redirect_uri": self.settings.redirect_url,
            "scope": " ".join(self.settings.scopes), "state": pending.state, "nonce": pending.nonce,
            "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        address = str(said["authorization_endpoint"])
        return f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(query)}", pending

    def finish(self, pending: PendingLogin, code: str, issuer: str | None) -> Vouched:
        """Exchange the code, and return whom the provider vouches for.

        Args:
            pending: What was remembered of this login.
            code: As it came back.
            issuer: The `iss` that came back with it.

        Raises:
            LoginRefused: The provider's word is not good, or gives no role here.
            TransportError: The provider can't be reached.
        """
        said = self._metadata()
        required = bool(said.get("authorization_response_iss_parameter_supported"))
        if (required or issuer is not None) and issuer != self.settings.issuer:
            raise LoginRefused("issuer", "the answer is of another identity provider")
        if not 1 <= len(code) <= _LONGEST_CODE:
            raise LoginRefused("code", "the identity provider sent no code")
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": self.settings.redirect_url,
            "client_id": self.settings.client_id, "code_verifier": pending.verifier,
        }  # fmt: skip
        auth: tuple[str, str] | None = None
        if self.settings.client_secret:
            if "client_secret_basic" in said.get("token_endpoint_auth_methods_supported", ["client_secret_basic"]):
                # RFC 6749, 2.3.1: both are form-encoded first.
                auth = (_encoded(self.settings.client_id), _encoded(self.settings.client_secret))
            else:
                form["client_secret"] = self.settings.client_secret
        answer = self._asked("POST", str(said["token_endpoint"]), form, auth)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise LoginRefused("no token", "the identity provider gave no identity token")
        return self._vouched(self.claims(token, pending.nonce))

    def claims(self, token: str, nonce: str) -> Mapping[str, Any]:
        """Return what an identity token says, once all of it was checked.

        Args:
            token: Signed.
            nonce: That of this login.

        Raises:
            LoginRefused: A signature, issuer, audience, time or nonce is not as it must be.
            TransportError: The provider's keys can't be read.
        """
        import jwt

        try:
            head = jwt.get_unverified_header(token)
            kind = _ALGORITHMS.get(str(head.get("alg")))
            if kind is None:
                raise LoginRefused("algorithm", "the identity token is not signed by a key of the provider")
            key = self._key(str(head.get("kid", "")), kind, str(head["alg"]))
            said = jwt.decode(
                token,
                key,
                algorithms=[str(head["alg"])],
                audience=self.settings.client_id,
                issuer=self.settings.issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iat", "iss", "aud", "sub", "nonce"]},
            )
        except jwt.PyJWTError as error:
            raise LoginRefused(type(error).__name__[:32], "the identity token is not good") from error
        if not isinstance(said["nonce"], str) or not hmac.compare_digest(said["nonce"].encode(), nonce.encode()):
            raise LoginRefused("nonce", "the identity token is of another login")
        several = isinstance(said["aud"], list) and len(said["aud"]) > 1
        if said.get("azp", self.settings.client_id if not several else None) != self.settings.client_id:
            raise LoginRefused("party", "the identity token was given to another party")
        return dict(said)

    def _vouched(self, claims: Mapping[str, Any]) -> Vouched:
        held = _at(claims, self.settings.role_claim)
        values = {v for v in (held if isinstance(held, list) else [held]) if isinstance(v, str)}
        role = next((role for value, role in self.settings.roles.items() if value in values), None)
        if role is None:
            raise LoginRefused(
                "no role", "your account at the identity provider has no role here; ask who runs the node"
            )
        name, subject = _at(claims, self.settings.name_claim), claims.get("sub")
        if not isinstance(name, str) or not isinstance(subject, str) or not subject:
            raise LoginRefused("no name", "the identity token does not say who you are")
        full = _at(claims, self.settings.full_name_claim)
        said = full if isinstance(full, str) else ""
        return Vouched(name.casefold(), said, role, f"{self.settings.issuer}|{subject}")

    def _key(self, kid: str, kind: str, algorithm: str) -> Any:
        import jwt

        for again in (False, True):
            fits = [
                key
                for key in self._jwks(again=again)
                if key.get("kty") == kind
                and key.get("use", "sig") == "sig"
                and key.get("alg", algorithm) == algorithm
                and (not kid or key.get("kid") == kid)
            ]
            if len(fits) == 1:
                return jwt.PyJWK(dict(fits[0]), algorithm).key
        raise LoginRefused("key", "the identity token is signed by a key that the provider does not name")

    def _jwks(self, *, again: bool) -> list[Mapping[str, Any]]:
        with self._lock:
            age = self._clock() - self._keys_at
            if age < (_AGAIN_S if again else _FRESH_S):
                return self._keys
        answer = self._asked("GET", str(self._metadata()["jwks_uri"]))
        found = answer.get("keys")
        if not isinstance(found, list):
            raise TransportError("the identity provider's keys can't be read")
        with self._lock:
            self._keys, self._keys_at = [key for key in found if isinstance(key, dict)], self._clock()
            return self._keys

    def _metadata(self) -> dict[str, Any]:
        with self._lock:
            if self._said and self._clock() - self._said_at < _FRESH_S:
                return self._said
        said = self._asked("GET", f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration")
        wanted = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        if said.get("issuer") != self.settings.issuer:
            raise TransportError("the identity provider calls itself otherwise than `issuer` in the settings")
        if not all(_is_safe(said.get(name)) for name in wanted):
            raise TransportError("the identity provider names addresses that are not by TLS")
        with self._lock:
            self._said, self._said_at = said, self._clock()
        return said

    def _asked(
        self, method: str, url: str, form: Mapping[str, str] | None = None, auth: tuple[str, str] | None = None
    ) -> dict[str, Any]:
        try:
            with self._client.stream(
                method, url, data=form, auth=auth or httpx.USE_CLIENT_DEFAULT, headers={"Accept": "application/json"}
            ) as answer:
                body = b""
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > _MOST_BYTES:
                        raise TransportError("the identity provider's answer is too long")
                status = answer.status_code
        except httpx.HTTPError as error:
            raise TransportError(f"the identity provider can't be reached ({type(error).__name__})") from error
        if method == "POST" and status in (400, 401):
            raise LoginRefused("code", "the identity provider does not know this login")
        try:
            said = json.loads(body) if status == 200 else None
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise TransportError(f"the identity provider answers {status}, or what is no JSON object")
        return said


def _at(claims: Mapping[str, Any], path: str) -> object:
    """Return the claim at a path; a name that itself has dots (a URL) is tried as it is first."""
    if path in claims:
        return claims[path]
    found: object = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _is_safe(address: object) -> bool:
    parts = urlsplit(address if isinstance(address, str) else "")
    if parts.scheme == "https":
        return bool(parts.hostname)
    host = parts.hostname or ""
    try:
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    return parts.scheme == "http" and loopback


def _encoded(text: str) -> str:
    return urlencode({"": text})[1:]


def _context(authorities: str) -> Any:
    import ssl

    try:
        context = ssl.create_default_context(cafile=authorities or None)
    except OSError as error:
        raise ConfigError("the identity provider's authorities can't be read: is the file PEM?") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _require() -> None:
    try:
        import cryptography  # noqa: F401
        import jwt  # noqa: F401
    except ImportError as error:
        raise CapabilityError(
            'an identity provider needs PyJWT and cryptography: pip install "isocenter[clinic]"'
        ) from error
