"""A report as the root of a set of results: which images show it, which objects belong to it, what can't wait.

IHE's AI Results profile lets a reader find all results of a study from one report. Presentation states are named beside
the images that they belong to, as the standard has it; other objects as composites.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import highdicom.sr as hd
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode

from isocenter.core.errors import ProofError
from isocenter.core.units import Code
from isocenter.data.images.key_objects import CRITICAL
from isocenter.data.images.references import ObjectReference, composite_item, image_item

__all__ = ["ACTIONABLE", "Critical", "ResultSet", "check_result_set", "set_items"]

ACTIONABLE: Final = {
    1: Code("RID49480", "RADLEX", "ACR Category 1 Actionable Finding"),
    2: Code("RID49481", "RADLEX", "ACR Category 2 Actionable Finding"),
    3: Code("RID49482", "RADLEX", "ACR Category 3 Actionable Finding"),
}
"""CID 7035: within minutes, hours, days."""
_CONTAINS = hd.RelationshipTypeValues.CONTAINS
_OBJECTS = DicomCode("121180", "DCM", "Key Images")


@dataclass(frozen=True)
class Critical:
    """A finding that somebody must hear of.

    Args:
        finding: What was found.
        category: 1: within minutes; 2: within hours; 3: within days (CID 7035).
    """

    finding: Code
    category: int = 1


@dataclass(frozen=True)
class ResultSet:
    """What belongs to a report.

    Args:
        key_images: Images or frames that show what was found, each with its presentation state or None.
        objects: Objects that the report is the root of beside the segmentations that its measurements name: key object
            selections, parametric maps, presentation states.
        critical: Findings that somebody must hear of.
    """

    key_images: tuple[tuple[ObjectReference, ObjectReference | None], ...] = ()
    objects: tuple[ObjectReference, ...] = ()
    critical: tuple[Critical, ...] = ()

    @property
    def evidence(self) -> tuple[ObjectReference, ...]:
        """Everything that it refers to, for the report's list of evidence; whole images, without frames."""
        images = [replace(one, frame=None) for one, _ in self.key_images]
        return (*images, *(s for _, s in self.key_images if s is not None), *self.objects)


def set_items(found: ResultSet) -> Iterator[hd.ContentItem]:
    """Yield the containers that a report gets: what can't wait first, then key images and other objects.

    Source:
        DICOM PS3.16 TID 1500 (extensible), CID 7001, CID 7035.
    """
    if found.critical:
        name = hd.CodedConcept(CRITICAL.value, CRITICAL.scheme, CRITICAL.meaning)
        yield _container(name, [item for one in found.critical for item in _critical(one)])
    if found.key_images or found.objects:
        images = [image_item(image, state) for image, state in found.key_images]
        yield _container(_OBJECTS, [*images, *(composite_item(one) for one in found.objects)])


def _critical(one: Critical) -> Iterator[hd.ContentItem]:
    item = hd.CodeContentItem(codes.DCM.Finding, _concept(one.finding), _CONTAINS)
    category = ACTIONABLE[one.category]
    said = hd.CodeContentItem(
        hd.CodedConcept("276214006", "SCT", "Finding category"),
        _concept(category),
        hd.RelationshipTypeValues.HAS_PROPERTIES,
    )
    item.ContentSequence = hd.ContentSequence([said])
    yield item


def _container(name: DicomCode | hd.CodedConcept, items: Sequence[hd.ContentItem]) -> hd.ContainerContentItem:
    made = hd.ContainerContentItem(name=name, relationship_type=_CONTAINS)
    made.ContentSequence = hd.ContentSequence(items)
    return made


def _concept(code: Code) -> hd.CodedConcept:
    return hd.CodedConcept(code.value, code.scheme, code.meaning)


def check_result_set(found: ResultSet, dataset: Dataset) -> None:
    """Refuse a report that, read back, does not refer to what it is the root of, or hides what can't wait.

    Raises:
        ProofError: It is so.
    """
    wanted = {one.sop_instance_uid for one in found.evidence}
    named = set(_referenced(dataset))
    listed = {
        str(sop.ReferencedSOPInstanceUID)
        for study in dataset.get("CurrentRequestedProcedureEvidenceSequence") or ()
        for series in study.ReferencedSeriesSequence
        for sop in series.ReferencedSOPSequence
    }
    if not wanted <= named or not named <= listed:
        raise ProofError("the report read back does not refer to all that belongs to it; nothing was kept")
    flagged = [
        str(item.ConceptCodeSequence[0].CodeValue)
        for container in dataset.ContentSequence
        if container.get("ConceptNameCodeSequence") and container.ConceptNameCodeSequence[0].CodeValue == CRITICAL.value
        for item in container.ContentSequence
    ]
    if flagged != [one.finding.value for one in found.critical]:
        raise ProofError("the report read back does not flag what can't wait; nothing was kept")


def _referenced(item: Dataset) -> Iterator[str]:
    for sop in item.get("ReferencedSOPSequence") or ():
        yield str(sop.ReferencedSOPInstanceUID)
        yield from _referenced(sop)
    for child in item.get("ContentSequence") or ():
        yield from _referenced(child)
