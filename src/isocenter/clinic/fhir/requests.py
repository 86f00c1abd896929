"""What comes by FHIR R4: ServiceRequest and ImagingStudy, checked against what R4 requires before it is believed.

Source:
    HL7 FHIR R4 (4.0.1), 12.2 (ServiceRequest), 10.4 (ImagingStudy): cardinalities and required bindings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from isocenter.clinic.retrieve.plan import is_uid
from isocenter.core.errors import DataError

__all__ = ["FhirStudy", "ServiceOrder", "read_imaging_study", "read_service_request"]

_STATUS: Final = ("draft", "active", "on-hold", "revoked", "completed", "entered-in-error", "unknown")
_INTENT: Final = ("proposal", "plan", "directive", "order", "original-order", "reflex-order", "filler-order",
                  "instance-order", "option")  # fmt: skip
_PRIORITY: Final = ("routine", "urgent", "asap", "stat")
_STUDY_STATUS: Final = ("registered", "available", "cancelled", "entered-in-error", "unknown")
_MOST: Final = 10_000


@dataclass(frozen=True)
class ServiceOrder:
    """An imaging service that is asked for. Its text shows no value of the patient.

    Args:
        status: Of the request.
        intent: Of the request.
        priority: routine, urgent, asap or stat.
        codes: System and code of what is asked for.
        accession: Accession number; "" for none.
        subject: Reference, or system and value of an identifier with a stroke between them.
        at: When it is to be done; "" where it is not said.
    """

    status: str
    intent: str
    priority: str
    codes: tuple[tuple[str, str], ...]
    accession: str
    subject: str
    at: str

    def __repr__(self) -> str:
        return f"ServiceOrder(status={self.status!r}, intent={self.intent!r}, codes={self.codes!r})"


@dataclass(frozen=True)
class FhirStudy:
    """A study that is there. Its text shows no value of the patient.

    Args:
        status: Of the study.
        study_uid: Study Instance UID.
        series: Series Instance UID and modality of each.
        instances: SOP Instance UID of each.
        subject: As `ServiceOrder.subject`.
    """

    status: str
    study_uid: str
    series: tuple[tuple[str, str], ...]
    instances: tuple[str, ...]
    subject: str

    def __repr__(self) -> str:
        return f"FhirStudy(status={self.status!r}, study_uid={self.study_uid!r}, {len(self.series)} series)"


def read_service_request(resource: object) -> ServiceOrder:
    """Read a ServiceRequest.

    Raises:
        DataError: It is none, or lacks what R4 requires; the message names the element.
    """
    item = _resource(resource, "ServiceRequest")
    priority = _coded(item, "priority", _PRIORITY, required=False) or "routine"
    codes = [
        (str(one.get("system", "")), str(one.get("code", "")))
        for one in _list(_mapping(item.get("code", {}), "code"), "coding")
        if isinstance(one, Mapping)
    ]
    at = item.get("occurrenceDateTime", "")
    if not isinstance(at, str) or (at and not re.match(r"\d{4}(-\d\d(-\d\d(T\d\d:\d\d.*)?)?)?$", at)):
        raise DataError("not a date and time", source="ServiceRequest.occurrenceDateTime")
    return ServiceOrder(
        _coded(item, "status", _STATUS), _coded(item, "intent", _INTENT), priority, tuple(codes), _accession(item),
        _subject(item, "ServiceRequest"), at,
    )  # fmt: skip


def read_imaging_study(resource: object) -> FhirStudy:
    """Read an ImagingStudy.

    Raises:
        DataError: It is none, lacks what R4 requires, or has no Study Instance UID; the message names the element.
    """
    item = _resource(resource, "ImagingStudy")
    status = _coded(item, "status", _STUDY_STATUS)
    uids = [
        str(one.get("value", "")).removeprefix("urn:oid:")
        for one in _list(item, "identifier")
        if isinstance(one, Mapping) and one.get("system") == "urn:dicom:uid"
    ]
    if len(uids) != 1 or not is_uid(uids[0]):
        raise DataError("needs one identifier of system urn:dicom:uid", source="ImagingStudy.identifier")
    series: list[tuple[str, str]] = []
    instances: list[str] = []
    for place, one in enumerate(_list(item, "series")):
        where = f"ImagingStudy.series[{place}]"
        found = _mapping(one, where)
        modality = _mapping(found.get("modality", {}), f"{where}.modality").get("code", "")
        if not isinstance(modality, str) or not modality:
            raise DataError("a required element is missing", source=f"{where}.modality")
        series.append((_uid(found, where), modality))
        for number, inner in enumerate(_list(found, "instance")):
            at = f"{where}.instance[{number}]"
            instance = _mapping(inner, at)
            if not _mapping(instance.get("sopClass", {}), f"{at}.sopClass").get("code"):
                raise DataError("a required element is missing", source=f"{at}.sopClass")
            instances.append(_uid(instance, at))
            if len(instances) > _MOST:
                raise DataError(f"more than {_MOST} instances", source="ImagingStudy.series")
    return FhirStudy(status, uids[0], tuple(series), tuple(instances), _subject(item, "ImagingStudy"))


def _resource(resource: object, kind: str) -> Mapping[str, Any]:
    if not isinstance(resource, Mapping) or resource.get("resourceType") != kind:
        raise DataError(f"not a {kind}", source="resourceType")
    if "modifierExtension" in resource or "implicitRules" in resource:
        # Either may turn the meaning of the rest round, and must not be passed over.
        raise DataError("has modifiers that are not understood here", source=kind)
    return resource


def _mapping(found: object, where: str) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise DataError("not an object", source=where)
    return found


def _list(item: Mapping[str, Any], name: str) -> list[Any]:
    found = item.get(name, [])
    if not isinstance(found, list) or len(found) > _MOST:
        raise DataError("not a list, or too long", source=name)
    return found


def _coded(item: Mapping[str, Any], name: str, allowed: tuple[str, ...], *, required: bool = True) -> str:
    found = item.get(name, "")
    if found == "" and not required:
        return ""
    where = f"{item['resourceType']}.{name}"
    if found == "":
        raise DataError("a required element is missing", source=where)
    if found not in allowed:
        raise DataError(f"not one of {', '.join(allowed)}", source=where)
    return str(found)


def _uid(item: Mapping[str, Any], where: str) -> str:
    found = item.get("uid", "")
    if not isinstance(found, str) or not is_uid(found):
        raise DataError("a required UID is missing, or is none", source=f"{where}.uid")
    return found


def _subject(item: Mapping[str, Any], kind: str) -> str:
    subject = _mapping(item.get("subject", {}), f"{kind}.subject")
    reference = subject.get("reference", "")
    if isinstance(reference, str) and reference:
        return reference
    identifier = _mapping(subject.get("identifier", {}), f"{kind}.subject.identifier")
    if not identifier.get("value"):
        raise DataError("a required element is missing: whose is it?", source=f"{kind}.subject")
    return f"{identifier.get('system', '')}|{identifier['value']}"


def _accession(item: Mapping[str, Any]) -> str:
    for one in _list(item, "identifier"):
        if not isinstance(one, Mapping):
            raise DataError("not an object", source="identifier")
        kind = one.get("type", {})
        codings = kind.get("coding", []) if isinstance(kind, Mapping) else []
        if any(isinstance(c, Mapping) and c.get("code") == "ACSN" for c in codings if isinstance(codings, list)):
            return str(one.get("value", ""))
    return ""
