"""A report that a person signed, as DICOM tells it: verified, by whom and when, with its sentences and their places.

Each sentence is a TEXT item under the concept of its section. Where it can be seen stands below it, as a point in
patient millimetres that it was inferred from, and is read back and compared like every coordinate that is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import highdicom.sr as hd
import numpy as np
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode
from pydicom.valuerep import PersonName

from isocenter.core.errors import DataError, ProofError
from isocenter.data.images.sr.read import SrDocument, SrItem

__all__ = ["Attestation", "SignedPoint", "SignedSentence", "SrReference", "attest", "check_attested", "signed_items"]

_NEAR_MM = 0.01
"""Coordinates are stored as 32-bit floats; at 1 m these are exact to 0.00006 mm."""
_SECTIONS: dict[str, DicomCode] = {
    "findings": codes.DCM.Findings,
    "impression": codes.DCM.Impression,
    "indication": codes.DCM.IndicationsForProcedure,
    "technique": codes.DCM.ProcedureDescription,
    "comparison": codes.DCM.Comment,
    "limits": codes.DCM.Comment,
}
_REGION = codes.DCM.ImageRegion


@dataclass(frozen=True)
class SignedPoint:
    """A place that a sentence was inferred from.

    Args:
        point_lps_mm: In patient millimetres.
        frame_uid: Frame of reference of the image.
    """

    point_lps_mm: tuple[float, float, float]
    frame_uid: str


@dataclass(frozen=True)
class SignedSentence:
    """A sentence of a signed report: its section, its words, and where they can be seen."""

    section: str
    text: str
    points: tuple[SignedPoint, ...] = ()


@dataclass(frozen=True)
class SrReference:
    """An earlier report that is amended."""

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str

    @classmethod
    def of(cls, header: Dataset) -> SrReference:
        """Return the reference to a report that was written."""
        return cls(
            str(header.SOPClassUID),
            str(header.SOPInstanceUID),
            str(header.SeriesInstanceUID),
            str(header.StudyInstanceUID),
        )


@dataclass(frozen=True)
class Attestation:
    """Who signed a report, when, and what it says.

    Args:
        by: Name as the person writes it; DICOM stores it as a family name, as nothing tells which word is which.
        at: When; with a time zone.
        organization: For which the person signs; "" where it is not known.
        sentences: In order.
        amends: The report that this one replaces, or None.
        remark: What it is, for whoever reads it ("AI draft, signed by ...").

    Raises:
        DataError: The time has no zone, or the name can't be stored.
    """

    by: str
    at: datetime
    sentences: tuple[SignedSentence, ...]
    remark: str
    organization: str = ""
    amends: SrReference | None = None

    def __post_init__(self) -> None:
        if self.at.tzinfo is None:
            raise DataError("a signature needs a time with its zone")
        if not 2 <= len(self.by) <= 64 or any(sign in self.by for sign in "\\^="):
            raise DataError("a name of 2 to 64 characters without \\ ^ = signs a report")


def attest(dataset: Dataset, signed: Attestation) -> None:
    """State in a report that it is verified.

    Args:
        dataset: The report.
        signed: By whom.

    Source:
        DICOM PS3.3 C.17.2 (SR Document General Module): Verification Flag, Verifying Observer Sequence, Preliminary
        Flag, Predecessor Documents Sequence.
    """
    dataset.VerificationFlag, dataset.PreliminaryFlag = "VERIFIED", "FINAL"
    observer = Dataset()
    observer.VerifyingObserverName = PersonName(signed.by)
    observer.VerifyingObserverIdentificationCodeSequence = []
    observer.VerifyingOrganization = signed.organization or "not stated"
    observer.VerificationDateTime = signed.at.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")
    dataset.VerifyingObserverSequence = [observer]
    if signed.amends is not None:
        before = Dataset()
        before.StudyInstanceUID = signed.amends.study_uid
        series, instance = Dataset(), Dataset()
        series.SeriesInstanceUID = signed.amends.series_uid
        instance.ReferencedSOPClassUID = signed.amends.sop_class_uid
        instance.ReferencedSOPInstanceUID = signed.amends.sop_instance_uid
        series.ReferencedSOPSequence = [instance]
        before.ReferencedSeriesSequence = [series]
        dataset.PredecessorDocumentsSequence = [before]


def signed_items(signed: Attestation) -> Iterator[hd.ContentItem]:
    """Yield the sentences of a report, and what it is."""
    yield hd.TextContentItem(codes.DCM.Comment, signed.remark, hd.RelationshipTypeValues.CONTAINS)
    for one in signed.sentences:
        name = _SECTIONS.get(one.section, codes.DCM.Comment)
        item = hd.TextContentItem(name, one.text, hd.RelationshipTypeValues.CONTAINS)
        if one.points:
            item.ContentSequence = hd.ContentSequence()
        for place in one.points:
            item.ContentSequence.append(
                hd.Scoord3DContentItem(
                    name=_REGION,
                    graphic_type=hd.GraphicTypeValues3D.POINT,
                    graphic_data=np.array([place.point_lps_mm], dtype=np.float64),
                    frame_of_reference_uid=place.frame_uid,
                    relationship_type=hd.RelationshipTypeValues.INFERRED_FROM,
                )
            )
        yield item


def check_attested(signed: Attestation, dataset: Dataset, document: SrDocument) -> None:
    """Refuse a file that, read back, is not signed by whom it was, or does not say what was signed, where it was seen.

    Raises:
        ProofError: It is so.
    """
    observers = dataset.get("VerifyingObserverSequence") or [Dataset()]
    wanted = signed.at.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")
    if (
        dataset.get("VerificationFlag") != "VERIFIED"
        or str(observers[0].get("VerifyingObserverName", "")) != signed.by
        or str(observers[0].get("VerificationDateTime", "")) != wanted
    ):
        raise ProofError("the report read back is not signed by whom it was; nothing was kept")
    texts = [i for i in document.root.walk() if i.value_type == "TEXT" and i.relationship == "CONTAINS"]
    place = next((n for n, item in enumerate(texts) if item.value == signed.remark), None)
    said = [] if place is None else texts[place + 1 :]  # they are the last of all texts
    if [i.value for i in said] != [one.text for one in signed.sentences]:
        raise ProofError("the report read back does not say what was signed; nothing was kept")
    for one, item in zip(signed.sentences, said, strict=True):
        found = _points(item)
        expected = [p.point_lps_mm for p in one.points]
        if len(found) != len(expected) or any(
            np.abs(np.subtract(a, b)).max() > _NEAR_MM for a, b in zip(found, expected, strict=True)
        ):
            raise ProofError("a place in the report read back is not the one that was seen; nothing was kept")


def _points(item: SrItem) -> Sequence[tuple[float, ...]]:
    return [point for child in item.children if child.value_type == "SCOORD3D" for point in child.points]
