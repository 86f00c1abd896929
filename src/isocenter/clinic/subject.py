"""Whose study a result is of: what a message to another system must name, and nothing more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from isocenter.core.mask import Segment
from isocenter.data.images.dicom.header import Wanted, scan

__all__ = ["Subject", "patients_of", "sided"]

_PATIENT: Wanted = {
    0x00080005: ("SpecificCharacterSet", "text"),
    0x00100020: ("PatientID", "text"),
    0x00100021: ("IssuerOfPatientID", "text"),
}


def patients_of(files: Iterable[Path]) -> set[tuple[str, str]]:
    """Return whose instances these are: issuer and Patient ID of each.

    Raises:
        PixelError: One is no DICOM file, or a damaged one.
    """
    headers = (scan(file, "an instance", wanted=_PATIENT) for file in files)
    return {(header.text("IssuerOfPatientID"), header.text("PatientID")) for header in headers}


def sided(segment: Segment) -> str:
    """Return a segment's name for people, never without its side where it has one.

    Example:
        >>> from isocenter.core.units import Code
        >>> sided(Segment(1, "Kidney", laterality=Code("7771000", "SCT", "Left")))
        'Kidney (Left)'
    """
    side = segment.laterality
    if side is None or side.meaning.casefold() in segment.label.casefold():
        return segment.label
    return f"{segment.label} ({side.meaning})"


@dataclass(frozen=True)
class Subject:
    """Patient, study and order; "" for what is not known. Its text shows no value of the patient.

    Args:
        patient_id: Patient ID.
        issuer: Issuer of Patient ID.
        name: Patient's Name, components with carets.
        birth_date: YYYYMMDD.
        sex: M, F or O.
        study_uid: Study Instance UID.
        accession: Accession Number.
        study_date: YYYYMMDD.
        study_time: HHMMSS.
        modality: Of the series that was read.
        series_uid: Its Series Instance UID.
        placer: Placer's order number.
        filler: Filler's order number.
    """

    patient_id: str = ""
    issuer: str = ""
    name: str = ""
    birth_date: str = ""
    sex: str = ""
    study_uid: str = ""
    accession: str = ""
    study_date: str = ""
    study_time: str = ""
    modality: str = ""
    series_uid: str = ""
    placer: str = ""
    filler: str = ""

    @classmethod
    def of(cls, header: Dataset) -> Subject:
        """Take it from a header."""

        def text(keyword: str) -> str:
            return str(header.get(keyword) or "").strip()

        requests = header.get("RequestAttributesSequence") or [Dataset()]
        return cls(
            text("PatientID"), text("IssuerOfPatientID"), text("PatientName").split("=")[0], text("PatientBirthDate"),
            text("PatientSex").upper()[:1], text("StudyInstanceUID"), text("AccessionNumber"), text("StudyDate"),
            text("StudyTime").split(".")[0], text("Modality"), text("SeriesInstanceUID"),
            str(requests[0].get("PlacerOrderNumberImagingServiceRequest") or header.get(
                "PlacerOrderNumberImagingServiceRequest") or ""),
            str(requests[0].get("FillerOrderNumberImagingServiceRequest") or header.get(
                "FillerOrderNumberImagingServiceRequest") or ""),
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"Subject(study_uid={self.study_uid!r})"
