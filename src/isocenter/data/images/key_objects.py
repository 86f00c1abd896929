"""DICOM Key Object Selection (TID 2010): the images of a study that a finding is on, and why they were selected."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import highdicom.sr as hd
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import KeyObjectSelectionDocumentStorage

from isocenter.core.errors import DataError, ProofError
from isocenter.core.units import Code
from isocenter.data.images.atomic import atomic_path
from isocenter.data.images.identity import MANUFACTURER, Origin, content_time, derive_uid, new_object
from isocenter.data.images.instance import open_instance
from isocenter.data.images.marks import Marks
from isocenter.data.images.quiet import quiet
from isocenter.data.images.references import (
    ObjectReference,
    composite_item,
    evidence_items,
    image_item,
    referenced_requests,
)
from isocenter.version import __version__

__all__ = ["CRITICAL", "OF_INTEREST", "KeyObjects", "read_key_objects", "write_key_objects"]

OF_INTEREST = Code("113000", "DCM", "Of Interest")
"""Of CID 7010."""
CRITICAL = Code("73568-8", "LN", "Communication of Critical Results")
"""Of CID 7001; it extends CID 7010, which has no title for results that somebody must hear of at once."""


@dataclass(frozen=True)
class KeyObjects:
    """A selection.

    Args:
        images: Images or frames, each with the presentation state that it is to be shown with, or None.
        title: Why they were selected: a document title of CID 7010, which is extensible.
        description: In words; never a patient's value.
        others: Objects that are no images (segmentations, presentation states).
    """

    images: tuple[tuple[ObjectReference, ObjectReference | None], ...]
    title: Code = OF_INTEREST
    description: str = ""
    others: tuple[ObjectReference, ...] = ()


@quiet()
def write_key_objects(
    selection: KeyObjects,
    path: Path,
    *,
    headers: Sequence[Dataset],
    created: datetime | None = None,
    marks: Marks | None = None,
) -> ObjectReference:
    """Write a Key Object Selection Document and read it back.

    Args:
        selection: What is selected, and why.
        path: Final file name; appears only when what was read back is what was selected.
        headers: Of the images that it selects from.
        created: Date and time of making; None takes those of the source.
        marks: What it says of the algorithm behind it; None for nothing.

    Returns:
        How other objects refer to it.

    Raises:
        DataError: No image is selected, one is not of the headers' study, or the file can't be written.
        ProofError: What was read back is not what was selected.

    Source:
        DICOM PS3.3 A.35.4, C.17.6; PS3.16 TID 2010, CID 7010.
    """
    if not selection.images:
        raise DataError("a key object selection selects at least one image, and none was given")
    digest = hashlib.sha256(repr((selection, created)).encode()).hexdigest()
    what = f"Isocenter key images: {selection.title.meaning}"[:64]
    origin = Origin(KeyObjectSelectionDocumentStorage, "KO", what, 9601, (digest,), created, marks)
    dataset = new_object(headers, origin)
    known = {str(h.SOPInstanceUID) for h in headers}
    if any(image.sop_instance_uid not in known for image, _ in selection.images):
        raise DataError("a key image is none of the headers that were given; pass those of its series")
    for element in _root(selection):
        dataset[element.tag] = element
    dataset.ContentDate, dataset.ContentTime = content_time(headers, created)
    dataset.ReferencedPerformedProcedureStepSequence = []
    requests = referenced_requests(headers)
    if requests:
        dataset.ReferencedRequestSequence = requests
    states = [state for _, state in selection.images if state is not None]
    every = [*(image for image, _ in selection.images), *states, *selection.others]
    dataset.CurrentRequestedProcedureEvidenceSequence = evidence_items(every)
    with atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
        found = read_key_objects(temporary)
        if found != selection:
            raise ProofError("the key object selection read back is not the one that was made; nothing was kept")
    return ObjectReference.of(dataset)


def _root(selection: KeyObjects) -> Dataset:
    title = selection.title
    root = hd.ContainerContentItem(name=hd.CodedConcept(title.value, title.scheme, title.meaning), template_id="2010")
    root.ContentSequence = hd.ContentSequence()
    device = hd.DeviceObserverIdentifyingAttributes(
        uid=derive_uid("device", __version__),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=MANUFACTURER,
        serial_number=__version__,
    )
    observer = hd.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    root.ContentSequence.extend(observer)
    if selection.description:
        said = hd.TextContentItem(
            codes.DCM.KeyObjectDescription, selection.description, hd.RelationshipTypeValues.CONTAINS
        )
        root.ContentSequence.append(said)
    for image, state in selection.images:
        root.ContentSequence.append(image_item(image, state))
    for other in selection.others:
        root.ContentSequence.append(composite_item(other))
    return root


def read_key_objects(file: Path | Dataset) -> KeyObjects:
    """Read a Key Object Selection Document.

    Raises:
        DataError: It is none, or refers to what its evidence does not list.
    """
    dataset = file if isinstance(file, Dataset) else open_instance(file, pixels=False)
    name = "a key object selection" if isinstance(file, Dataset) else file.name
    if str(dataset.get("SOPClassUID")) != KeyObjectSelectionDocumentStorage:
        raise DataError("not a Key Object Selection Document", source=name)
    listed = {
        str(sop.ReferencedSOPInstanceUID): (str(series.SeriesInstanceUID), str(study.StudyInstanceUID))
        for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for study in dataset.get(keyword) or ()
        for series in study.ReferencedSeriesSequence
        for sop in series.ReferencedSOPSequence
    }

    def reference(sop: Dataset) -> ObjectReference:
        uid = str(sop.ReferencedSOPInstanceUID)
        if uid not in listed:
            raise DataError("it refers to an object that its evidence does not list", source=name)
        frame = sop.get("ReferencedFrameNumber")
        return ObjectReference(str(sop.ReferencedSOPClassUID), uid, *listed[uid], None if frame is None else int(frame))

    images, others, description = [], [], ""
    for item in dataset.get("ContentSequence") or ():
        kind = item.get("ValueType")
        if kind == "IMAGE":
            sop = item.ReferencedSOPSequence[0]
            state = sop.get("ReferencedSOPSequence")
            images.append((reference(sop), reference(state[0]) if state else None))
        elif kind == "COMPOSITE":
            others.append(reference(item.ReferencedSOPSequence[0]))
        elif kind == "TEXT" and item.ConceptNameCodeSequence[0].CodeValue == codes.DCM.KeyObjectDescription.value:
            description = str(item.TextValue)
    title = dataset.ConceptNameCodeSequence[0]
    code = Code(str(title.CodeValue), str(title.CodingSchemeDesignator), str(title.CodeMeaning))
    return KeyObjects(tuple(images), code, description, tuple(others))
