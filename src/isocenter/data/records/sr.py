"""A DICOM Structured Report to rows: its texts by section are the report, its numbers, codes and dates are records.

Source:
    DICOM PS3.3 A.35 and C.17 (SR documents), PS3.16 TID 2000 (diagnostic reports), TID 1500 (measurement reports).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydicom import Dataset

from isocenter.core.units import Code, Measurement
from isocenter.data.images.instance import open_instance
from isocenter.data.images.quiet import quiet
from isocenter.data.images.sr.read import MeasurementGroup, SrDocument, SrItem, read_sr
from isocenter.data.records.moments import dicom_moment, hl7_moment
from isocenter.data.records.people import as_sex, words_of
from isocenter.data.records.rows import Found, RawPatient, RawRecord, RawReport, Refusal, Status

__all__ = ["dicom_patient", "read_sr_report", "sr_or_reason"]

_CONTEXT = ("HAS OBS CONTEXT", "HAS ACQ CONTEXT", "HAS CONCEPT MOD", "HAS PROPERTIES", "INFERRED FROM", "SELECTED FROM")
_LIBRARY = "111028"
"""Image Library: facts of images, which images tell themselves."""


@quiet()
def read_sr_report(file: Path | Dataset, source: str) -> Found:
    """Read a Structured Report of any kind.

    Args:
        file: Path or dataset.
        source: What it is called in refusals.

    Raises:
        DataError: Not readable, not a Structured Report, or without a content tree.
    """
    dataset = file if isinstance(file, Dataset) else open_instance(file)
    document = read_sr(dataset)
    refused = [Refusal(source, note, "ignored") for note in document.notes]
    patient = dicom_patient(dataset, source, refused)
    study_time = _moment(dataset, "Study", source, refused)
    time = _moment(dataset, "Content", source, refused) or study_time
    shared = RawRecord(
        patient.issuer if patient else "", patient.identifier if patient else "", "observation", "",
        time=time, status=_status(dataset), form="sr", identifier=document.sop_instance_uid,
        accession=_text(dataset, "AccessionNumber"), study_uid=_text(dataset, "StudyInstanceUID"),
    )  # fmt: skip
    records = (*_grouped(document, shared), *_loose(document, shared), *_coded(document.root, shared, source, refused))
    reports: tuple[RawReport, ...] = ()
    if any(text.strip() for text in document.report.sections.values()):
        earlier = dataset.get("PredecessorDocumentsSequence") or []
        amends = _predecessor(earlier[0]) if earlier else ""
        title = document.title.meaning if document.title is not None else document.root.label
        issuers = dataset.get("IssuerOfAccessionNumberSequence") or [Dataset()]
        images = tuple(dict.fromkeys(i.instance for i in document.root.walk() if i.instance))
        reports = (
            RawReport(
                shared.issuer, shared.patient, tuple(document.report.sections.items()), shared.accession,
                _text(issuers[0], "LocalNamespaceEntityID") or _text(issuers[0], "UniversalEntityID"),
                shared.study_uid, time, study_time, _language(document), title, shared.status, "sr",
                document.sop_instance_uid, "", amends, _people(dataset), images,
            ),
        )  # fmt: skip
    if not reports and not records:
        refused.append(Refusal(source, "a Structured Report without a text or a value", "ignored"))
    return Found(() if patient is None else (patient,), reports, records, refused=tuple(refused))


def dicom_patient(dataset: Dataset, source: str, refused: list[Refusal]) -> RawPatient | None:
    """Return the patient of a DICOM header, None where it has no Patient ID."""
    identifier = _text(dataset, "PatientID")
    if not identifier:
        refused.append(Refusal(source, "has no Patient ID; whose it is can't be told"))
        return None
    born = _text(dataset, "PatientBirthDate")
    birth = dicom_moment(born) if born else ""
    sex = as_sex(_text(dataset, "PatientSex"))
    if birth is None:
        refused.append(Refusal(source, "Patient's Birth Date is no date"))
    if sex is None:
        refused.append(Refusal(source, "Patient's Sex is none of DICOM's", "ignored"))
    others = [
        (_text(item, "IssuerOfPatientID"), _text(item, "PatientID"))
        for item in dataset.get("OtherPatientIDsSequence") or []
        if _text(item, "PatientID")
    ]
    words = [_text(dataset, key) for key in ("OtherPatientNames", "PatientBirthName", "PatientMotherBirthName",
             "PatientAddress", "PatientTelephoneNumbers", "MedicalRecordLocator", "MilitaryRank")]  # fmt: skip
    return RawPatient(
        _text(dataset, "IssuerOfPatientID"), identifier, tuple(dict.fromkeys(others)), _text(dataset, "PatientName"),
        birth or "", sex or "", None, "", words_of(words), "sr",
    )  # fmt: skip


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def _moment(dataset: Dataset, which: str, source: str, refused: list[Refusal]) -> str:
    day = _text(dataset, f"{which}Date")
    if not day:
        return ""
    found = dicom_moment(day, _text(dataset, f"{which}Time"), _text(dataset, "TimezoneOffsetFromUTC"))
    if found is None:
        found = dicom_moment(day)
        refused.append(Refusal(source, f"{which} Date or Time is none" + ("; the day is taken" if found else "")))
    return found or ""


def _status(dataset: Dataset) -> Status:
    """Tell how far an SR is (PS3.3 C.17.2); one that is complete and that nobody attested says nothing."""
    stated = _text(dataset, "PreliminaryFlag")
    if stated in ("PRELIMINARY", "FINAL"):
        return "preliminary" if stated == "PRELIMINARY" else "final"
    if _text(dataset, "CompletionFlag") == "PARTIAL":
        return "preliminary"
    return "final" if _text(dataset, "VerificationFlag") == "VERIFIED" else ""


def _language(document: SrDocument) -> str:
    """Return the language that the tree states; "" where `read_sr` had to assume one."""
    return document.report.language if any(i.is_named("121049") for i in document.root.children) else ""


def _predecessor(study: Dataset) -> str:
    for series in study.get("ReferencedSeriesSequence") or []:
        for item in series.get("ReferencedSOPSequence") or []:
            return _text(item, "ReferencedSOPInstanceUID")
    return ""


def _people(dataset: Dataset) -> tuple[str, ...]:
    """Return the names of all persons in the header and in the tree, but the patient's."""
    names: list[str] = []
    for element in dataset.iterall():
        if element.VR == "PN" and element.keyword != "PatientName" and element.value:
            values = element.value if isinstance(element.value, list) or element.VM > 1 else [element.value]
            names += [str(value) for value in values]
    return words_of(names)


def _where(group: MeasurementGroup | None, measurement: Measurement | None) -> str:
    codes: list[Code | None] = []
    if group is not None:
        codes += [group.finding, group.site, group.laterality]
    if measurement is not None:
        codes.append(measurement.derivation)
    return "; ".join(code.meaning for code in codes if code is not None)


def _grouped(document: SrDocument, shared: RawRecord) -> Iterator[RawRecord]:
    for number, group in enumerate(document.groups, start=1):
        own = replace(shared, identifier=f"{shared.identifier}/{group.tracking_uid or number}")
        for measurement in group.measurements:
            yield _measured(measurement, own, group)
        for name, value in group.evaluations:
            yield replace(
                own, code=name.value, system=name.scheme, display=name.meaning, text=value.meaning,
                value_code=(value.scheme, value.value),
            )  # fmt: skip


def _loose(document: SrDocument, shared: RawRecord) -> Iterator[RawRecord]:
    return (_measured(measurement, shared, None) for measurement in document.loose)


def _measured(measurement: Measurement, shared: RawRecord, group: MeasurementGroup | None) -> RawRecord:
    name = measurement.name
    return replace(
        shared, code=name.value, system=name.scheme, display=name.meaning, number=measurement.value,
        unit=measurement.unit.value, text=_where(group, measurement),
    )  # fmt: skip


def _coded(root: SrItem, shared: RawRecord, source: str, refused: list[Refusal]) -> Iterator[RawRecord]:
    """Yield codes and dates that stand in the tree outside of measurement groups and of context."""
    stack = list(reversed(root.children))
    while stack:
        item = stack.pop()
        group = item.is_named("125007") or any(c.is_named("112039", "112040") for c in item.children)
        if item.relationship in _CONTEXT or item.is_named(_LIBRARY) or (item.value_type == "CONTAINER" and group):
            continue
        stack.extend(reversed(item.children))
        if item.value_type not in ("CODE", "DATE", "DATETIME"):
            continue
        name = item.name or Code(item.label[:16] or "?", "99NONE", item.label[:64] or "?")
        row = replace(
            shared, code=item.label if item.name is None else name.value,
            system="" if item.name is None else name.scheme, display=item.label or name.meaning,
        )  # fmt: skip
        if item.value_type == "CODE":
            if isinstance(item.value, Code):
                yield replace(row, text=item.value.meaning, value_code=(item.value.scheme, item.value.value))
            elif item.value:
                yield replace(row, text=str(item.value))
        else:
            moment = hl7_moment(str(item.value or ""))
            if moment is None:
                refused.append(Refusal(source, "a date in its tree is none"))
            else:
                yield replace(row, value_time=moment)


def sr_or_reason(dataset: Dataset) -> str:
    """Return why a DICOM file is no Structured Report; "" where it is one."""
    kind = _text(dataset, "SOPClassUID")
    if kind.startswith("1.2.840.10008.5.1.4.1.1.88."):
        return ""
    if kind.startswith("1.2.840.10008.5.1.4.1.1.104."):
        return "an encapsulated document (PDF, CDA) is not read; send its text"
    if not kind:
        return "a DICOM file without an SOP Class; no report that can be told"
    return "a DICOM object that is no report"
