"""Signing in and out: what the layer answers itself. No script is needed, and none would run."""

from __future__ import annotations

import asyncio
import hmac
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote

from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from isocenter.clinic.access.asked import Asked, Refusal, cookie_name, problem
from isocenter.clinic.access.audit import Event, Kind, Outcome
from isocenter.clinic.access.context import Access
from isocenter.clinic.access.identity import Identity, new_secret
from isocenter.clinic.access.limits import place_of
from isocenter.clinic.access.login_page import STYLE, LoginPage, account_page, bounce_page, login_page
from isocenter.clinic.access.oidc import LoginRefused, Vouched
from isocenter.clinic.access.sessions import PendingLogin
from isocenter.clinic.access.table import ACCESS_RULES
from isocenter.core.errors import ConfigError, TransportError

__all__ = ["Pages", "bounce", "login_address"]

_OWN = {rule.path for rule in ACCESS_RULES}
_LONGEST_FORM = 16 << 10
_LOGIN_S = 3600
_PATIENCE_S = 10.0
_WRONG = "Name and password do not fit."


def login_address(target: str) -> str:
    """Return the address of the login page that leads to a path afterwards."""
    return f"/login?next={quote(target, safe='/')}"


def bounce(target: str) -> Response:
    """Return an answer that has a page of ours ask for an address again."""
    return HTMLResponse(bounce_page(target))


class Pages:
    """The layer's own routes.

    Args:
        access: Accounts, sessions, and how they are set.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self._hashing = threading.BoundedSemaphore(access.settings.logins_at_once)

    def owns(self, asked: Asked) -> bool:
        """Tell whether a route is the layer's own."""
        return asked.found is not None and asked.found.rule.path in _OWN

    def is_csrf(self, identity: Identity, given: str) -> bool:
        """Tell whether a page sent what only a page of ours can know."""
        return bool(identity.csrf) and hmac.compare_digest(identity.csrf.encode(), given.encode("utf-8", "replace"))

    async def answer(self, asked: Asked, identity: Identity | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request on one of the layer's own routes."""
        form: dict[str, str] = {}
        if asked.method == "POST":
            sent = await _form(asked, receive)
            if sent is None:
                await problem(Refusal(400, "form", "send the form as application/x-www-form-urlencoded"))(
                    scope, receive, send
                )
                return
            form = sent
        response = await self._answer(asked, identity, form)
        await response(scope, receive, send)

    async def _answer(self, asked: Asked, identity: Identity | None, form: Mapping[str, str]) -> Response:
        key = (asked.method.replace("HEAD", "GET"), asked.path)
        if key == ("GET", "/login/style.css"):
            return Response(STYLE, media_type="text/css", headers={"Cache-Control": "public, max-age=3600"})
        if key == ("GET", "/login"):
            return self._shown(asked, identity)
        if key == ("POST", "/login"):
            return await self._login(asked, form)
        if key == ("GET", "/login/provider"):
            return await self._sent_away(asked)
        if key == ("GET", "/login/callback"):
            return await self._came_back(asked)
        if identity is None:  # the table lets nobody else come here
            return problem(Refusal(401, "unauthorized", "sign in, or send a token"))
        if key == ("GET", "/access/v1/me"):
            return JSONResponse({
                "name": identity.name, "full_name": identity.full_name, "role": identity.role, "kind": identity.kind,
                "scopes": sorted(identity.scopes), "csrf": identity.csrf, "logout": "/logout",
            })  # fmt: skip
        if identity.kind != "user" or not asked.from_us or not self._holds_csrf(asked, identity, form):
            return problem(Refusal(403, "csrf", "send the form from the page that this server shows"))
        if key == ("POST", "/logout"):
            return await self._logout(asked, identity)
        return await self._password(asked, identity, form)

    def _holds_csrf(self, asked: Asked, identity: Identity, form: Mapping[str, str]) -> bool:
        return self.is_csrf(identity, form.get("csrf", "") or asked.headers.get("x-csrf-token", ""))

    def _shown(self, asked: Asked, identity: Identity | None) -> Response:
        target = _target(asked, self.access.settings.home)
        if identity is not None and identity.kind == "user":
            return HTMLResponse(self._account(identity, target))
        return self._form_page(asked, target)

    def _account(self, identity: Identity, target: str, trouble: str = "") -> str:
        account = self.access.accounts.user(identity.name)
        local = self.access.local and account is not None and not account.subject
        whose = identity.full_name or identity.name
        return account_page(whose, identity.role, identity.csrf, target, local=local, trouble=trouble)

    def _form_page(self, asked: Asked, target: str, trouble: str = "", name: str = "", status: int = 200) -> Response:
        csrf = asked.cookie("login") or new_secret()
        provider = self.access.provider
        label = provider.settings.label if provider else ""
        page = login_page(LoginPage(csrf, target, self.access.local, label, trouble, name))
        response = HTMLResponse(page, status)
        self._put(response, asked, "login", csrf, seconds=_LOGIN_S)
        return response

    async def _login(self, asked: Asked, form: Mapping[str, str]) -> Response:
        name, target = (
            form.get("name", "").strip().casefold()[:64],
            _local(form.get("next", ""), self.access.settings.home),
        )
        held = asked.cookie("login")
        if not self.access.local:
            return problem(Refusal(403, "forbidden", "people sign in by the identity provider here"))
        same = hmac.compare_digest(held.encode(), form.get("csrf", "").encode("utf-8", "replace"))
        if not held or not same or not asked.from_us:
            return self._form_page(asked, target, "The page was too old. Please try again.", name, 403)
        wait = self.access.logins.take(place_of(asked.address))
        wait = wait or await run_in_threadpool(self.access.attempts.wait_s, name, asked.address)
        if wait:
            await self._told("login", 4, asked, why="too often")
            seconds = max(1, round(wait))
            page = self._form_page(asked, target, f"Too many tries. Wait {seconds} seconds, then try again.", name, 429)
            page.headers["Retry-After"] = str(seconds)
            return page
        found = await run_in_threadpool(self._verified, name, form.get("password", ""), asked.address)
        if found is None:
            return problem(Refusal(503, "not_now", "too many sign in at once; try again", {"Retry-After": "5"}))
        if not found.right:
            # A name that is none may be a password that was typed into the wrong field: it is not written down.
            await self._told("login", 4, asked, found.known, why="wrong" if found.known else "unknown account")
            return self._form_page(asked, target, _WRONG, name, 401)
        return await self._begun(asked, found.known, found.role, target, "password")

    def _verified(self, name: str, password: str, address: str) -> _Verified | None:
        if not self._hashing.acquire(timeout=_PATIENCE_S):
            return None
        try:
            account = self.access.accounts.verify(name, password)
        finally:
            self._hashing.release()
        if account is None:
            self.access.attempts.failed(name, address)
            known = self.access.accounts.user(name)
            return _Verified("" if known is None else known.name, "" if known is None else known.role, right=False)
        self.access.attempts.succeeded(name, address)
        return _Verified(account.name, account.role, right=True)

    async def _begun(self, asked: Asked, name: str, role: str, target: str, how: str) -> Response:
        """Begin a session; the cookie of one that was there before is worth nothing afterwards."""
        secret = await run_in_threadpool(self.access.sessions.open, name, asked.address, asked.cookie("session"))
        await self._told("login", 0, asked, name, role, how)
        # A redirect would still count as the other site's when one comes from the identity provider; a page does not.
        response: Response = bounce(target) if how == "provider" else RedirectResponse(target, 303)
        self._put(response, asked, "session", secret)
        self._drop(response, asked, "login")
        return response

    async def _logout(self, asked: Asked, identity: Identity) -> Response:
        await run_in_threadpool(self.access.sessions.end, asked.cookie("session"))
        await self._told("logout", 0, asked, identity.name, identity.role)
        response = RedirectResponse("/login", 303)
        self._drop(response, asked, "session")
        # What the browser kept of patients' images goes too: the next at this machine may be somebody else.
        response.headers["Clear-Site-Data"] = '"cache", "storage"'
        return response

    async def _password(self, asked: Asked, identity: Identity, form: Mapping[str, str]) -> Response:
        wait = self.access.logins.take(place_of(asked.address))
        wait = wait or await run_in_threadpool(self.access.attempts.wait_s, identity.name, asked.address)
        home = self.access.settings.home
        if wait:
            return HTMLResponse(
                self._account(identity, home, f"Too many tries. Wait {max(1, round(wait))} seconds."), 429
            )
        found = await run_in_threadpool(self._verified, identity.name, form.get("current", ""), asked.address)
        if found is None or not found.right:
            await self._told("user-password", 4, asked, identity.name, identity.role, "wrong")
            return HTMLResponse(self._account(identity, home, "The password until now is not right."), 401)
        try:
            await run_in_threadpool(self.access.accounts.set_password, identity.name, form.get("new", ""))
        except ConfigError as error:
            return HTMLResponse(self._account(identity, home, str(error)), 422)
        await self._told("user-password", 0, asked, identity.name, identity.role)
        return await self._begun(asked, identity.name, identity.role, home, "password")

    async def _sent_away(self, asked: Asked) -> Response:
        provider = self.access.provider
        if provider is None:
            return problem(Refusal(404, "not_found", "there is no identity provider here"))
        wait = self.access.logins.take(place_of(asked.address))
        if wait:
            return problem(Refusal(429, "too_often", "too many try", {"Retry-After": str(max(1, round(wait)))}))
        target = _target(asked, self.access.settings.home)
        try:
            address, pending = await run_in_threadpool(provider.begin, target)
        except TransportError as error:
            return self._form_page(asked, target, f"{error}. Please try again later.", status=502)
        await run_in_threadpool(self.access.sessions.send_away, pending)
        response = RedirectResponse(address, 303)
        # Lax: the provider's page sends the browser back, and a strict cookie would stay behind.
        self._put(response, asked, "provider", pending.browser, seconds=int(PendingLogin.LIFE_S), same_site="lax")
        return response

    async def _came_back(self, asked: Asked) -> Response:
        provider, home = self.access.provider, self.access.settings.home
        if provider is None:
            return problem(Refusal(404, "not_found", "there is no identity provider here"))
        said = _query(asked)
        pending = await run_in_threadpool(
            self.access.sessions.come_back, said.get("state", ""), asked.cookie("provider")
        )
        try:
            if pending is None:
                raise LoginRefused("state", "this login was not begun here, is over, or took too long")
            if "error" in said:
                raise LoginRefused("provider", "the identity provider did not let you in")
            vouched = await run_in_threadpool(provider.finish, pending, said.get("code", ""), said.get("iss"))
            account = await run_in_threadpool(self._taken_in, vouched)
        except LoginRefused as refused:
            await self._told("login", 4, asked, why=f"provider: {refused.why}")
            return self._ended(asked, self._form_page(asked, home, f"{str(refused).capitalize()}.", status=401))
        except TransportError as error:
            await self._told("login", 8, asked, why="provider: not reached")
            return self._ended(asked, self._form_page(asked, home, f"{error}. Please try again later.", status=502))
        return self._ended(asked, await self._begun(asked, account.known, account.role, pending.target, "provider"))

    def _taken_in(self, vouched: Vouched) -> _Verified:
        try:
            account = self.access.accounts.take_in(vouched.name, vouched.role, vouched.subject, vouched.full_name)
        except ConfigError as error:
            raise LoginRefused("name", "your name at the identity provider can't be an account's here") from error
        if account is None:
            raise LoginRefused("revoked", "this account was revoked here, or its name is another's")
        return _Verified(account.name, account.role, right=True)

    def _ended(self, asked: Asked, response: Response) -> Response:
        self._drop(response, asked, "provider")
        return response

    async def _told(
        self, kind: Kind, outcome: Outcome, asked: Asked, who: str = "", role: str = "", why: str = ""
    ) -> None:
        act = "U" if kind == "user-password" else "E"
        event = Event(kind, act, outcome, who, role, asked.address, asked.what, why=why)  # type: ignore[arg-type]
        await asyncio.wrap_future(self.access.trail.tell(event))

    def _put(
        self, response: Response, asked: Asked, name: str, value: str, *, seconds: int | None = None,
        same_site: str = "strict",
    ) -> None:  # fmt: skip
        response.set_cookie(
            cookie_name(name, secure=asked.secure), value, max_age=seconds, path="/", secure=asked.secure,
            httponly=True, samesite="lax" if same_site == "lax" else "strict",
        )  # fmt: skip

    def _drop(self, response: Response, asked: Asked, name: str) -> None:
        key = cookie_name(name, secure=asked.secure)
        response.delete_cookie(key, path="/", secure=asked.secure, httponly=True, samesite="strict")


@dataclass(frozen=True)
class _Verified:
    """Whether a password was right.

    Args:
        known: Name of the account; "" where there is none.
        role: Its role.
        right: Whether it was.
    """

    known: str
    role: str
    right: bool


async def _form(asked: Asked, receive: Receive) -> dict[str, str] | None:
    """Return the fields of a form; None where it is none, or too long."""
    kind = asked.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > _LONGEST_FORM:
            return None
        if not message.get("more_body"):
            break
    if not body:
        return {}
    if kind != "application/x-www-form-urlencoded":
        return None
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=16))
    except ValueError:
        return None


def _query(asked: Asked) -> dict[str, str]:
    try:
        return dict(parse_qsl(asked.scope.get("query_string", b"").decode("ascii"), max_num_fields=32))
    except ValueError:
        return {}


def _target(asked: Asked, home: str) -> str:
    return _local(_query(asked).get("next", ""), home)


def _local(target: str, home: str) -> str:
    """Return where to go: a path of this server, never another's (as "//evil" would be)."""
    fine = target.startswith("/") and not target.startswith("//") and "\\" not in target and len(target) <= 1024
    return target if fine and target.isprintable() and " " not in target else home
