"""Requests to the server, and its problems as our errors."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from isocenter.core.errors import (
    AtCapacity,
    CapabilityError,
    ConfigError,
    Conflict,
    DataError,
    GeometryError,
    IdentityLeak,
    IsocenterError,
    ModelError,
    NotFound,
    OutputError,
    PixelError,
    PluginError,
    SessionExpired,
    Stopped,
    TooLarge,
    TransportError,
    UnitsError,
    WeightsError,
)

__all__ = ["PREFIX", "Transport", "error_of", "from_json", "model_from_json", "split_address"]

PREFIX = "/api/v1"
T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

_BY_CODE: Mapping[str, type[IsocenterError]] = {
    "not_found": NotFound,
    "stopped": Stopped,
    "session_expired": SessionExpired,
    "ended": SessionExpired,
    "at_capacity": AtCapacity,
    "too_many_waiting": AtCapacity,
    "too_large": TooLarge,
    "output": OutputError,
    "identity_leak": IdentityLeak,
    "geometry": GeometryError,
    "units": UnitsError,
    "pixels": PixelError,
    "data": DataError,
    "config": ConfigError,
    "invalid": ConfigError,
    "not_offered": CapabilityError,
    "weights": WeightsError,
    "model": ModelError,
    "plugin": PluginError,
}
_CONFLICTS = (
    "conflict",
    "stale",
    "taken",
    "another_reader",
    "signed",
    "withheld_sentences",
    "not_read",
    "not_signed",
    "reading_changed",
)


def error_of(code: str, detail: str) -> IsocenterError:
    """Return the error that a problem of the server stands for.

    Example:
        >>> error_of("at_capacity", "all 8 places are taken")
        AtCapacity('all 8 places are taken')
    """
    if code in _CONFLICTS:
        return Conflict(detail, code=code)
    return _BY_CODE.get(code, TransportError)(detail)


def split_address(address: str, token: str = "") -> tuple[str, str]:
    """Return where the server is, and the token; an address as it is printed by `isocenter serve` holds both.

    Raises:
        ConfigError: It is no address of http or https.

    Example:
        >>> split_address("http://127.0.0.1:8470/#token=abc")
        ('http://127.0.0.1:8470', 'abc')
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"a server's address begins with http:// or https://; got {address[:80]!r}")
    if not token and parts.fragment.startswith("token="):
        token = parts.fragment.removeprefix("token=")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", token


class Transport:
    """One server.

    Args:
        address: Where it is.
        token: That it asks for.
        reader: Who works.
        timeout_seconds: How long an answer may take.
        inner: Another way for requests to go, for tests.
    """

    def __init__(
        self,
        address: str,
        token: str,
        reader: str,
        timeout_seconds: float,
        inner: httpx.BaseTransport | None = None,
    ) -> None:
        self.base, self.token = split_address(address, token)
        self.reader, self.timeout_seconds = reader, timeout_seconds
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if reader:
            headers["X-Isocenter-Reader"] = reader
        self._http = httpx.Client(
            base_url=self.base, headers=headers, timeout=timeout_seconds, transport=inner, follow_redirects=False
        )

    @property
    def socket_base(self) -> str:
        """Where sockets are opened."""
        return "ws" + self.base.removeprefix("http") + PREFIX

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ask(
        self,
        method: str,
        *path: str,
        query: Mapping[str, str | int | float | None] | None = None,
        json: object = None,
    ) -> httpx.Response:
        """Send a request.

        Args:
            method: GET, POST, PUT or DELETE.
            *path: Parts of the path below the prefix.
            query: What is None is left out.
            json: Body.

        Raises:
            TransportError: The server does not answer, or with an error that is none of ours.
            IsocenterError: As the server says.
        """
        url = PREFIX + "".join("/" + quote(part, safe="") for part in path)
        params = {key: value for key, value in (query or {}).items() if value is not None}
        try:
            response = self._http.request(method, url, params=params, json=json)
        except httpx.HTTPError as error:
            raise TransportError(
                f"{self.base} does not answer ({type(error).__name__}); is the server running?"
            ) from None
        if response.is_success:
            return response
        raise _refusal(response)

    def get(self, *path: str, **query: str | int | float | None) -> Any:
        """Ask for JSON."""
        return _json(self.ask("GET", *path, query=query))

    def send(self, method: str, *path: str, json: object = None) -> Any:
        """Send JSON, and return what comes back."""
        response = self.ask(method, *path, json=json)
        return _json(response) if response.content else None


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        raise TransportError("the answer is no JSON; is this a server of isocenter serve?") from None


def _refusal(response: httpx.Response) -> IsocenterError:
    code, detail = "", f"the server answered {response.status_code}"
    try:
        body = response.json()
        code, detail = str(body.get("code", "")), str(body.get("detail", detail))
    except (ValueError, AttributeError):
        pass
    if response.status_code == 401:
        return TransportError("the server refused the token; give the one that it printed when it started")
    return error_of(code, detail)


def from_json(kind: type[T], value: Any) -> T:
    """Return a dataclass from JSON; fields that a newer server has and we do not know are left out.

    Raises:
        TransportError: A field is missing, or the value is no object.
    """
    if not isinstance(value, Mapping):
        raise TransportError(f"the server's answer is no {kind.__name__}")
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    given = {name: _typed(hints[name], value[name]) for name in names if name in value}
    try:
        return kind(**given)
    except TypeError:
        missing = sorted(set(names) - set(given))
        raise TransportError(
            f"the server's {kind.__name__} lacks {', '.join(missing)}; is it another version?"
        ) from None


def model_from_json(kind: type[M], value: Any) -> M:
    """Return a model from JSON; fields that a newer server has and we do not know are left out.

    Raises:
        TransportError: A field is missing, or is another thing than it should be.
    """
    try:
        return kind.model_validate(value, extra="ignore")
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        raise TransportError(
            f"the server's {kind.__name__} does not fit at {where or 'all'}; is it another version?"
        ) from None


def _typed(hint: Any, value: Any) -> Any:
    """Bring JSON to the type of a field: dataclasses and tuples, as deep as they go."""
    if value is None:
        return None
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _typed(next(arg for arg in args if arg is not type(None)), value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_json(hint, value)
    if origin is tuple and isinstance(value, Sequence) and not isinstance(value, str):
        inner = args[:1] * len(value) if len(args) == 2 and args[1] is Ellipsis else args
        if len(inner) != len(value):
            raise TransportError(f"the server sent {len(value)} values in place of {len(inner)}")
        return tuple(_typed(one, part) for one, part in zip(inner, value, strict=True))
    return float(value) if hint is float and isinstance(value, int) else value
