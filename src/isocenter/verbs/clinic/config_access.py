"""`access:` of `clinic.yaml`: who may do what on the node's web server and in the viewer, and the record of it."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from isocenter.verbs.clinic.config_base import Secret, Strict, TlsConfig

__all__ = ["AccessConfig", "ProviderConfig", "SyslogConfig"]

RoleName = Literal["admin", "radiologist", "reader", "service"]
_ADDRESS = r"^https?://[^\s]+$"


class ProviderConfig(Strict):
    """An identity provider (OpenID Connect), by which people sign in.

    Attributes:
        issuer: Its address, as it stands in its tokens.
        client_id: What it knows the node by.
        client_secret: Secret of the node there; none for a public client, which PKCE alone holds.
        redirect_url: Address of the node's /login/callback, as it is registered there.
        roles: Value of the claim: role. Who has several gets the first that is listed here; who has none is not let in.
        role_claim: Claim that holds the values; a path is joined by dots.
        name_claim: Claim that accounts are named by.
        full_name_claim: Claim that reports are signed by.
        scopes: What is asked for.
        label: What stands on the button.
        authorities: Who signs its server's certificate, where the system does not know them (PEM).
        timeout_s: Of each conversation.
    """

    issuer: Annotated[str, Field(pattern=_ADDRESS)]
    client_id: Annotated[str, Field(min_length=1)]
    client_secret: Secret | None = None
    redirect_url: Annotated[str, Field(pattern=_ADDRESS)]
    roles: Annotated[dict[str, RoleName], Field(min_length=1)]
    role_claim: str = "roles"
    name_claim: str = "preferred_username"
    full_name_claim: str = "name"
    scopes: tuple[str, ...] = ("openid", "profile")
    label: Annotated[str, Field(min_length=1, max_length=64)] = "Sign in with the hospital's account"
    authorities: Path | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 10.0

    @model_validator(mode="after")
    def _whole(self) -> ProviderConfig:
        if "openid" not in self.scopes:
            raise ValueError("the scopes of an identity provider hold openid")
        if not self.redirect_url.endswith("/login/callback"):
            raise ValueError("redirect_url ends with /login/callback")
        return self


class SyslogConfig(Strict):
    """An audit repository that the record goes to as well: DICOM audit messages by syslog over TLS.

    Attributes:
        host: Its address.
        port: Its port.
        tls: Our certificate and key, where it asks for one, and who signs its own.
        site: Audit Enterprise Site ID; "" for none.
    """

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 6514
    tls: TlsConfig = TlsConfig()
    site: str = ""


class AccessConfig(Strict):
    """Who may do what on the node's web server and in the viewer, and the record of it.

    Attributes:
        accounts: Whether people may sign in by name and password; without it, by the identity provider alone.
        provider: Identity provider; null for none.
        password_length: Fewest characters of a password.
        idle_minutes: A session ends when nothing came for so long.
        longest_hours: And after so long in any case.
        proxies: Addresses or networks (CIDR) of proxies, whose word about the client's address and TLS is taken.
        requests: Requests of one account or token in a second, over a longer time.
        record: Record that every access is written to before it is answered; "auto" for one in the store.
        studies: "hashed": studies stand in the record as sha256 of their UID; "plain": as their UID.
        syslog: Audit repository; null for none.
    """

    accounts: bool = True
    provider: ProviderConfig | None = None
    password_length: Annotated[int, Field(ge=12, le=64)] = 15
    idle_minutes: Annotated[float, Field(gt=0, le=720)] = 30.0
    longest_hours: Annotated[float, Field(gt=0, le=24)] = 10.0
    proxies: tuple[str, ...] = ()
    requests: Annotated[float, Field(gt=0)] = 200.0
    record: Literal["auto"] | Path = "auto"
    studies: Literal["hashed", "plain"] = "hashed"
    syslog: SyslogConfig | None = None

    def record_path(self, store: Path) -> Path:
        """Return where the record is."""
        return store / "audit" / "access.jsonl" if self.record == "auto" else self.record

    @field_validator("proxies")
    @classmethod
    def _networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            ip_network(proxy)
        return proxies

    @model_validator(mode="after")
    def _somehow(self) -> AccessConfig:
        if not self.accounts and self.provider is None:
            raise ValueError("nobody could sign in: there are no accounts here, and no identity provider")
        return self
