"""A request as the layer sees it, and the answers that the layer gives itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from isocenter.clinic.access.context import Access
from isocenter.clinic.access.rules import SAFE, SOCKET, Found

__all__ = ["Asked", "Refusal", "asked_of", "name_of", "problem", "refuse"]

MEDIA_TYPE: Final = "application/problem+json"
_ONCE = ("authorization", "content-length", "host", "origin")
_LONGEST_PATH = 4096


@dataclass(frozen=True)
class Asked:
    """A request, or a socket that is to be opened.

    Args:
        scope: As the server gave it.
        headers: By names in small letters.
        method: Of HTTP, or `SOCKET`.
        path: Decoded.
        address: Of the client.
        secure: Whether the client came by TLS.
        found: What the table says of it; None: nothing.
        malformed: What is wrong with it; "" for nothing.
    """

    scope: Scope
    headers: Mapping[str, str]
    method: str
    path: str
    address: str
    secure: bool
    found: Found | None
    malformed: str

    @property
    def acts(self) -> bool:
        """Whether it may change something."""
        return self.method not in SAFE

    @property
    def origin(self) -> str:
        """The origin that our own pages have."""
        return f"{'https' if self.secure else 'http'}://{self.headers.get('host', '').lower()}"

    @property
    def from_us(self) -> bool:
        """Whether the browser says that a page of ours sent it."""
        origin = self.headers.get("origin")
        if origin is not None:
            return origin.lower() == self.origin
        return self.method != SOCKET and self.headers.get("sec-fetch-site") == "same-origin"

    @property
    def what(self) -> str:
        """The route, as the record has it; a path that the table does not name may hold anything, and is left out."""
        return f"{self.method} {self.found.rule.path}" if self.found else f"{self.method} (no route of ours)"

    @property
    def wants_page(self) -> bool:
        """Whether somebody opened an address in a browser."""
        accept = self.headers.get("accept", "")
        wanted = self.headers.get("sec-fetch-dest", "document") == "document"
        return self.method == "GET" and "text/html" in accept and wanted

    def cookie(self, name: str) -> str:
        """Return a cookie of ours; "" where it is not there, or is there twice."""
        wanted = cookie_name(name, secure=self.secure)
        pairs = (part.strip().partition("=") for part in self.headers.get("cookie", "").split(";"))
        found = [value for key, _, value in pairs if key == wanted]
        return found[0] if len(found) == 1 else ""


def cookie_name(name: str, *, secure: bool) -> str:
    """Return the name of a cookie; under TLS no other host and no plain connection can set one of this name."""
    return f"__Host-isocenter-{name}" if secure else f"isocenter-{name}"


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused.

    Args:
        status: Of HTTP.
        code: For programs.
        detail: For people.
        headers: Of the answer.
        target: Where the browser is sent instead; "": nowhere.
    """

    status: int
    code: str
    detail: str
    headers: Mapping[str, str] | None = None
    target: str = ""


_TITLES = {
    400: "The request is not valid", 401: "Sign in first", 403: "Not allowed", 404: "There is nothing of this name",
    405: "Not by this method", 413: "It is too large", 421: "Not this server", 429: "Too often",
    503: "Not now",
}  # fmt: skip


def problem(refusal: Refusal) -> Response:
    """Return an answer by RFC 9457."""
    body = {
        "type": f"urn:isocenter:problem:{refusal.code}", "title": _TITLES.get(refusal.status, "Not possible"),
        "status": refusal.status, "code": refusal.code, "detail": refusal.detail,
    }  # fmt: skip
    return Response(json.dumps(body), refusal.status, dict(refusal.headers or {}), MEDIA_TYPE)


def asked_of(scope: Scope, access: Access) -> Asked:
    """Return what is asked."""
    headers: dict[str, str] = {}
    malformed = ""
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        if name in headers:
            if name in _ONCE:
                malformed = f"the header {name} is there twice"
            headers[name] += ("; " if name == "cookie" else ", ") + text
        else:
            headers[name] = text
    method = SOCKET if scope["type"] == "websocket" else scope["method"]
    path = scope["path"]
    # A new line at the end would fit what a router takes for the end of a path.
    if len(path) > _LONGEST_PATH or not path.isprintable():
        malformed = "the path holds what no path of ours does"
        path = "/"
    length = headers.get("content-length", "0")
    if not (length.isdecimal() and length.isascii()):
        malformed = "Content-Length is no number"
    peer = str((scope.get("client") or ("",))[0])
    address, proxied = access.proxies.client(peer, headers)
    secure = scope.get("scheme") in ("https", "wss") or proxied
    found = access.table.find(method, path)
    return Asked(scope, headers, method, path, address, secure, found, malformed)


def name_of(host: str) -> str:
    """Return the name in a Host header, without its port.

    Example:
        >>> name_of("Node.example:8443"), name_of("[::1]:8443")
        ('node.example', '::1')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


async def refuse(asked: Asked, refusal: Refusal, receive: Receive, send: Send) -> None:
    """Answer that something is refused, on whatever was asked: a request or a socket."""
    if asked.method != SOCKET:
        await problem(refusal)(asked.scope, receive, send)
        return
    await receive()  # the connect message
    extensions: Mapping[str, Any] = asked.scope.get("extensions") or {}
    if "websocket.http.response" in extensions:
        headers = [(b"content-type", MEDIA_TYPE.encode())]
        await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": bytes(problem(refusal).body)})
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.detail[:100]})
