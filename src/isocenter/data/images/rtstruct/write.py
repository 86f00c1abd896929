"""Mask to RT Structure Set, proven by reading it back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import RTStructureSetStorage

from isocenter.core.errors import ConfigError, GeometryError
from isocenter.core.mask import Mask, Segment
from isocenter.core.units import Code
from isocenter.data.images.atomic import atomic_path
from isocenter.data.images.identity import Origin, Plane, content_time, derive_uid, new_object, planes, slice_of
from isocenter.data.images.labels import check_labels
from isocenter.data.images.marks import Marks
from isocenter.data.images.proof import Proof, prove
from isocenter.data.images.quiet import quiet
from isocenter.data.images.rtstruct.outline import trace_outlines
from isocenter.data.images.rtstruct.read import read_rtstruct

__all__ = ["write_rtstruct"]

_STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, as every planning system writes it
_CONTOUR_DATA = Tag("ContourData")
_SHORT = 16


@quiet()
def write_rtstruct(
    mask: Mask,
    path: Path,
    *,
    headers: Sequence[Dataset],
    label: str = "ISOCENTER",
    holes: Literal["keyhole", "xor"] = "keyhole",
    created: datetime | None = None,
    mark: str = "",
    marks: Marks | None = None,
) -> Proof:
    """Write a mask as contours along voxel edges, in the planes of its slices.

    Args:
        mask: With a place in the patient. Probabilities are contoured at 0.5. An empty segment becomes a region
            without contours.
        path: Final file name; appears only when the proof holds.
        headers: Of the image the mask belongs to, same frame of reference.
        label: Structure Set Label, at most 16 characters.
        holes: "keyhole" joins a hole to its outline by a channel of no width, which every program reads; "xor" writes
            it as an outline of its own, of kind CLOSEDPLANAR_XOR, which the standard knows since 2020.
        created: Date and time of making; None leaves them empty.
        mark: Stands in the description of the structure set and of the series; at most 44 characters of ASCII.
        marks: What it says of the algorithm behind it; None for nothing.

    Returns:
        The proof: every voxel was read back.

    Raises:
        DataError: No header, a label that DICOM cannot hold, or the file cannot be written.
        GeometryError: The mask has no place in the patient, lies in another frame of reference than the headers, or
            was not read back as written.

    Source:
        DICOM PS3.3 A.19, C.8.8.5, C.8.8.6, C.8.8.8.
    """
    if holes not in ("keyhole", "xor"):
        raise ConfigError(f"holes must be 'keyhole' or 'xor', got {holes!r}")
    if not 1 <= len(label) <= _SHORT:
        raise ConfigError(f"a structure set label must have 1 to {_SHORT} characters, got {len(label)}")
    geometry = mask.geometry
    geometry.require_affine("writing an RT Structure Set")
    if geometry.stack != "space":
        raise GeometryError("an RT Structure Set holds planes in space, and this mask is a series in time")
    solid = _solid(mask)
    digest = hashlib.sha256(np.ascontiguousarray(solid.array).data)
    digest.update(repr((np.asarray(geometry.affine).tolist(), mask.segments, label, holes, created)).encode())
    content = (digest.hexdigest(),)
    title = f"{mark}: RT Structure Set"[:64] if mark else "Isocenter RT Structure Set"
    origin = Origin(RTStructureSetStorage, "RTSTRUCT", title, 9101, content, created, marks)
    dataset = new_object(headers, origin)
    frame_uid = _frame_uid(mask, headers, str(dataset.StudyInstanceUID))
    _structure_set(dataset, solid.segments, headers, (frame_uid, label), created)
    if mark:
        dataset.StructureSetDescription = mark
    on_slice = slice_of(geometry, planes(headers))
    dataset.ROIContourSequence = [_roi_contour(solid, segment, on_slice, holes) for segment in solid.segments]
    dataset.RTROIObservationsSequence = [_observation(segment) for segment in solid.segments]
    with atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
        return prove(solid, read_rtstruct(temporary, geometry))


def _solid(mask: Mask) -> Mask:
    """Return the mask as labels or bool planes."""
    check_labels(mask.segments)
    if mask.array.dtype != np.float32:
        return mask
    stack = np.stack([mask.segment_array(s.number) for s in mask.segments])
    return Mask(stack, mask.geometry, mask.segments, mask.source)


def _frame_uid(mask: Mask, headers: Sequence[Dataset], study_uid: str) -> str:
    found = {str(h.get("FrameOfReferenceUID") or "") for h in headers}
    if len(found) > 1:
        raise GeometryError("the source's headers lie in several frames of reference; pass one series")
    theirs = found.pop()
    if theirs and mask.geometry.frame_uid and theirs != mask.geometry.frame_uid:
        raise GeometryError(
            f"the mask lies in frame of reference {mask.geometry.frame_uid}, the headers in {theirs}; pass the headers "
            "of the image the mask belongs to"
        )
    return theirs or mask.geometry.frame_uid or derive_uid("frame", study_uid)


def _structure_set(
    dataset: Dataset,
    segments: Sequence[Segment],
    headers: Sequence[Dataset],
    names: tuple[str, str],
    created: datetime | None,
) -> None:
    frame_uid, label = names
    dataset.OperatorsName = ""
    dataset.StructureSetLabel = label
    date, time = content_time(headers, created) if created else ("", "")
    dataset.StructureSetDate, dataset.StructureSetTime = date, time
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.FrameOfReferenceUID = frame_uid
    dataset.PositionReferenceIndicator = ""
    series = Dataset()
    series.SeriesInstanceUID = headers[0].SeriesInstanceUID
    instances = {str(h.SOPInstanceUID): str(h.SOPClassUID) for h in headers}
    series.ContourImageSequence = [_reference(kind, uid, None) for uid, kind in instances.items()]
    study = Dataset()
    study.ReferencedSOPClassUID = _STUDY_COMPONENT
    study.ReferencedSOPInstanceUID = dataset.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = frame_uid
    frame.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence = []
    for segment in segments:
        roi = Dataset()
        roi.ROINumber = str(segment.number)
        roi.ReferencedFrameOfReferenceUID = frame_uid
        roi.ROIName = segment.label
        roi.ROIGenerationAlgorithm = segment.algorithm_type
        if segment.algorithm_name:
            roi.ROIGenerationDescription = segment.algorithm_name[:64]
        dataset.StructureSetROISequence.append(roi)


def _roi_contour(mask: Mask, segment: Segment, on_slice: dict[int, Plane], holes: str) -> Dataset:
    item = Dataset()
    item.ReferencedROINumber = str(segment.number)
    item.ROIDisplayColor = [str(v) for v in segment.colour]
    contours: list[Dataset] = []
    for k, points in _outlines(mask, segment.number, keyholes=holes == "keyhole"):
        contour = Dataset()
        contour.ContourNumber = str(len(contours) + 1)
        plane = on_slice.get(k)
        if plane is not None:
            contour.ContourImageSequence = [_reference(plane.sop_class_uid, plane.sop_instance_uid, plane.frame)]
        contour.ContourGeometricType = "CLOSED_PLANAR" if holes == "keyhole" else "CLOSEDPLANAR_XOR"
        contour.NumberOfContourPoints = str(len(points))
        # Raw bytes, written as they are: one object per number takes longer than the tracing itself.
        text = "\\".join(map("{:.5f}".format, points.ravel().tolist())).encode("ascii")
        text += b" " * (len(text) % 2)
        contour[_CONTOUR_DATA] = RawDataElement(_CONTOUR_DATA, "DS", len(text), text, 0, True, True)
        contour.set_original_encoding(True, True, "iso8859")
        contours.append(contour)
    if contours:
        item.ContourSequence = contours
    return item


def _outlines(mask: Mask, number: int, *, keyholes: bool) -> Iterator[tuple[int, Float[np.ndarray, "n 3"]]]:
    array = mask.segment_array(number)
    for k in np.flatnonzero(array.any(axis=(1, 2))).tolist():
        for outline in trace_outlines(array[k], keyholes=keyholes):
            yield k, mask.geometry.to_world(np.column_stack([np.full(len(outline), float(k)), outline]))


def _reference(sop_class_uid: str, sop_instance_uid: str, frame: int | None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    if frame is not None:
        item.ReferencedFrameNumber = str(frame)
    return item


def _observation(segment: Segment) -> Dataset:
    item = Dataset()
    item.ObservationNumber = str(segment.number)
    item.ReferencedROINumber = str(segment.number)
    item.ROIObservationLabel = segment.label[:_SHORT].strip()
    item.SegmentedPropertyCategoryCodeSequence = [_code(segment.category)]
    kind = _code(segment.type)
    if segment.laterality is not None:
        kind.SegmentedPropertyTypeModifierCodeSequence = [_code(segment.laterality)]
    item.RTROIIdentificationCodeSequence = [kind]
    item.RTROIInterpretedType = ""
    item.ROIInterpreter = ""
    return item


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return item
