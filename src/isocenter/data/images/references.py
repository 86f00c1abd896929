"""References between DICOM objects: as content items, as evidence, and to the request that was answered."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import highdicom.sr as hd
from pydicom import Dataset
from pydicom.sr.coding import Code as DicomCode

__all__ = ["ObjectReference", "composite_item", "evidence_items", "image_item", "referenced_requests"]

_CONTAINS = hd.RelationshipTypeValues.CONTAINS
_SOURCE = DicomCode("260753009", "SCT", "Source")


@dataclass(frozen=True)
class ObjectReference:
    """An object that another refers to.

    Args:
        sop_class_uid: Of the instance.
        sop_instance_uid: Of the instance.
        series_uid: Of its series.
        study_uid: Of its study.
        frame: Frame from 1 of a multi-frame image; None for the whole of it.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str
    frame: int | None = None

    @classmethod
    def of(cls, header: Dataset, frame: int | None = None) -> ObjectReference:
        """Return the reference to an object, by its header."""
        return cls(
            str(header.SOPClassUID),
            str(header.SOPInstanceUID),
            str(header.SeriesInstanceUID),
            str(header.StudyInstanceUID),
            frame,
        )


def image_item(image: ObjectReference, state: ObjectReference | None = None) -> hd.ImageContentItem:
    """Return an IMAGE item.

    Args:
        image: The image, or one of its frames.
        state: The presentation state that it is to be shown with, or None.

    Source:
        DICOM PS3.3 C.18.4 (Image Reference Macro).
    """
    item = hd.ImageContentItem(
        name=_SOURCE,
        referenced_sop_class_uid=image.sop_class_uid,
        referenced_sop_instance_uid=image.sop_instance_uid,
        referenced_frame_numbers=None if image.frame is None else [image.frame],
        relationship_type=_CONTAINS,
    )
    if state is not None:
        item.ReferencedSOPSequence[0].ReferencedSOPSequence = [_sop(state)]
    return item


def composite_item(thing: ObjectReference, name: DicomCode | hd.CodedConcept = _SOURCE) -> hd.CompositeContentItem:
    """Return a COMPOSITE item."""
    return hd.CompositeContentItem(
        name=name,
        referenced_sop_class_uid=thing.sop_class_uid,
        referenced_sop_instance_uid=thing.sop_instance_uid,
        relationship_type=_CONTAINS,
    )


def evidence_items(references: Iterable[ObjectReference]) -> list[Dataset]:
    """Return instances by study and series, as Current Requested Procedure Evidence Sequence lists them; each once."""
    studies: dict[str, dict[str, dict[str, ObjectReference]]] = {}
    for one in references:
        studies.setdefault(one.study_uid, {}).setdefault(one.series_uid, {})[one.sop_instance_uid] = one
    out = []
    for study, by_series in studies.items():
        item = Dataset()
        item.StudyInstanceUID = study
        item.ReferencedSeriesSequence = []
        for series, instances in by_series.items():
            listed = Dataset()
            listed.SeriesInstanceUID = series
            listed.ReferencedSOPSequence = [_sop(one) for one in instances.values()]
            item.ReferencedSeriesSequence.append(listed)
        out.append(item)
    return out


def referenced_requests(headers: Sequence[Dataset]) -> list[Dataset]:
    """Return the requests that images were made for, where their headers name any.

    Source:
        DICOM PS3.3 C.17.2 and C.17.6.2 (Referenced Request Sequence), C.7.3.1 (Request Attributes Sequence).
    """
    found: dict[tuple[str, str], Dataset] = {}
    for header in headers:
        for request in header.get("RequestAttributesSequence") or ():
            accession = str(request.get("AccessionNumber") or header.get("AccessionNumber") or "")
            number = str(request.get("RequestedProcedureID") or "")
            if accession or number:
                found.setdefault((accession, number), _request(request, header, accession))
        if not header.get("RequestAttributesSequence") and header.get("AccessionNumber"):
            accession = str(header.AccessionNumber)
            found.setdefault((accession, ""), _request(Dataset(), header, accession))
    return list(found.values())


def _request(request: Dataset, header: Dataset, accession: str) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID = str(request.get("StudyInstanceUID") or header.StudyInstanceUID)
    item.ReferencedStudySequence = []
    item.AccessionNumber = accession
    item.PlacerOrderNumberImagingServiceRequest = str(request.get("PlacerOrderNumberImagingServiceRequest") or "")
    item.FillerOrderNumberImagingServiceRequest = str(request.get("FillerOrderNumberImagingServiceRequest") or "")
    item.RequestedProcedureID = str(request.get("RequestedProcedureID") or "")
    item.RequestedProcedureDescription = str(request.get("RequestedProcedureDescription") or "")
    item.RequestedProcedureCodeSequence = [
        copy.deepcopy(code) for code in request.get("RequestedProcedureCodeSequence") or ()
    ]
    return item


def _sop(one: ObjectReference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.sop_class_uid, one.sop_instance_uid
    return item
