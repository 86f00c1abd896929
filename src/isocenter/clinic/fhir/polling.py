"""Orders asked for at a FHIR server: ServiceRequest with its patient, page by page.

Source:
    HL7 FHIR R4 (4.0.1), 3.1.1 (search, _include, _lastUpdated, paging), 12.2 (ServiceRequest; doNotPerform).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from isocenter.clinic.fhir.client import FhirServer, trust
from isocenter.clinic.fhir.requests import read_service_request
from isocenter.core.errors import CapabilityError, DataError, TransportError

__all__ = ["Requested", "ask_for_orders"]

_MOST_PAGES: Final = 100
_MOST_BYTES: Final = 16 << 20
_PAGE: Final = 100
_ORDERS: Final = ("order", "original-order", "reflex-order", "filler-order", "instance-order")


@dataclass(frozen=True)
class Requested:
    """An order of a FHIR server. Its text shows no value of the patient.

    Args:
        number: Id of the resource.
        accession: Accession number; "" for none.
        procedure: Code, text and system of what is asked for.
        reason: Why.
        priority: routine, urgent, asap or stat.
        at: When it is to be done.
        patients: Identifiers of the patient in the system that was named.
        canceled: Whether it is not, or no longer, to be done.
    """

    number: str
    accession: str
    procedure: tuple[str, str, str]
    reason: str = field(repr=False)
    priority: str
    at: str
    patients: tuple[str, ...] = field(repr=False)
    canceled: bool


def ask_for_orders(
    server: FhirServer, patient_system: str, since: datetime
) -> tuple[tuple[Requested, ...], tuple[str, ...]]:
    """Return the orders that were made or changed since a time, and why some could not be read.

    Args:
        server: Which.
        patient_system: System of the identifiers that images carry.
        since: With a time zone.

    Raises:
        CapabilityError: httpx is not installed.
        ConfigError: A certificate can't be read.
        TransportError: The server does not answer, refuses us, or answers what is no bundle.
    """
    try:
        httpx: Any = import_module("httpx")
    except ImportError as error:
        raise CapabilityError("FHIR needs httpx: pip install 'isocenter[clinic]'") from error
    headers = {"Accept": "application/fhir+json"}
    if server.token:
        headers["Authorization"] = f"Bearer {server.token}"
    requests: dict[str, Mapping[str, Any]] = {}
    patients: dict[str, Mapping[str, Any]] = {}
    query = {"_lastUpdated": f"ge{since.isoformat(timespec='seconds')}", "_include": "ServiceRequest:subject",
             "_count": str(_PAGE)}  # fmt: skip
    address, given = f"{server.url.rstrip('/')}/ServiceRequest", query
    with httpx.Client(
        headers=headers, verify=trust(server), timeout=server.timeout_s, follow_redirects=False
    ) as client:
        for _ in range(_MOST_PAGES):
            page = _page(httpx, client, address, given)
            for kind, name, resource in _resources(page):
                (patients if kind == "Patient" else requests)[name] = resource
            following = _next(page)
            if not following:
                break
            address, given = urljoin(address, following), {}
            if urlsplit(address)[:2] != urlsplit(server.url)[:2]:
                raise TransportError("the server's next page is at another server; it is not asked")
        else:
            raise TransportError(f"the server has more than {_MOST_PAGES} pages of orders")
    found, refused = [], []
    for name, resource in requests.items():
        try:
            one = _requested(name, resource, patients, patient_system, f"{server.url.rstrip('/')}/")
        except DataError as error:
            refused.append(f"{error.source}: {error}" if error.source not in str(error) else str(error))
            continue
        if one is not None:
            found.append(one)
    return tuple(found), tuple(refused)


def _page(httpx: Any, client: Any, address: str, given: Mapping[str, str]) -> Mapping[str, Any]:
    try:
        answer = client.get(address, params=given or None)
    except httpx.RequestError as error:
        raise TransportError(f"the server does not answer, or was cut off ({type(error).__name__})") from error
    if answer.status_code != 200:
        raise TransportError(f"the server answered {answer.status_code}")
    try:
        page = answer.json() if len(answer.content) <= _MOST_BYTES else None
    except (ValueError, RecursionError):
        page = None
    if not isinstance(page, Mapping) or page.get("resourceType") != "Bundle":
        raise TransportError("the server's answer is no bundle")
    return page


def _resources(page: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    entries = page.get("entry", [])
    for entry in entries if isinstance(entries, list) else ():
        resource = entry.get("resource") if isinstance(entry, Mapping) else None
        if isinstance(resource, Mapping) and resource.get("resourceType") in ("ServiceRequest", "Patient"):
            kind, name = str(resource["resourceType"]), str(resource.get("id", ""))
            if name:
                yield kind, name, resource


def _next(page: Mapping[str, Any]) -> str:
    links = page.get("link", [])
    for link in links if isinstance(links, list) else ():
        if isinstance(link, Mapping) and link.get("relation") == "next":
            return str(link.get("url", ""))
    return ""


def _requested(
    name: str, resource: Mapping[str, Any], patients: Mapping[str, Mapping[str, Any]], system: str, base: str
) -> Requested | None:
    order = read_service_request(resource)
    if order.intent not in _ORDERS:
        return None  # a proposal or a plan is nobody's order
    code = resource.get("code", {})
    system_of, value = order.codes[0] if order.codes else ("", "")
    return Requested(
        name, order.accession, (value, str(code.get("text", ""))[:200], system_of), _reason(resource), order.priority,
        order.at, _numbers(order.subject, patients, system, base),
        order.status != "active" or bool(resource.get("doNotPerform", False)),
    )  # fmt: skip


def _reason(resource: Mapping[str, Any]) -> str:
    said = []
    reasons = resource.get("reasonCode", [])
    for one in reasons if isinstance(reasons, list) else ():
        if isinstance(one, Mapping):
            codings = one.get("coding", [])
            shown = [str(c.get("display", "")) for c in codings if isinstance(c, Mapping)]
            said.append(str(one.get("text", "")) or next((text for text in shown if text), ""))
    return "; ".join(text for text in said if text)[:1000]


def _numbers(
    subject: str, patients: Mapping[str, Mapping[str, Any]], system: str, base: str
) -> tuple[str, ...]:  # fmt: skip
    """Return the patient's identifiers of a system: of the reference itself, or of the resource that it names."""
    known_as, stroke, number = subject.rpartition("|")
    if stroke:
        return (number,) if known_as == system else ()
    if subject.startswith(base):
        subject = subject.removeprefix(base)
    # Patient/ID or Patient/ID/_history/VERSION of this server: the same id is another patient at another one.
    found_id = re.fullmatch(r"Patient/([A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?", subject)
    patient = None if found_id is None else patients.get(found_id[1])
    identifiers: object = () if patient is None else patient.get("identifier", [])
    found: Sequence[Any] = identifiers if isinstance(identifiers, list) else ()
    return tuple(
        str(one["value"]).strip()
        for one in found
        if isinstance(one, Mapping) and one.get("system") == system and one.get("value")
    )
