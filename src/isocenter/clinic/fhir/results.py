"""Results as a FHIR R4 transaction: DiagnosticReport, Observation, ImagingStudy, Device, Provenance.

The patient is named by identifier and never created: a result must not make a second patient. Each resource carries an
identifier that is derived from what it says, and is created only where there is none of it, so that a bundle that is
sent twice makes everything once.

Source:
    HL7 FHIR R4 (4.0.1): bundle, diagnosticreport, observation, imagingstudy, device, provenance; http 3.1.0.8.1
    (conditional create).
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from isocenter.clinic.subject import Subject, sided
from isocenter.core.errors import ConfigError, DataError
from isocenter.core.report import Finding
from isocenter.core.units import Code, Measurement
from isocenter.data.images.sr.content import Abstention, Answer, SrContent
from isocenter.version import __version__

__all__ = ["Systems", "result_bundle"]

Status = Literal["preliminary", "final", "amended"]
_NAMES: Final = uuid.UUID("6f1a3c8e-0d1b-5f6a-9a3d-7c1f0c5b2e10")
_SYSTEMS: Final = {
    "SCT": "http://snomed.info/sct", "DCM": "http://dicom.nema.org/resources/ontology/DCM", "LN": "http://loinc.org",
    "UCUM": "http://unitsofmeasure.org", "UMLS": "http://www.nlm.nih.gov/research/umls",
    "RADLEX": "http://radlex.org",
}  # fmt: skip
_UCUM: Final = "http://unitsofmeasure.org"
_TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem/"
_LATERALITY: Final = Code("272741003", "SCT", "Laterality")
_PRESENCE: Final = {
    "present": ("52101004", "Present"),
    "absent": ("2667000", "Absent"),
    "uncertain": ("82334004", "Indeterminate"),
}


@dataclass(frozen=True)
class Systems:
    """Whose identifiers they are.

    Args:
        patient: System of patient identifiers, e.g. "urn:oid:1.2.3"; "" makes none up, and is refused.
        accession: System of accession numbers; "" leaves them out.
        ours: System of the identifiers that we give.
    """

    patient: str
    accession: str = ""
    ours: str = "urn:isocenter:result"


@dataclass
class _Made:
    """A bundle on its way."""

    systems: Systems
    entries: list[dict[str, Any]] = field(default_factory=list)

    def add(self, resource: dict[str, Any], identifier: dict[str, str], *, several: bool = True) -> str:
        """Add a resource with its identifier; return what refers to it."""
        kind = resource["resourceType"]
        url = f"urn:uuid:{uuid.uuid5(_NAMES, '|'.join((kind, identifier['system'], identifier['value'])))}"
        named = f"{identifier['system']}|{identifier['value']}"
        request = {"method": "POST", "url": kind, "ifNoneExist": f"identifier={named}"}
        if kind == "Provenance":  # it has no identifier in R4, so that a tag tells whether it is there
            resource["meta"] = {"tag": [{"system": identifier["system"], "code": identifier["value"]}]}
            request["ifNoneExist"] = f"_tag={named}"
        else:
            resource["identifier"] = [identifier] if several else identifier
        self.entries.append({"fullUrl": url, "resource": resource, "request": request})
        return url

    def name(self, *parts: str) -> dict[str, str]:
        """Return an identifier of ours, derived from parts."""
        return {"system": self.systems.ours, "value": str(uuid.uuid5(_NAMES, "\0".join(parts)))}


def result_bundle(
    content: SrContent,
    subject: Subject,
    systems: Systems,
    *,
    at: datetime,
    status: Status = "preliminary",
    objects: Sequence[tuple[str, str, str, str]] = (),
    mark: str = "",
) -> dict[str, Any]:
    """Return a transaction bundle; the same input gives the same bundle.

    Args:
        content: Answers and abstentions.
        subject: Whose.
        systems: Of identifiers.
        at: When they were made.
        status: Of the report and its observations.
        objects: DICOM objects that hold the result: SOP class, SOP instance, series and modality of each.
        mark: What every reader must know; each observation and the report's conclusion say it.

    Raises:
        ConfigError: A time without a zone, or no system of patient identifiers.
        DataError: No patient identifier, no study, or a value that is no number.
    """
    if at.tzinfo is None:
        raise ConfigError("the time of a result needs a time zone")
    if not systems.patient:
        raise ConfigError(
            "identifiers of patients need their system, e.g. urn:oid:1.2.3: another hospital has the same"
        )
    if not subject.patient_id or not subject.study_uid:
        raise DataError("a result without a patient's identifier or a study can't be filed; nothing was made")
    made = _Made(systems)
    when = at.isoformat(timespec="seconds")
    study = made.add(
        _study(subject, systems, objects), {"system": "urn:dicom:uid", "value": f"urn:oid:{subject.study_uid}"}
    )
    common: dict[str, Any] = {"subject": _patient(subject, systems), "effectiveDateTime": when}
    devices: list[str] = []
    observations: list[str] = []
    for answer in content.answers:
        device = made.add(*_device(made, answer))
        devices.append(device)
        for what, parts in _observed(answer):
            key = made.name("observation", subject.study_uid, answer.task, answer.model.version, when, status, *parts)
            observation = {
                "resourceType": "Observation", "status": status, **what, **common,
                "category": [_term("observation-category", "imaging", "Imaging")],
                "derivedFrom": [{"reference": study}], "device": {"reference": device},
            }  # fmt: skip
            if mark:
                observation["note"] = [{"text": mark}]
            observations.append(made.add(observation, key))
    for abstention in content.abstentions:
        key = made.name("abstention", subject.study_uid, abstention.task, when, status, abstention.reason)
        observations.append(made.add(_abstained(abstention, common, study), key))
    report = {
        "resourceType": "DiagnosticReport", "status": status, **common,
        "category": [_term("v2-0074", "RAD", "Radiology")],
        "code": _concept(Code("18748-4", "LN", "Diagnostic imaging study")), "issued": when,
        "imagingStudy": [{"reference": study}], "result": [{"reference": one} for one in observations],
    }  # fmt: skip
    said = "\n".join(part for part in (mark, _said(content)) if part)
    if said:
        report["conclusion"] = said
    if not observations:
        del report["result"]
    key = made.name("report", subject.study_uid, when, status, repr(content))
    target = made.add(report, key)
    made.add(_provenance([target, *observations], devices, when), made.name("provenance", key["value"]))
    return {"resourceType": "Bundle", "type": "transaction", "entry": made.entries}


def _patient(subject: Subject, systems: Systems) -> dict[str, Any]:
    """Name the patient by identifier, as FHIR's logical references do."""
    return {"type": "Patient", "identifier": {"system": systems.patient, "value": subject.patient_id}}


def _study(subject: Subject, systems: Systems, objects: Sequence[tuple[str, str, str, str]]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "resourceType": "ImagingStudy", "status": "available", "subject": _patient(subject, systems),
    }  # fmt: skip
    started = _date_time(subject.study_date, subject.study_time)
    if started:
        made["started"] = started
    if subject.accession and systems.accession:
        number = {"type": _term("v2-0203", "ACSN", "Accession ID"),
                  "system": systems.accession, "value": subject.accession}  # fmt: skip
        made["basedOn"] = [{"type": "ServiceRequest", "identifier": number}]
    series: dict[str, dict[str, Any]] = {}
    if subject.series_uid and subject.modality:
        series[subject.series_uid] = _series(subject.series_uid, subject.modality)
    for sop_class, sop, uid, modality in objects:
        one = series.setdefault(uid, _series(uid, modality))
        one.setdefault("instance", []).append(
            {"uid": sop, "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{sop_class}"}}
        )
    if series:
        made["series"] = list(series.values())
    return made


def _series(uid: str, modality: str) -> dict[str, Any]:
    return {"uid": uid, "modality": {"system": _SYSTEMS["DCM"], "code": modality}}


def _date_time(date: str, time: str) -> str:
    """Return a study's date; not its time, which has no zone in DICOM, and a time of FHIR must have one."""
    del time
    return f"{date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == 8 and date.isdigit() else ""


def _device(made: _Made, answer: Answer) -> tuple[dict[str, Any], dict[str, str]]:
    model = answer.model
    device: dict[str, Any] = {
        "resourceType": "Device", "status": "active", "manufacturer": "Isocenter",
        "deviceName": [{"name": f"Isocenter {answer.task} ({model.name})", "type": "model-name"}],
        "type": _concept(Code("706689003", "SCT", "Artificial intelligence software")),
        "version": [{"value": model.version}, {"value": __version__}],
    }  # fmt: skip
    if model.weights_sha256:
        device["property"] = [
            {"type": {"text": "sha256 of the weights"}, "valueCode": [{"text": model.weights_sha256}]}
        ]
    return device, made.name("device", answer.task, model.name, model.version, model.weights_sha256 or "", __version__)


def _observed(answer: Answer) -> Iterable[tuple[dict[str, Any], tuple[str, ...]]]:
    """Yield what each observation says, and what makes its identifier."""
    names = {segment.number: segment for segment in answer.segments}
    for number, measured in enumerate(answer.measurements):
        what: dict[str, Any] = {"code": _concept(measured.name), "valueQuantity": _quantity(measured)}
        segment = names.get(measured.segment) if measured.segment is not None else None
        if segment is not None:
            what["bodySite"] = _concept(segment.type, sided(segment))
            if segment.laterality is not None:
                side = {"code": _concept(_LATERALITY), "valueCodeableConcept": _concept(segment.laterality)}
                what["component"] = [side]
        if measured.derivation is not None:
            # Who shows the code alone would show the mean, the median and the maximum under one name.
            what["code"]["text"] = f"{measured.name.meaning}, {measured.derivation.meaning}"
            what["method"] = _concept(measured.derivation)
        yield what, ("measurement", str(number), repr(measured))
    for number, finding in enumerate(answer.report.findings):
        yield _finding(finding), ("finding", str(number), repr(finding))


def _finding(finding: Finding) -> dict[str, Any]:
    value, meaning = _PRESENCE[finding.presence]
    return {"code": _concept(finding.code), "valueCodeableConcept": _concept(Code(value, "SCT", meaning))}


def _abstained(abstention: Abstention, common: dict[str, Any], study: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation", "status": "cancelled", **common,
        "category": [_term("observation-category", "imaging", "Imaging")],
        "code": {"text": f"Task {abstention.task}"}, "derivedFrom": [{"reference": study}],
        "dataAbsentReason": _term("data-absent-reason", "not-performed", "Not Performed"),
        "note": [{"text": abstention.reason}],
    }  # fmt: skip


def _said(content: SrContent) -> str:
    lines = [f"{name}: {text}" for a in content.answers for name, text in a.report.sections.items()]
    lines += [f"Task {a.task}: {note}" for a in content.answers for note in a.notes]
    lines += [f"Task {one.task} abstained: {one.reason}" for one in content.abstentions]
    return "\n".join(lines)


def _provenance(targets: Sequence[str], devices: Sequence[str], when: str) -> dict[str, Any]:
    kind = _term("provenance-participant-type", "assembler", "Assembler")
    agents = [{"type": kind, "who": {"reference": one}} for one in devices]
    # Where all tasks abstained no model spoke; the node did.
    node = {"type": kind, "who": {"display": f"Isocenter {__version__}"}}
    return {
        "resourceType": "Provenance", "target": [{"reference": one} for one in targets], "recorded": when,
        "agent": agents or [node],
        "activity": _term("v3-DataOperation", "CREATE", "create"),
    }  # fmt: skip


def _concept(code: Code, text: str = "") -> dict[str, Any]:
    system = _SYSTEMS.get(code.scheme, f"urn:isocenter:scheme:{code.scheme}")
    made: dict[str, Any] = {"coding": [{"system": system, "code": code.value, "display": code.meaning}]}
    return {**made, "text": text} if text else made


def _term(system: str, code: str, display: str) -> dict[str, Any]:
    """Return a concept of one of HL7's own code systems."""
    return {"coding": [{"system": f"{_TERMINOLOGY}{system}", "code": code, "display": display}]}


def _quantity(measured: Measurement) -> dict[str, Any]:
    value = float(measured.value)
    if not math.isfinite(value):
        raise DataError("a measurement that is no number can't be sent")
    return {"value": value, "unit": measured.unit.meaning, "system": _UCUM, "code": measured.unit.value}
