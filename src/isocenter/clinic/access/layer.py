"""The layer around a web app: who asks, whether they may, and a record of it, before the app sees anything.

Pure ASGI, around requests and sockets alike. What the table does not name is denied. When somebody is revoked, their
open sockets and long answers end within seconds.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isocenter.clinic.access.asked import Asked, Refusal, asked_of, name_of, problem, refuse
from isocenter.clinic.access.audit import Event, Outcome, study_digest
from isocenter.clinic.access.context import CONTENT_POLICY, Access
from isocenter.clinic.access.identity import Identity, digest
from isocenter.clinic.access.limits import Buckets, Rate, place_of
from isocenter.clinic.access.pages import Pages, bounce, login_address
from isocenter.clinic.access.rules import SOCKET
from isocenter.clinic.carried import Gone, broken_off, carried
from isocenter.core.defects import arose_at
from isocenter.core.errors import IsocenterError

__all__ = ["IDENTITY", "REVOKED", "AccessLayer", "protect"]

IDENTITY = "isocenter.identity"
"""Where in the ASGI scope an app finds who asks."""
REVOKED = 4401
"""Close code of a socket whose owner is let in no more."""
_DEFECT = 1011
_READER = b"x-isocenter-reader"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_LOG = logging.getLogger(__name__)
_NOT_NOW = Refusal(503, "not_now", "accounts or the record of access can't be reached", {"Retry-After": "5"})
_MOST_UNREACHED = 5
_HOST = re.compile(r"[\w.-]+(?::\d+)?|\[[0-9A-Fa-f:]+\](?::\d+)?", re.ASCII)


def protect(app: Starlette, access: Access) -> None:
    """Put the layer around an app that does not run yet.

    Args:
        app: FastAPI or Starlette, with all of its routes.
        access: What the layer asks.

    Raises:
        ConfigError: The app has a route that the authorisation table does not name.
    """
    access.table.check(app)
    app.add_middleware(AccessLayer, access=access)


class _TooLong(Exception):
    """A body is longer than it may be."""


class _Cut(OSError):
    """An answer is broken off: its reader is let in no more."""


class _Unwritten(OSError):
    """What was asked can't be written into the record."""


class AccessLayer:
    """The layer; see the module, and `protect`.

    Args:
        app: What it guards.
        access: What it asks.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access
        self._pages = Pages(access)
        self._names = {*_LOOPBACK, *(name.lower() for name in access.settings.names)} - {"0.0.0.0", "::"}  # noqa: S104
        self._noise = Buckets(Rate(10.0, 20))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request or socket through, or refuse it."""
        if scope["type"] == "http":
            await carried(self._guarded, scope, receive, send)
        elif scope["type"] == "websocket":
            await self._guarded(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = asked_of(scope, self.access)
        policy = CONTENT_POLICY if self._pages.owns(asked) else self.access.settings.policy
        answer = _with_headers(asked, policy, send)
        try:
            identity, refusal = await self._judge(asked)
        except (SQLAlchemyError, IsocenterError) as error:
            _LOG.error("accounts can't be reached (%s): nobody is let in", type(error).__name__)
            identity, refusal = None, _NOT_NOW
        if refusal is not None:
            await self._refuse(asked, identity, refusal, receive, answer)
            return
        if asked.method == SOCKET:
            await self._socket(asked, identity, receive, send)
        else:
            await _Request(self, asked, identity, receive, answer).run()

    async def _judge(self, asked: Asked) -> tuple[Identity | None, Refusal | None]:
        """Return who asks, and why they are refused; None where they are not."""
        if asked.malformed:
            return None, Refusal(400, "malformed", asked.malformed)
        if name_of(asked.headers.get("host", "")) not in self._names:
            return None, Refusal(421, "host", "this server is not known by this name; see `names` in its settings")
        given = _credential(asked)
        identity = await run_in_threadpool(self._recognise, given) if given.secret else None
        return identity, self._refusal(asked, identity, given)

    def _recognise(self, given: _Given) -> Identity | None:
        if given.token:
            return self.access.accounts.by_token(digest(given.secret))
        return self.access.sessions.by_session(given.secret)

    def _refusal(self, asked: Asked, identity: Identity | None, given: _Given) -> Refusal | None:
        found, place = asked.found, place_of(asked.address)
        if identity is None and not (found and found.public):
            wait = self.access.unknown.take(place)
            return _too_often(wait) if wait else self._unknown(asked, given)
        if identity is not None:
            wait = self.access.known.take(f"{identity.kind} {identity.name}")
            if wait:
                return _too_often(wait)
        if found is None:
            allowed = self.access.table.methods(asked.path)
            if allowed and asked.method != SOCKET:
                return Refusal(405, "method", "this is not done by this method", {"Allow": ", ".join(allowed)})
            return Refusal(404, "not_found", "there is nothing of this name")
        if identity is not None and not found.may(identity.role, identity.scopes if identity.kind == "token" else None):
            whose = "this token" if identity.kind == "token" else "this account"
            return Refusal(403, "forbidden", f"{whose} may not do this")
        return self._foreign(asked, identity) or self._too_long(asked)

    def _unknown(self, asked: Asked, given: _Given) -> Refusal:
        detail = "the token or session has ended, or is not known" if given.secret else "sign in, or send a token"
        challenge = {"WWW-Authenticate": "Bearer"}
        if asked.wants_page and not given.token:
            # The session's cookie does not come with a link of another site; it does when our own page asks again.
            again = asked.headers.get("sec-fetch-site") == "cross-site"
            target = asked.path if again else login_address(asked.path)
            return Refusal(401, "unauthorized", detail, challenge, target)
        return Refusal(401, "unauthorized", detail, challenge)

    def _foreign(self, asked: Asked, identity: Identity | None) -> Refusal | None:
        """Refuse what another site's page sends, by Origin; and what it might send, by a token that it can't read."""
        if not asked.acts:
            return None
        if "origin" in asked.headers and not asked.from_us:
            detail = "requests of other sites are refused; behind a proxy with TLS, name it in `proxies`"
            return Refusal(403, "origin", detail)
        if identity is None or identity.kind != "user" or self._pages.owns(asked):
            return None  # a token is sent by programs alone; our own forms are checked where they are read
        if not asked.from_us:
            return Refusal(403, "origin", "a session acts from a page of this server alone")
        if asked.method != SOCKET and not self._pages.is_csrf(identity, asked.headers.get("x-csrf-token", "")):
            return Refusal(403, "csrf", "send the X-CSRF-Token that /access/v1/me tells")
        return None

    def _too_long(self, asked: Asked) -> Refusal | None:
        limit = self.limit(asked)
        if int(asked.headers.get("content-length", "0")) > limit:
            return Refusal(413, "too_large", f"the body is longer than {limit} bytes")
        return None

    def limit(self, asked: Asked) -> int:
        """Return how long a body may be."""
        settings = self.access.settings
        return settings.upload_bytes if asked.path.startswith(settings.upload_paths) else settings.body_bytes

    async def _refuse(
        self, asked: Asked, identity: Identity | None, refusal: Refusal, receive: Receive, send: Send
    ) -> None:
        key = f"{place_of(asked.address)} {identity.name if identity else ''} {refusal.status}"
        if refusal is not _NOT_NOW and not self._noise.take(key):
            try:
                await self.tell(asked, identity, refusal.status, refusal.code)
            except IsocenterError as error:
                _LOG.error("the record of access can't be written (%s)", type(error).__name__)
                refusal = _NOT_NOW
        if refusal.target and asked.method != SOCKET:
            page = bounce(refusal.target) if refusal.target == asked.path else RedirectResponse(refusal.target, 303)
            await page(asked.scope, receive, send)
            return
        await refuse(asked, refusal, receive, send)

    async def tell(self, asked: Asked, identity: Identity | None, status: int, why: str = "") -> None:
        """Write into the record what was asked and what came out; it is on the disk when this returns.

        Raises:
            OutputError: It can't be written.
        """
        study = asked.found.study if asked.found else ""
        outcome: Outcome = 0 if status < 400 else 4 if status < 500 else 8
        event = Event(
            "access",
            asked.found.rule.act if asked.found else "E",
            outcome,
            identity.name if identity else "",
            identity.role if identity else "",
            asked.address,
            asked.what,
            study[:64] if self.access.settings.plain_study else study_digest(study),
            status,
            why,
        )
        await asyncio.wrap_future(self.access.trail.tell(event))

    async def still(self, identity: Identity | None) -> bool:
        """Tell whether somebody is still let in."""
        return identity is None or await run_in_threadpool(self.access.sessions.still, identity)

    async def inner(self, asked: Asked, identity: Identity | None, receive: Receive, send: Send) -> None:
        """Let the app, or our own pages, answer; they are told who asks, and nobody can say so for themselves."""
        headers = [pair for pair in asked.scope["headers"] if pair[0].lower() != _READER]
        if identity is not None:
            headers.append((_READER, identity.name.encode("ascii")))
        scope = {**asked.scope, "headers": headers, IDENTITY: identity}
        if self._pages.owns(asked):
            await self._pages.answer(asked, identity, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _socket(self, asked: Asked, identity: Identity | None, receive: Receive, send: Send) -> None:
        if asked.found and asked.found.rule.told:
            try:
                await self.tell(asked, identity, 101)
            except IsocenterError:
                await refuse(asked, _NOT_NOW, receive, send)
                return
        over = asyncio.Event()

        async def watch() -> None:
            unreached = 0
            while True:
                await asyncio.sleep(self.access.settings.check_s)
                try:
                    if await self.still(identity):
                        unreached = 0
                        continue
                except SQLAlchemyError:
                    unreached += 1
                    if unreached < _MOST_UNREACHED:
                        continue
                over.set()
                await send({"type": "websocket.close", "code": REVOKED, "reason": "let in no more"})
                await self._told_revoked(asked, identity)
                return

        async def hear() -> Message:
            return await _first(receive, over)

        async def say(message: Message) -> None:
            if not over.is_set():
                await send(message)

        watching = asyncio.create_task(watch())
        try:
            await self.inner(asked, identity, hear, say)
        except Exception as error:  # noqa: BLE001  # the boundary of the server: a trace may hold anything
            _LOG.error("%s (%s): a defect of Isocenter, please report it", type(error).__name__, arose_at(error))
            await say({"type": "websocket.close", "code": _DEFECT, "reason": "a defect of Isocenter"})
        finally:
            if not over.is_set():
                watching.cancel()
            await asyncio.wait([watching])

    async def _told_revoked(self, asked: Asked, identity: Identity | None) -> None:
        try:
            who, role = (identity.name, identity.role) if identity else ("", "")
            event = Event("revoked-while-open", "E", 0, who, role, asked.address, asked.what)
            await asyncio.wrap_future(self.access.trail.tell(event))
        except IsocenterError as error:
            _LOG.error("the record of access can't be written (%s)", type(error).__name__)


class _Request:
    """One request that was let in, with its answer."""

    def __init__(
        self, layer: AccessLayer, asked: Asked, identity: Identity | None, receive: Receive, send: Send
    ) -> None:
        self.layer, self.asked, self.identity = layer, asked, identity
        self._receive, self._send = receive, send
        self._limit, self._seen = layer.limit(asked), 0
        self._begun = self._too_long = self._cut = self._unwritten = self._whole = False
        self._checked, self._unreached = time.monotonic(), 0
        self._told = asked.found is not None and asked.found.rule.told

    async def run(self) -> None:
        """Let the app answer."""
        refusal = await self._answered()
        # What has begun can't be taken back: it is left unfinished, so that the server cuts the line.
        if refusal is not None and not self._begun:
            await problem(refusal)(self.asked.scope, self._receive, self._send)

    async def _answered(self) -> Refusal | None:
        """Let the app answer; return what is answered in its place, where it can't be."""
        try:
            if self._told and self.layer.access.trail.broken:
                # What was not written down must not happen: nothing is done until the record works again.
                await self.layer.tell(self.asked, self.identity, 0, "begun")
            await self.layer.inner(self.asked, self.identity, self.hear, self.say)
        except (_TooLong, _Cut, _Unwritten):
            pass
        except Gone:
            raise
        except (SQLAlchemyError, IsocenterError) as error:
            _LOG.error("an answer failed (%s)", type(error).__name__)
            return None if self._cut else _NOT_NOW
        except Exception as error:  # noqa: BLE001  # the boundary of the server: nobody is shown a trace
            ours = self._cut or self._unwritten or self._too_long
            if not ours and not (self._begun and broken_off(error)):
                kind = type(error).__name__
                _LOG.error("%s (%s): a defect of Isocenter, please report it", kind, arose_at(error))
                return Refusal(500, "defect", f"{type(error).__name__}: a defect of Isocenter, please report it")
        if self._unwritten:
            return _NOT_NOW
        if self._too_long and not self._begun:
            return Refusal(413, "too_large", f"the body is longer than {self._limit} bytes")
        return None

    async def hear(self) -> Message:
        """Return the next message; a body without Content-Length may be of any length, so that it is counted."""
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._limit:
            self._too_long = True
            raise _TooLong
        return message

    async def say(self, message: Message) -> None:
        """Pass a part of the answer on: its beginning after the record has it, its rest while its reader is let in."""
        if self._cut:
            raise _Cut
        if self._unwritten or (self._too_long and not self._begun):
            return  # whatever the app makes of it: it is answered in `run`
        if message["type"] == "http.response.start":
            if self._told:
                await self._tell(message["status"])
            self._begun = True
            self._whole = any(name.lower() == b"content-length" for name, _ in message["headers"])
        elif message.get("more_body"):
            await self._check()
        await self._send(message)

    async def _tell(self, status: int) -> None:
        try:
            await self.layer.tell(self.asked, self.identity, status)
        except IsocenterError:
            self._unwritten = True
            raise _Unwritten from None

    async def _check(self) -> None:
        now = time.monotonic()
        if now - self._checked < self.layer.access.settings.check_s:
            return
        self._checked = now
        try:
            if await self.layer.still(self.identity):
                self._unreached = 0
                return
        except SQLAlchemyError:
            self._unreached += 1
            if self._unreached < _MOST_UNREACHED:
                return
        self._cut = True
        if not self._whole:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        raise _Cut


@dataclass(frozen=True)
class _Given:
    """What somebody showed: an API token, or a session's cookie."""

    secret: str = ""
    token: bool = False


def _credential(asked: Asked) -> _Given:
    """Return what somebody showed. A token that is wrong is never made good by a cookie."""
    scheme, _, given = asked.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and given.strip():
        return _Given(given.strip(), token=True)
    if asked.found is not None and asked.found.token:
        # Clients of MONAI Label send no header with some of their requests, so that it stands in their address.
        return _Given(asked.found.token, token=True)
    if asked.method == SOCKET:
        # A browser can't send headers with a socket, so that a token comes as a subprotocol.
        offered = (part.strip() for part in asked.headers.get("sec-websocket-protocol", "").split(","))
        for part in offered:
            if part.startswith("bearer.") and part != "bearer.":
                return _Given(part.removeprefix("bearer."), token=True)
    return _Given(asked.cookie("session"))


def _too_often(wait: float) -> Refusal:
    return Refusal(429, "too_often", "this is asked for too often", {"Retry-After": str(max(1, round(wait)))})


def _with_headers(asked: Asked, policy: str, send: Send) -> Callable[[Message], Awaitable[None]]:
    """Return a `send` that adds to every answer what protects it."""
    host = asked.headers.get("host", "")
    sockets = f"{'wss' if asked.secure else 'ws'}://{host}" if _HOST.fullmatch(host) else ""
    added = {
        b"content-security-policy": policy.replace("{sockets}", sockets).encode("latin-1"),
        b"x-content-type-options": b"nosniff",
        b"referrer-policy": b"no-referrer",
        b"x-frame-options": b"DENY",
        b"cross-origin-opener-policy": b"same-origin",
        b"cross-origin-resource-policy": b"same-origin",
        b"permissions-policy": b"camera=(), geolocation=(), microphone=()",
        b"cache-control": b"no-store",
    }
    if asked.secure:
        added[b"strict-transport-security"] = b"max-age=31536000"

    async def say(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            more = [pair for pair in added.items() if pair[0] not in there]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return say


async def _first(receive: Receive, over: asyncio.Event) -> Message:
    """Return the next message, or that the other side is gone as soon as it is let in no more."""
    gone: Message = {"type": "websocket.disconnect", "code": REVOKED, "reason": ""}
    if over.is_set():
        return gone
    heard, ended = asyncio.ensure_future(receive()), asyncio.ensure_future(over.wait())
    try:
        await asyncio.wait({heard, ended}, return_when=asyncio.FIRST_COMPLETED)
        return heard.result() if heard.done() else gone
    finally:
        for task in (heard, ended):
            task.cancel()
