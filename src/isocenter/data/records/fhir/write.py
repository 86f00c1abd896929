"""A signed report as FHIR R4: a Bundle of a DiagnosticReport and its Observations, read back before it stands.

The patient is named by the pseudonym that results carry, never by a header; a system that knows who it is replaces the
subject. What an algorithm measured is labelled as asserted by one (AIAST), under a report that a person signed.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from isocenter.core.errors import DataError, ProofError
from isocenter.core.units import Code, Measurement
from isocenter.data.images.atomic import atomic_path
from isocenter.data.records.fhir.read import read_fhir

__all__ = ["FhirObservation", "FhirReport", "fhir_bundle", "write_fhir_report"]

_NAMESPACE = uuid.UUID("8b6f3c1e-6a52-5d0b-9a3c-1f0e3d5a7c21")
_TERMS = "http://terminology.hl7.org/CodeSystem"
_SYSTEMS = {
    "SCT": "http://snomed.info/sct", "UCUM": "http://unitsofmeasure.org", "LN": "http://loinc.org",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM", "RADLEX": "http://radlex.org",
}  # fmt: skip
_LOINC = "http://loinc.org"
_REPORT = ("18748-4", "Diagnostic imaging study")
_SECTIONS = {
    "findings": ("59776-5", "Procedure findings Narrative"),
    "impression": ("19005-8", "Radiology Imaging study [Impression] (narrative)"),
    "technique": ("55111-9", "Current imaging procedure descriptions Document"),
    "comparison": ("18834-2", "Radiology Comparison study (narrative)"),
    "indication": ("18785-6", "Radiology Reason for study (narrative)"),
}
_AI = {"system": f"{_TERMS}/v3-ObservationValue", "code": "AIAST", "display": "Artificial Intelligence asserted"}


@dataclass(frozen=True)
class FhirObservation:
    """A measurement that a signed sentence tells.

    Args:
        measurement: Name, value and unit.
        site: Part of the body, or None.
        laterality: Its side, or None.
        label: What was measured, in words.
        method: Which model, in words.
        note: What is promised of it, "" for nothing.
    """

    measurement: Measurement
    site: Code | None
    laterality: Code | None
    label: str
    method: str
    note: str = ""


@dataclass(frozen=True)
class FhirReport:
    """A signed report.

    Args:
        identifier: Of the report, through amendments.
        version: Of it, from 1.
        amended: Whether it amends an earlier signed version.
        patient: Pseudonym of the patient.
        study_uid: Study Instance UID, "" where there is none.
        language: BCP 47 tag.
        sections: Name, title and sentences of each.
        observations: What its sentences measured.
        by: Who signed.
        at: When.
        remark: What it is, for whoever reads it.
        pdf: The same as a PDF; empty for none.
    """

    identifier: str
    version: int
    amended: bool
    patient: str
    study_uid: str
    language: str
    sections: tuple[tuple[str, str, tuple[str, ...]], ...]
    observations: tuple[FhirObservation, ...]
    by: str
    at: datetime
    remark: str
    pdf: bytes = b""

    @property
    def text(self) -> str:
        """The report as plain text."""
        parts = [f"{title.upper()}\n" + "\n".join(said) for _, title, said in self.sections]
        return "\n\n".join([*parts, self.remark]) + "\n"


def fhir_bundle(report: FhirReport) -> dict[str, Any]:
    """Return a report as a Bundle that a FHIR R4 server takes as one transaction.

    Source:
        HL7 FHIR R4 (4.0.1) Bundle, DiagnosticReport, Observation; THO v3-ObservationValue (AIAST).
    """
    issued = report.at.astimezone(UTC).isoformat(timespec="seconds")
    common = _common(report, issued)
    texts = [_narrative(report, common, *section) for section in report.sections if section[0] in _SECTIONS]
    values = [_observation(report, common, n, one) for n, one in enumerate(report.observations)]
    results = [*texts, *values]
    urls = [_url(report, "Observation", str(n)) for n in range(len(results))]
    impression = [said for name, _, said in report.sections if name == "impression"]
    content: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "meta": {"security": [_AI]},
        "language": report.language,
        "text": {"status": "generated", "div": _div(report)},
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{_uuid(report.identifier)}"}],
        "status": "amended" if report.amended else "final",
        "category": [{"coding": [{"system": f"{_TERMS}/v2-0074", "code": "RAD", "display": "Radiology"}]}],
        "code": {"coding": [{"system": _LOINC, "code": _REPORT[0], "display": _REPORT[1]}]},
        **common,
        "resultsInterpreter": [{"display": report.by}],
        "result": [{"reference": url} for url in urls],
        "presentedForm": _presented(report),
    }
    content["issued"] = issued
    if report.study_uid:
        content["imagingStudy"] = [
            {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{report.study_uid}"}, "type": "ImagingStudy"}
        ]
    if impression:
        content["conclusion"] = "\n".join(impression[0])
    entries = [(_url(report, "DiagnosticReport", ""), content), *zip(urls, results, strict=True)]
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "timestamp": issued,
        "entry": [
            {
                "fullUrl": url,
                "resource": resource,
                "request": {"method": "POST", "url": resource["resourceType"]},
            }
            for url, resource in entries
        ],
    }


def write_fhir_report(report: FhirReport, path: Path) -> None:
    """Write a report as FHIR R4 JSON, and read it back.

    Args:
        report: The report.
        path: Final file name; appears only when what was read back says what was to be written.

    Raises:
        DataError: Nothing is said.
        OutputError: The operating system refused.
        ProofError: What was read back is not what was to be written.
    """
    if not any(said for _, _, said in report.sections):
        raise DataError("a report that says nothing is not written")
    bundle = fhir_bundle(report)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(bundle, indent=1, ensure_ascii=False) + "\n", "utf-8")
        content = temporary.read_bytes()
        found = read_fhir(content, "the report")
        said = [text for one in found.reports for _, text in one.sections]
        if len(found.reports) != 1 or not all(line in "\n".join(said) for line in report.text.splitlines()):
            raise ProofError("the FHIR report read back does not say what was signed; nothing was kept")
        values = [
            (e["resource"]["valueQuantity"]["value"], e["resource"]["valueQuantity"]["code"])
            for e in json.loads(content)["entry"]
            if "valueQuantity" in e["resource"]
        ]
        wanted = [(float(o.measurement.value), o.measurement.unit.value) for o in report.observations]
        if len(values) != len(wanted) or any(
            a[1] != b[1] or not math.isclose(a[0], b[0], rel_tol=1e-12) for a, b in zip(values, wanted, strict=True)
        ):
            raise ProofError("the FHIR report read back holds other values than were signed; nothing was kept")


def _common(report: FhirReport, issued: str) -> dict[str, Any]:
    return {
        "subject": {
            "type": "Patient",
            "identifier": {"type": {"text": "pseudonym of Isocenter"}, "value": report.patient or "not known"},
        },
        "issued": issued,
    }


def _uuid(*parts: str) -> uuid.UUID:
    return uuid.uuid5(_NAMESPACE, "/".join(parts))


def _url(report: FhirReport, kind: str, number: str) -> str:
    return f"urn:uuid:{_uuid(report.identifier, str(report.version), kind, number)}"


def _coding(code: Code) -> dict[str, str]:
    system = _SYSTEMS.get(code.scheme)
    # A scheme of our own, or one that FHIR has no address for, is told in words.
    return {"display": code.meaning, **({"system": system, "code": code.value} if system else {})}


def _concept(code: Code, text: str = "") -> dict[str, Any]:
    return {"coding": [_coding(code)], "text": text or code.meaning}


def _narrative(
    report: FhirReport, common: dict[str, Any], name: str, title: str, said: Sequence[str]
) -> dict[str, Any]:  # fmt: skip
    value, display = _SECTIONS[name]
    return {
        "resourceType": "Observation",
        "language": report.language,
        "status": "amended" if report.amended else "final",
        "category": [_category()],
        "code": {"coding": [{"system": _LOINC, "code": value, "display": display}], "text": title},
        **common,
        "valueString": "\n".join(said),
    }


def _category() -> dict[str, Any]:
    return {"coding": [{"system": f"{_TERMS}/observation-category", "code": "imaging", "display": "Imaging"}]}


def _observation(report: FhirReport, common: dict[str, Any], number: int, one: FhirObservation) -> dict[str, Any]:
    made = one.measurement
    content: dict[str, Any] = {
        "resourceType": "Observation",
        "meta": {"security": [_AI]},
        "status": "amended" if report.amended else "final",
        "category": [_category()],
        "code": _concept(made.name, f"{one.label}: {made.name.meaning}" if one.label else made.name.meaning),
        **common,
        "valueQuantity": {
            "value": float(made.value), "unit": made.unit.value, "system": _SYSTEMS["UCUM"], "code": made.unit.value,
        },
        "method": {"text": one.method},
    }  # fmt: skip
    if one.site is not None:
        codings = [_coding(one.site), *([_coding(one.laterality)] if one.laterality else [])]
        side = f", {one.laterality.meaning.lower()}" if one.laterality else ""
        content["bodySite"] = {"coding": codings, "text": one.site.meaning + side}
    if one.note:
        content["note"] = [{"text": one.note}]
    return content


def _presented(report: FhirReport) -> list[dict[str, Any]]:
    forms = [("text/plain; charset=utf-8", report.text.encode(), "Signed report, text")]
    if report.pdf:
        forms.append(("application/pdf", report.pdf, "Signed report, PDF"))
    return [
        {
            "contentType": kind,
            "language": report.language,
            "data": base64.b64encode(content).decode(),
            "size": len(content),
            # The element is defined as SHA-1; it finds damage, and proves nothing.
            "hash": base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode(),
            "title": title,
            "creation": report.at.astimezone(UTC).isoformat(timespec="seconds"),
        }
        for kind, content, title in forms
    ]


def _div(report: FhirReport) -> str:
    parts = [
        f"<h2>{html.escape(title)}</h2>" + "".join(f"<p>{html.escape(text)}</p>" for text in said)
        for _, title, said in report.sections
    ]
    return f'<div xmlns="http://www.w3.org/1999/xhtml"><p><b>{html.escape(report.remark)}</b></p>{"".join(parts)}</div>'
