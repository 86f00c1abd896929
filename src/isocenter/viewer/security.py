"""Who may speak to the server, and how: token, Host, Origin, length of bodies, and the headers of every answer.

One pure ASGI layer around everything, sockets too. A page of another site can neither read (no token, no CORS) nor act
(Origin) nor come in under another name (Host, against DNS rebinding).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isocenter.clinic.carried import Gone, broken_off, carried
from isocenter.viewer.problems import MEDIA_TYPE, answer, defect
from isocenter.viewer.settings import PREFIX, Settings

__all__ = ["POLICY", "SUBPROTOCOL", "Guard", "new_token", "security_headers"]

SUBPROTOCOL = "isocenter.v1"
_DEFECT_CODE = 1011
_OPEN = ("/assets/",)
_OPEN_EXACT = ("/", "/index.html", "/favicon.ico", "/favicon.svg", f"{PREFIX}/health")
_SAFE = ("GET", "HEAD", "OPTIONS")
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' blob: data:; font-src 'self'; connect-src 'self' {sockets}; worker-src 'self' blob:; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""No inline script, nothing of other hosts. Styles may be inline: elements are placed by their style attribute."""


def new_token() -> str:
    """Return a random token of 32 bytes."""
    return secrets.token_urlsafe(32)


def security_headers(host: str = "") -> dict[str, str]:
    """Return the headers of every answer.

    Args:
        host: Host header that the page was asked by: sockets may be opened to it alone.
    """
    sockets = f"ws://{host} wss://{host}" if host else ""
    return {
        "content-security-policy": POLICY.format(sockets=sockets).replace(" ;", ";"),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "x-frame-options": "DENY",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
    }


class _TooLong(Exception):
    """A body is longer than it may be."""


class _Counted:
    """Counts what comes in: a body without Content-Length may be of any length."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._limit, self._seen = receive, limit, 0
        self.too_long = False

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            _TooLong: The body is longer than it may be.
        """
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._limit:
            self.too_long = True
            raise _TooLong
        return message


class Guard:
    """The layer; see the module.

    Args:
        app: What it guards.
        settings: Token, names and limits.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self._names = {"127.0.0.1", "localhost", "::1", settings.host.lower(), *(n.lower() for n in settings.names)}
        self._names -= {"0.0.0.0", "::"}  # noqa: S104  # "every address" is no name to be called by

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request or socket through, or refuse it."""
        if scope["type"] == "http":
            await carried(self._guarded, scope, receive, send)
        else:
            await self._guarded(scope, receive, send)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _refuse(scope, receive, send, *refusal)
            return
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        guest = self._is_guest(scope["path"], headers.get("origin", ""))
        added = _added(headers, scope["method"], guest=guest)
        begun = False
        body = _Counted(receive, self._limit(scope["path"]))

        async def with_headers(message: Message) -> None:
            nonlocal begun
            if body.too_long and not begun:
                return  # whatever the app makes of half a body: it is answered below
            if message["type"] == "http.response.start":
                begun = True
                there = {name.lower() for name, _ in message["headers"]}
                more = [pair for pair in added if pair[0] not in there]
                if b"cache-control" not in there:
                    more.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        # What another site may ask of us is said here (a preflight), and not by the app.
        app = Response(status_code=204) if guest and scope["method"] == "OPTIONS" else self.app
        try:
            await app(scope, body.receive, with_headers)
        except _TooLong:
            pass
        except Gone:
            raise
        except Exception as error:  # noqa: BLE001  # the boundary of the server: nobody is shown a trace
            if begun and broken_off(error):
                return
            response = defect(error)
            if not begun:
                await response(scope, receive, with_headers)
            return
        if body.too_long and not begun:
            await _refuse(scope, receive, send, 413, "too_large", self._limit_in_words(scope["path"]))

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception as error:  # noqa: BLE001  # the boundary of the server, as above
            defect(error)
            await send({"type": "websocket.close", "code": _DEFECT_CODE, "reason": "a defect of Isocenter"})

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str, str] | None:
        """Return why a request is refused: status, code and words; None where it is not."""
        host = headers.get("host", "")
        if _name(host) not in self._names:
            return 421, "host", "this server is not known by this name; give it with --name where it should be"
        origin = headers.get("origin")
        acting = scope["type"] == "websocket" or scope["method"] not in _SAFE
        ours = (f"http://{host}", f"https://{host}")
        if acting and origin is not None and origin not in ours and not self._is_guest(scope["path"], origin):
            return 403, "origin", "requests of other sites are refused"
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return 400, "length", "Content-Length is no number"
        if int(length) > self._limit(scope["path"]):
            return 413, "too_large", self._limit_in_words(scope["path"])
        if not self._is_open(scope["path"]) and not self._has_token(scope, headers):
            return 401, "unauthorized", "send the server's token: Authorization: Bearer TOKEN"
        return None

    def _is_guest(self, path: str, origin: str) -> bool:
        """Tell whether a page of another site may use this path: MONAI Label's protocol, where it was allowed."""
        return path.startswith("/monai/") and origin in self.settings.origins

    def _is_open(self, path: str) -> bool:
        return path in _OPEN_EXACT or path.startswith((*_OPEN, *self.settings.open_paths))

    def _has_token(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(given.strip()):
            return True
        if scope["path"].startswith("/monai/"):
            # Clients of MONAI Label send no header with some of their requests, so that it stands in their address.
            return self._is_token(scope["path"].split("/")[2])
        if scope["type"] != "websocket":
            return False
        # A browser can't send headers with a socket, so the token comes as a subprotocol.
        offered = [part.strip() for part in headers.get("sec-websocket-protocol", "").split(",")]
        return any(self._is_token(part.removeprefix("bearer.")) for part in offered if part.startswith("bearer."))

    def _is_token(self, given: str) -> bool:
        return self.settings.is_token(given)

    def _limit(self, path: str) -> int:
        limits = self.settings.limits
        return limits.upload_bytes if path.startswith(self.settings.upload_paths) else limits.body_bytes

    def _limit_in_words(self, path: str) -> str:
        return f"the body is longer than {self._limit(path)} bytes"


def _added(headers: Mapping[str, str], method: str, *, guest: bool) -> list[tuple[bytes, bytes]]:
    """Return the headers that an answer gets."""
    added = [(k.encode(), v.encode()) for k, v in security_headers(headers.get("host", "")).items()]
    if guest:
        added += [(b"access-control-allow-origin", headers["origin"].encode("latin-1")), (b"vary", b"Origin")]
        if method == "OPTIONS":
            added += [(b"access-control-allow-methods", b"GET, HEAD, PUT, POST, DELETE")]
            added += [(b"access-control-allow-headers", b"accept, content-type")]
    return added


def _name(host: str) -> str:
    """Return the name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, code: str, detail: str) -> None:
    if scope["type"] == "websocket":
        await _refuse_socket(scope, receive, send, status, detail)
        return
    titles = {401: "A token is needed", 413: "It is too large", 421: "Not this server", 403: "Not allowed"}
    response = answer(status, code, titles.get(status, "The request is not valid"), detail)
    response.headers.update({**security_headers(), "cache-control": "no-store"})
    if status == 401:
        response.headers["www-authenticate"] = "Bearer"
    await response(scope, receive, send)


async def _refuse_socket(scope: Scope, receive: Receive, send: Send, status: int, detail: str) -> None:
    await receive()  # the connect message
    extensions: Mapping[str, Any] = scope.get("extensions") or {}
    if "websocket.http.response" in extensions:
        headers = [(b"content-type", MEDIA_TYPE.encode())]
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        body = answer(status, "refused", "Not allowed", detail).body
        await send({"type": "websocket.http.response.body", "body": bytes(body)})
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": detail[:100]})
