"""FHIR R4 and R5 as JSON to rows: a Bundle, one resource, a list of them, or one a line (bulk export).

A line-by-line file is read at constant memory, so its references reach no other line: records then carry their patient
by type and id, which the Patient's row carries too.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from isocenter.core.errors import DataError
from isocenter.data.records.decoding import decode
from isocenter.data.records.fhir.bundle import Resources
from isocenter.data.records.fhir.nodes import Node
from isocenter.data.records.fhir.records import condition, medication, observation, patient, procedure
from isocenter.data.records.fhir.reports import diagnostic_report, document_reference, imaging_study
from isocenter.data.records.options import ReadOptions
from isocenter.data.records.rows import Found, RawRecord, Refusal, merge

__all__ = ["MAX_BUNDLE", "MAX_LINE", "read_fhir", "stream_ndjson"]

MAX_BUNDLE = 1 << 30
"""Bytes of a Bundle above which it is refused: JSON is read whole. Larger sets come one resource a line."""
MAX_LINE = 64 << 20
_CHUNK = 2000
_MEDICATIONS = ("MedicationStatement", "MedicationRequest", "MedicationAdministration", "MedicationUsage")
_HELPING = frozenset(("ServiceRequest", "Medication", "Practitioner", "PractitionerRole", "Organization"))
"""Not rows of their own; what they say of others is taken where a reference leads to them."""
_RECORDS = {"Observation": observation, "Condition": condition, "Procedure": procedure,
            **dict.fromkeys(_MEDICATIONS, medication)}  # fmt: skip
_DEEPEST = 8


def read_fhir(data: bytes, source: str = "FHIR", options: ReadOptions | None = None) -> Found:
    """Read a Bundle, a resource or a list of resources.

    Args:
        data: JSON in UTF-8.
        source: What it is called in refusals.
        options: Who gave the identifiers, where they are ids of a server without an address.

    Raises:
        DataError: No JSON, or none of FHIR.

    Example:
        >>> found = read_fhir(b'''{"resourceType": "Observation", "status": "final", "subject": {"reference":
        ...     "Patient/7"}, "code": {"text": "Hb"}, "valueQuantity": {"value": 12.5, "unit": "g/dL"}}''')
        >>> [(r.issuer, r.patient, r.code, r.number, r.unit) for r in found.records]
        [('Patient', '7', 'Hb', 12.5, 'g/dL')]
    """
    if len(data) > MAX_BUNDLE:
        raise DataError(f"a Bundle longer than {MAX_BUNDLE:,} bytes; write it one resource a line", source=source)
    decoded = decode(data)
    try:
        content = json.loads(decoded.text)
    except (ValueError, RecursionError) as error:
        raise DataError("no JSON, or damaged", source=source) from error
    resources = Resources((options or ReadOptions()).issuer)
    entries = list(_entries(content, source, 0))
    if not entries:
        empty = isinstance(content, dict) and content.get("resourceType") == "Bundle"
        reason = "a Bundle without a resource" if empty else "JSON without a FHIR resource"
        return Found(refused=(Refusal(source, reason),))
    for _, url, resource in entries:
        resources.add(resource, url)
    notes = (f"{source}: {decoded.note}",) if decoded.note else ()
    counts: Counter[str] = Counter()
    parts = [_of_resource(resource, where, resources, counts) for where, _, resource in entries]
    return merge([Found(notes=notes), *parts, Found(refused=_counted(counts, source))])


def stream_ndjson(stream: io.BufferedIOBase, source: str, options: ReadOptions | None = None) -> Iterator[Found]:
    """Yield what a file of one resource a line holds, some thousand lines at a time.

    Args:
        stream: Bytes in UTF-8.
        source: What it is called in refusals.
        options: Who gave the identifiers.
    """
    issuer = (options or ReadOptions()).issuer
    counts: Counter[str] = Counter()
    parts: list[Found] = []
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        where = f"{source}, line {number}"
        if len(line) > MAX_LINE:
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE)
            parts.append(Found(refused=(Refusal(where, f"longer than {MAX_LINE:,} bytes"),)))
        elif line.strip():
            parts.append(_of_line(line, where, issuer, counts))
        if len(parts) >= _CHUNK:
            yield merge(parts)
            parts = []
    yield merge([*parts, Found(refused=_counted(counts, source))])


def _of_line(line: bytes, where: str, issuer: str, counts: Counter[str]) -> Found:
    try:
        content = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return Found(refused=(Refusal(where, "no JSON in UTF-8, or cut short"),))
    entries = list(_entries(content, where, 0))
    if not entries:
        return Found(refused=(Refusal(where, "no FHIR resource"),))
    resources = Resources(issuer)
    for _, url, resource in entries:
        resources.add(resource, url)
    return merge(_of_resource(resource, place, resources, counts) for place, _, resource in entries)


def _entries(content: Any, where: str, depth: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (place, full URL, resource) of all resources, Bundles within Bundles unfolded."""
    if depth > _DEEPEST:
        raise DataError("Bundles within Bundles without end", source=where)
    if isinstance(content, list):
        for number, item in enumerate(content, start=1):
            yield from _entries(item, f"{where}, resource {number}", depth + 1)
        return
    if not isinstance(content, dict) or not isinstance(content.get("resourceType"), str):
        if depth:
            yield where, "", {"resourceType": ""}
        return
    if content["resourceType"] != "Bundle":
        yield where, "", content
        return
    entries = content.get("entry")
    for number, entry in enumerate(entries if isinstance(entries, list) else [], start=1):
        place = f"{where}, entry {number}"
        resource = entry.get("resource") if isinstance(entry, dict) else None
        url = entry.get("fullUrl") if isinstance(entry, dict) else None
        if isinstance(resource, dict) and resource.get("resourceType") == "Bundle":
            yield from _entries(resource, place, depth + 1)
        elif isinstance(resource, dict):
            yield place, url if isinstance(url, str) else "", resource
        else:
            yield place, "", {"resourceType": ""}


def _of_resource(resource: dict[str, Any], where: str, resources: Resources, counts: Counter[str]) -> Found:
    kind = resource.get("resourceType")
    if not isinstance(kind, str) or not kind.isalpha():
        return Found(refused=(Refusal(where, "no resource, or without a resourceType"),))
    wrong: list[str] = []
    node = Node(resource, kind, wrong)
    if "modifierExtension" in node:
        return Found(refused=(Refusal(where, f"{kind} with a modifierExtension, which may change its meaning"),))
    found = Found()
    if kind == "Patient":
        person = patient(node, resources)
        found = Found(() if person is None else (person,))
    elif kind in _RECORDS:
        found = Found(records=tuple(_RECORDS[kind](node, resources)))
    elif kind == "DiagnosticReport":
        found = _of_report(node, resources)
    elif kind == "DocumentReference":
        document = document_reference(node, resources)
        found = Found(reports=() if document is None else (document,))
    elif kind == "ImagingStudy":
        found = Found(studies=(imaging_study(node, resources),))
    elif kind == "OperationOutcome":
        wrong.append("an OperationOutcome: the server that wrote this had something to say; the set may not be whole")
    else:
        counts[kind] += 1
    refused = tuple(Refusal(where, reason) for reason in dict.fromkeys(wrong))
    return merge([found, Found(refused=refused)]) if refused else found


def _of_report(node: Node, resources: Resources) -> Found:
    report, labels = diagnostic_report(node, resources)
    records: list[RawRecord] = []
    for contained in node.many("contained"):
        if contained.text("resourceType") == "Observation":
            inner = Node(contained.content, "Observation", node.wrong)
            records.extend(observation(inner, resources, node.one("subject")))
    return Found(reports=() if report is None else (report,), records=tuple(records), labels=tuple(labels))


def _counted(counts: Counter[str], source: str) -> tuple[Refusal, ...]:
    out = []
    for kind, count in sorted(counts.items()):
        helps = "they are read only for what others refer to" if kind in _HELPING else "they are not read"
        out.append(Refusal(source, f"{count} resource{'s' if count > 1 else ''} {kind}: {helps}", "ignored"))
    return tuple(out)
