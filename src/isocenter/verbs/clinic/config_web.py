"""`web:` of `clinic.yaml`: the node's web server."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, model_validator

from isocenter.verbs.clinic.config_base import Port, Secret, Strict, TlsConfig

__all__ = ["WebConfig"]

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class WebConfig(Strict):
    """The node's web server.

    Attributes:
        host: Address that it listens on.
        port: Port; 0 for any that is free.
        token: Whoever sends it (Authorization: Bearer) may use every route; 16 letters or more. None where there are
            accounts (`access`).
        tls: Certificate and key; without them it speaks plain HTTP, which is allowed on this machine alone, or behind a
            proxy that speaks TLS (`public_url` is https then).
        public_url: Address of the server as clients see it, where a proxy stands before it; "" takes that of requests.
        names: Further names by which it may be called; requests for other hosts are refused.
        upload_mb: Longest request that stores instances.
        store: Whether instances may be stored (STOW-RS).
    """

    host: str = "127.0.0.1"
    port: Port = 8480
    token: Secret | None = None
    tls: TlsConfig | None = None
    public_url: Annotated[str, Field(pattern=r"^(https?://[^\s/?#]+(/[^\s?#]*)?)?$")] = ""
    names: tuple[str, ...] = ()
    upload_mb: Annotated[int, Field(ge=1)] = 8192
    store: bool = True

    @model_validator(mode="after")
    def _guarded(self) -> WebConfig:
        if self.tls is not None and (self.tls.certificate is None or self.tls.key is None):
            raise ValueError("a web server with TLS needs certificate and key")
        if self.host not in _LOOPBACK and self.tls is None and not self.public_url.startswith("https://"):
            raise ValueError(
                "other machines can reach this address, and the token would travel in the clear: give tls, or the "
                "https public_url of the proxy that stands before it"
            )
        return self
