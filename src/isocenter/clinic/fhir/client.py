"""Bundles to a FHIR server: sent again where that may help, and refusals told without a patient's value.

Source:
    HL7 FHIR R4 (4.0.1), 3.1 (RESTful API), OperationOutcome.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from isocenter.clinic.retry_after import asked_wait_s
from isocenter.clinic.secrecy import in_the_clear
from isocenter.core.errors import CapabilityError, ConfigError, TransportError

__all__ = ["FhirRefused", "FhirServer", "Sent", "send_bundle", "trust"]

_PASSING: Final = (408, 425, 429, 500, 502, 503, 504)
_MOST_ANSWER: Final = 16 << 20
_CODE = re.compile(r"[a-z][a-z-]{1,30}")
_PATH = re.compile(r"[A-Za-z][A-Za-z0-9.\[\]():]{0,120}")


class FhirRefused(TransportError):
    """The server does not take it, and would not the next time."""


@dataclass(frozen=True)
class FhirServer:
    """A server, and how to be let in.

    Args:
        url: Its base, e.g. "https://fhir.example.org/r4".
        token: Bearer token, "" for none; sent over https alone, or to this machine.
        verify: Whether the server's certificate is verified; a path is a file of certificates to trust.
        certificate: Files of our own certificate and its key, None for none.
        timeout_s: Without a byte for so long is no answer.
        retries: Further tries where one failed for a reason that passes.
        backoff_s: Wait before the first of them; doubled for each.

    Raises:
        ConfigError: The URL is neither http nor https, or a token would travel in the clear.
    """

    url: str
    token: str = field(default="", repr=False)
    verify: bool | Path = True
    certificate: tuple[Path, Path] | None = None
    timeout_s: float = 30.0
    retries: int = 3
    backoff_s: float = 1.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError("the URL of a FHIR server begins with http:// or https://")
        if self.token and in_the_clear(self.url):
            raise ConfigError("a token over http:// could be read by anybody on the way; use https://")


@dataclass(frozen=True)
class Sent:
    """What a server made of a bundle.

    Args:
        created: Resources that are new.
        present: Resources that were there before.
    """

    created: int
    present: int


def send_bundle(server: FhirServer, bundle: Mapping[str, Any], *, sleep: Callable[[float], None] = time.sleep) -> Sent:
    """Send a transaction: all of it is taken, or nothing.

    Args:
        server: Where.
        bundle: A transaction.
        sleep: Waits between tries.

    Raises:
        CapabilityError: httpx is not installed.
        ConfigError: A certificate can't be read.
        FhirRefused: The server does not take it: what is wrong is told by code and place, never by its text.
        TransportError: No answer after all tries; it may have been taken, and can be sent again.
    """
    try:
        httpx: Any = import_module("httpx")
    except ImportError as error:
        raise CapabilityError("FHIR needs httpx: pip install 'isocenter[clinic]'") from error
    headers = {"Accept": "application/fhir+json", "Content-Type": "application/fhir+json", "Prefer": "return=minimal"}
    if server.token:
        headers["Authorization"] = f"Bearer {server.token}"
    wait = server.backoff_s
    with httpx.Client(
        headers=headers, verify=trust(server), timeout=server.timeout_s, follow_redirects=False
    ) as client:
        for left in range(server.retries, -1, -1):
            told = 0.0
            try:
                answer = client.post(server.url.rstrip("/"), json=bundle)
                code = answer.status_code
                if code in (200, 201):
                    return _sent(answer, bundle)
                if code not in _PASSING:
                    raise FhirRefused(f"the server answered {code}: {_outcome(answer)}")
                reason = f"the server answered {code}"
                told = asked_wait_s(answer.headers.get("Retry-After", ""))
            except httpx.RequestError as error:
                reason = f"the server does not answer, or was cut off ({type(error).__name__})"
            if left:
                sleep(max(wait, told))
                wait *= 2
    raise TransportError(reason)


def trust(server: FhirServer) -> Any:
    """Return what httpx verifies the server by.

    Raises:
        ConfigError: A certificate can't be read.
    """
    if not server.verify or (server.verify is True and server.certificate is None):
        return server.verify
    try:
        context = ssl.create_default_context(cafile=None if server.verify is True else str(server.verify))
        if server.certificate is not None:
            context.load_cert_chain(*map(str, server.certificate))
    except OSError as error:
        raise ConfigError("a file of certificates can't be read; check its path and form") from error
    return context


def _sent(answer: Any, bundle: Mapping[str, Any]) -> Sent:
    found = _json(answer)
    entries = found.get("entry") if isinstance(found, Mapping) else None
    if not isinstance(entries, list) or len(entries) != len(bundle["entry"]):
        raise TransportError("the server's answer is not one to each resource; it may have been taken")
    codes = []
    for entry in entries:
        response = entry.get("response") if isinstance(entry, Mapping) else None
        codes.append(str(response.get("status", ""))[:3] if isinstance(response, Mapping) else "")
    if any(code not in ("200", "201", "204", "304") for code in codes):
        raise TransportError("the server says of a resource that it was not taken, in a transaction that was")
    return Sent(codes.count("201"), len(codes) - codes.count("201"))


def _outcome(answer: Any) -> str:
    """Tell an OperationOutcome by severity, code and place. Its texts may quote a patient's value, and are not told."""
    found = _json(answer)
    issues = found.get("issue") if isinstance(found, Mapping) else None
    told = []
    for issue in issues[:5] if isinstance(issues, list) else ():
        if not isinstance(issue, Mapping):
            continue
        code = str(issue.get("code", ""))
        places = issue.get("expression")
        place = places[0] if isinstance(places, list) and places and isinstance(places[0], str) else ""
        where = f" at {place}" if _PATH.fullmatch(place) else ""
        told.append(f"{code if _CODE.fullmatch(code) else 'an issue'}{where}")
    return ", ".join(told) or "it does not say why"


def _json(answer: Any) -> object:
    if len(answer.content) > _MOST_ANSWER:
        return None
    try:
        found: object = answer.json()
        return found
    except (ValueError, RecursionError):
        return None
